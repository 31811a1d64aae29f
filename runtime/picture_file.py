"""Finished pictures to files: PNG, JPEG or WebP by the name's suffix, with what `metadata` puts into them, whole or not at all."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sd2rt.engine.errors import InvalidArgument

if TYPE_CHECKING:
    from PIL.Image import Image

    from sd2rt.runtime.parameters import Parameters

Format = Literal["png", "jpeg", "webp"]
SUFFIXES: dict[Format, tuple[str, ...]] = {"png": (".png",), "jpeg": (".jpg", ".jpeg"), "webp": (".webp",)}
"""Of each format, the one to use first."""
DEFAULT_QUALITY = 90


def format_of(path: Path) -> Format | None:
    """Return the format that a name's suffix stands for; None for others."""
    return next((name for name, suffixes in SUFFIXES.items() if path.suffix.lower() in suffixes), None)


def check_destination(path: Path, *, force: bool = False, formats: tuple[Format, ...] = tuple(SUFFIXES)) -> None:
    """Raise InvalidArgument unless a picture can be written to `path`: call it before minutes of work, `save_picture` calls it again.

    Makes and removes an empty file beside it, since permission bits alone do not tell.
    """
    try:
        problem = _destination_problem(path, force, formats)
    except OSError as error:
        problem = f"{error.strerror}; name another one"
    if problem is not None:
        raise InvalidArgument(f"output file: got {str(path)[:200]}: {problem}")
    part = _part(path)
    try:
        part.touch(exist_ok=False)
        part.unlink()
    except OSError as error:
        raise InvalidArgument(
            f"output file: got {path}: no file can be written in {path.parent} ({error.strerror}); name another folder"
        ) from None


def _part(path: Path) -> Path:
    """Name the temporary file that becomes `path`: in the same folder, so that renaming is atomic."""
    return path.parent / f".sd2rt-{os.urandom(8).hex()}.tmp"


def _destination_problem(path: Path, force: bool, formats: tuple[Format, ...]) -> str | None:
    if format_of(path) not in formats:
        return f"expected a name that ends in {' or '.join(suffix for name in formats for suffix in SUFFIXES[name])}"
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}; make it first"
    if path.is_dir():
        return "it is a folder; name a file in it"
    if path.exists() and not force:
        return "it exists; name another one, or overwrite it with --force (force=True)"
    return None


def encode_picture(
    image: Image,
    name: Format,
    parameters: Parameters | None,
    *,
    quality: int = DEFAULT_QUALITY,
    more: Mapping[str, Any] | None = None,
) -> bytes:
    """Return a picture as a file of a format, with its parameters if any; `quality` (1 to 100) is that of JPEG and WebP.

    `more` goes to Pillow where there are no parameters. Raises InvalidArgument when the parameters are longer than a JPEG holds, and
    OSError or ValueError for a picture that the format cannot hold.
    """
    from sd2rt.runtime.metadata import embed

    options = dict(more or {}) if parameters is None else embed(parameters, name, quality)
    stream = io.BytesIO()
    image.save(stream, name.upper(), **options, **({} if name == "png" else {"quality": quality}))
    return stream.getvalue()


def save_picture(
    image: Image,
    path: Path,
    parameters: Parameters | None,
    *,
    force: bool = False,
    quality: int = DEFAULT_QUALITY,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write a picture as `encode_picture` makes it, whole or not at all.

    Raises InvalidArgument when `path` cannot be written, and as `encode_picture` does.
    """
    check_destination(path, force=force)
    name = format_of(path)
    assert name is not None  # checked
    part = _part(path)
    try:
        content = encode_picture(image, name, parameters, quality=quality, more=more)
        with part.open("xb") as stream:
            stream.write(content)
        if force:
            part.replace(path)
        else:
            _name_new(part, path)
    except OSError as error:
        raise InvalidArgument(f"output file: got {path}: it cannot be written ({error.strerror or error}); name another one") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _name_new(part: Path, path: Path) -> None:
    """Give a finished file its name unless somebody took it meanwhile, which a rename would not notice."""
    try:
        path.hardlink_to(part)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        part.replace(path)
