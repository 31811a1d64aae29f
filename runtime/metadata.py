"""Parameters inside picture files: the web UI's `parameters` text, and our own JSON, which holds everything.

PNG has a text chunk for each, `parameters` and `sd2rt`. JPEG and WebP carry the text as EXIF UserComment, as the web UI writes it, and the
JSON in an XMP packet. Knows the files' formats; what the two texts say is for `a1111` and `parameters`.
"""

from __future__ import annotations

import html
import json
import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from sd2rt.engine.errors import InvalidArgument, first_line
from sd2rt.runtime.a1111 import WebUiText, read_web_ui_text, web_ui_text
from sd2rt.runtime.parameters import Parameters, json_text, read_json

if TYPE_CHECKING:
    from PIL.Image import Image

    from sd2rt.runtime.picture_file import Format

FORMATS = ("PNG", "JPEG", "WEBP")
EXIF_IFD, USER_COMMENT = 0x8769, 0x9286
UNICODE = b"UNICODE\0"  # the eight bytes that EXIF puts before a comment in UTF-16
MOST_LENGTH = 1_048_576  # of a text that is read, in bytes, or characters where it is decoded; Pillow reads no longer one of a PNG
MOST_JPEG_BYTES = 65_400  # of a marker's 65,533, less what stands around the text in it
NAMESPACE, XMP_NAME = "urn:sd2rt:parameters:1", "sd2rt:parameters"
_NOT_IN_XML = re.compile("[<>&\x7f-\x9f\ufffe\uffff]")  # JSON can say all of them in other words


class TextTooLong(InvalidArgument):
    """A file holds a longer text than is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What a picture file says of how it was made: our own record, or else the web UI's text. `notes` say what is wrong with the record."""

    record: Parameters | None = None
    web_ui: WebUiText | None = None
    notes: tuple[str, ...] = ()


def embed(parameters: Parameters, name: Format, quality: int) -> dict[str, Any]:
    """Return what `PIL.Image.Image.save` takes to put parameters into a file of a format; `quality` is recorded where it counts.

    Raises InvalidArgument when they are longer than a JPEG can hold, which long prompts alone can make them.
    """
    if name == "png":
        from PIL.PngImagePlugin import PngInfo

        chunks = PngInfo()
        chunks.add_text("parameters", web_ui_text(parameters))
        chunks.add_text("sd2rt", json_text(parameters))
        return {"pnginfo": chunks}
    from PIL.Image import Exif

    comment = UNICODE + web_ui_text(parameters).encode("utf_16_be")
    xmp = _write_xmp(replace(parameters, quality=quality))
    longest = max(len(comment), len(xmp))
    if name == "jpeg" and longest > MOST_JPEG_BYTES:
        what = f"prompts too long for a JPEG's metadata: got {longest:,} bytes of it; expected at most {MOST_JPEG_BYTES:,}"
        raise InvalidArgument(f"{what}: choose --format png or webp, or --no-metadata")
    exif = Exif()
    exif.get_ifd(EXIF_IFD)[USER_COMMENT] = comment
    return {"exif": exif, "xmp": xmp}


def _write_xmp(parameters: Parameters) -> bytes:
    """Wrap the record into an XMP packet, UTF-8. It has no character that XML would have to escape."""
    record = json.dumps(json.loads(json_text(parameters)), ensure_ascii=False)
    plain = _NOT_IN_XML.sub(lambda match: f"\\u{ord(match[0]):04x}", record)
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:sd2rt="{NAMESPACE}"><{XMP_NAME}>{plain}</{XMP_NAME}></rdf:Description>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()


def read_metadata(path: str | Path) -> Metadata:
    """Read what a PNG, JPEG or WebP file says of how it was made: our own record if it has a sound one, else the web UI's text.

    Raises InvalidArgument for what is no such file or damaged, and for a picture that says nothing.
    """
    ours, text = read_texts(path, str(path))
    web_ui = None if text is None else read_web_ui_text(text)
    notes: tuple[str, ...] = ()
    if ours is not None:
        try:
            record, unknown = read_json(ours)
        except InvalidArgument as error:
            if text is None:
                raise
            whose = "its" if web_ui is not None and web_ui.ours else "the web UI's"
            notes = (f"{error}; read {whose} text instead",)
        else:
            return Metadata(record=record, notes=tuple(f"{name}: not known to this version of sd2rt" for name in unknown))
    if web_ui is None:
        what = "no parameters" if text is None else f"a text without parameters ({text.strip()[:60]!r})"
        raise InvalidArgument(f"{path}: got a picture with {what}; expected one that sd2rt, the web UI or a program like it wrote")
    return Metadata(web_ui=web_ui, notes=notes)


def read_texts(source: str | Path | BinaryIO, name: str) -> tuple[str | None, str | None]:
    """Return the two texts of a file, or of a stream, our JSON and the web UI's; `name` is what messages call it.

    Raises InvalidArgument as read_metadata, but not for a picture that says nothing; TextTooLong for one that says too much.
    """
    from PIL import Image

    from sd2rt.runtime.image_input import DAMAGE, check_size

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(source, formats=FORMATS) as image:
            if image.format == "PNG":
                check_size(name, image.size)
                image.load()  # chunks may follow the pixels
            return _chunk(image, "sd2rt") or _read_xmp(image), _chunk(image, "parameters") or _read_comment(image)
    except TextTooLong as error:
        raise TextTooLong(f"{name}: {error}") from None
    except InvalidArgument:
        raise
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise InvalidArgument(f"{name}: cannot open it ({error.strerror}); expected a picture file") from None
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise InvalidArgument(f"{name}: cannot read it ({first_line(error)}); expected a picture: {', '.join(FORMATS)}") from None


def _chunk(image: Image, name: str) -> str | None:
    """Return a text chunk, which PNG alone has; programs that turn JPEG into PNG may take EXIF and XMP along instead."""
    value = image.info.get(name)
    if not isinstance(value, str):
        return None
    _check_length(value)
    return str(value)


def _check_length(text: str | bytes) -> None:
    """Raise TextTooLong for a text of too many characters or, before it is decoded, bytes."""
    if len(text) > MOST_LENGTH:
        unit = "characters" if isinstance(text, str) else "bytes"
        raise TextTooLong(f"got a text of {len(text):,} {unit} that says how it was made; expected at most {MOST_LENGTH:,}")


def _read_xmp(image: Image) -> str | None:
    """Return our record from an XMP packet: an element, or an attribute where another program wrote the packet anew."""
    packet = image.info.get("xmp")
    text = packet if isinstance(packet, bytes) else b""
    for begin, end in ((f"<{XMP_NAME}>", f"</{XMP_NAME}>"), (f'{XMP_NAME}="', '"'), (f"{XMP_NAME}='", "'")):
        _, found, rest = text.partition(begin.encode())
        if found:
            record = rest.partition(end.encode())[0]
            _check_length(record)
            return html.unescape(record.decode("utf-8", "replace"))
    return None


def _read_comment(image: Image) -> str | None:
    """Return the EXIF UserComment. UTF-16 is big-endian unless the first characters tell otherwise; other programs write ASCII or UTF-8."""
    comment = image.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT)
    if not isinstance(comment, str | bytes):
        return None
    _check_length(comment)
    if isinstance(comment, str):
        return comment
    head, body = comment[:8], comment[8:]
    if head == UNICODE:
        little = body[:2] == b"\xff\xfe" or body[1::2].count(0) > body[::2].count(0)
        return body.decode("utf_16_le" if little else "utf_16_be", "replace").removeprefix("\ufeff")
    known = head in (b"ASCII\0\0\0", b"\0" * 8)
    return (body if known else comment).decode("utf-8", "replace").strip("\0")
