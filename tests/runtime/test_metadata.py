"""Parameters in files and back: through our own reader, and through the library `sd-parsers`, a reader that we did not write."""

import contextlib
import io
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin
from sd_parsers import ParserManager
from sd_parsers.data import Generators

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.a1111 import WEB_UI_SOLVERS, web_ui_text
from sd2rt.runtime.metadata import EXIF_IFD, MOST_LENGTH, UNICODE, USER_COMMENT, TextTooLong, read_metadata, read_texts
from sd2rt.runtime.parameters import Parameters, json_text
from sd2rt.runtime.picture_file import save_picture
from tests.runtime.records import PARAMETERS

PICTURE = Image.new("RGB", (16, 8), (250, 10, 10))
SUFFIXES = (".png", ".jpg", ".webp")
PIECES = (
    "a red cube",
    "Steps: 3",
    "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1",
    "Negative prompt:",
    "\n",
    "\nNegative prompt: inside",
    "\r\n",
    ", ",
    ": ",
    '"quoted"',
    "'",
    "\\",
    "(word:1.3)",
    "<lora:x:1>",
    "&amp; </sd2rt:parameters> ]]>",
    " ",
    "\t",
    "Würfel",
    "日本語",
    "🟥",
    "\x7f\x85\u2028\ufeff\ufffe\uffff",
    "\x01",
    "{}",
)


def random_text(source: random.Random) -> str:
    return "".join(source.choice(PIECES) for _ in range(source.randrange(9)))


def random_parameters(number: int) -> Parameters:
    """Draw a record, with every field of its own values."""
    source = random.Random(number)
    varied = source.random() < 0.5
    solver = source.choice(list(WEB_UI_SOLVERS))
    return Parameters(
        prompt=random_text(source),
        negative_prompt=random_text(source),
        steps=source.randint(1, 1000),
        sampler=solver,
        sigmas="" if solver in ("ddim", "ddpm", "pndm", "lcm") else source.choice(["", "karras", "exponential"]),
        guidance_scale=source.choice([7.0, 1.0, source.uniform(-5, 30)]),
        guidance_rescale=source.choice([0.0, source.random()]),
        seed=source.randrange(1 << 63),
        width=8 * source.randint(1, 300),
        height=8 * source.randint(1, 300),
        model=source.choice(["toyworld", "v2.1 (768)", random_text(source)]),
        bundle_sha256=f"{source.getrandbits(256):064x}",
        target=source.choice(["cpu", "openvino", "tensorrt-rtx"]),
        guidance_interval=(0.0, source.choice([1.0, source.random()])),
        rng=source.choice(["torch", "nv"]),
        variation_seed=source.randrange(1 << 63) if varied else None,
        variation_strength=source.random() if varied else 0.0,
        strength=source.choice([None, source.random()]),
        expand=source.choice([None, (1, 2, 3, 4)]),
        upscaler=source.choice([None, replace(PARAMETERS, prompt=random_text(source))]),
    )


@pytest.fixture(params=SUFFIXES)
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_random_parameters_come_back_through_our_reader(tmp_path: Path, suffix: str) -> None:
    for number in range(200):
        path, parameters = tmp_path / f"{number}{suffix}", random_parameters(number)
        save_picture(PICTURE, path, parameters, quality=77)
        found = read_metadata(path)
        assert found.notes == ()
        assert found.record == replace(parameters, quality=None if suffix == ".png" else 77), number


def test_random_parameters_are_read_by_sd_parsers(tmp_path: Path, suffix: str) -> None:
    """It strips blanks around prompts; `test_what_sd_parsers_cannot_represent` has the rest."""
    manager, alive = ParserManager(), []  # it remembers a comment by the id of an open image, which the next one may have
    for number in range(200):
        path, parameters = tmp_path / f"{number}{suffix}", replace(random_parameters(number), model="v2.1 (768)")
        save_picture(PICTURE, path, parameters)
        if web_ui_text(parameters).count("Negative prompt:") > 1:
            continue
        alive.append(Image.open(path))
        info = manager.parse(alive[-1])
        assert info is not None
        assert info.generator is Generators.AUTOMATIC1111
        (sampler,) = info.samplers
        said = {"steps": str(parameters.steps), "seed": str(parameters.seed), "cfg_scale": f"{parameters.guidance_scale:g}"}
        scheduler = {"scheduler": parameters.sigmas.capitalize()} if parameters.sigmas else {}
        assert (sampler.name, sampler.parameters) == (WEB_UI_SOLVERS[parameters.sampler], said | scheduler), number
        assert info.metadata["Size"] == f"{parameters.width}x{parameters.height}"
        assert info.metadata["RNG"] == {"torch": "CPU", "nv": "NV"}[parameters.rng]
        assert sampler.model is not None
        assert (sampler.model.name, sampler.model.hash) == (parameters.model, parameters.bundle_sha256[:10])
        if "Negative prompt:" not in parameters.prompt:
            assert (info.full_prompt, info.full_negative_prompt) == (parameters.prompt.strip(), parameters.negative_prompt.strip())


def test_what_sd_parsers_cannot_represent(tmp_path: Path) -> None:
    """All of it is in the file: it comes back through our reader."""
    twice = replace(PARAMETERS, prompt="one\nNegative prompt: two", negative_prompt="three")
    save_picture(PICTURE, tmp_path / "b.png", twice)
    with pytest.raises(ValueError, match="too many values to unpack"):  # an error of its own, at the second "Negative prompt:"
        ParserManager().parse(tmp_path / "b.png")
    assert read_metadata(tmp_path / "b.png").record == twice
    hard = replace(PARAMETERS, prompt=" one, Negative prompt: two ", negative_prompt="", model="a, b: c")
    save_picture(PICTURE, tmp_path / "a.png", hard)
    info = ParserManager().parse(tmp_path / "a.png")
    assert info is not None
    assert (info.full_prompt, info.full_negative_prompt) == ("one,", "two")
    assert info.samplers[0].model is not None
    assert info.samplers[0].model.name == '"a'
    assert read_metadata(tmp_path / "a.png").record == hard


def test_the_web_ui_reads_its_own_comment(tmp_path: Path, suffix: str) -> None:
    """As piexif, with which the web UI reads, finds it: eight bytes, then UTF-16 with the big end first."""
    save_picture(PICTURE, tmp_path / f"a{suffix}", replace(PARAMETERS, prompt="Würfel 🟥"))
    with Image.open(tmp_path / f"a{suffix}") as image:
        if suffix == ".png":
            assert image.info["parameters"].startswith("Würfel 🟥\nNegative prompt: blurry, dark\nSteps: 20, ")
            return
        comment = image.getexif().get_ifd(EXIF_IFD)[USER_COMMENT]
    assert comment[:8] == UNICODE
    assert comment[8:].decode("utf_16_be").startswith("Würfel 🟥\nNegative prompt: blurry, dark\nSteps: 20, ")


def test_the_packet_is_sound_xml(tmp_path: Path) -> None:
    from xml.etree import ElementTree

    parameters = replace(PARAMETERS, prompt="".join(PIECES))
    save_picture(PICTURE, tmp_path / "a.webp", parameters)
    with Image.open(tmp_path / "a.webp") as image:
        root = ElementTree.fromstring(image.info["xmp"].decode())
    record = json.loads(root.findtext(".//{urn:sd2rt:parameters:1}parameters") or "")
    assert record["prompt"] == parameters.prompt


@pytest.mark.parametrize("quote", ['"', "'"])
def test_a_packet_that_another_program_wrote_anew(tmp_path: Path, quote: str) -> None:
    from xml.sax.saxutils import quoteattr

    attribute = quoteattr(json_text(replace(PARAMETERS, prompt='"a" & b')), {"'": "&apos;"})
    attribute = attribute if attribute[0] == quote else quote + attribute[1:-1].replace('"', "&quot;") + quote
    packet = f"<rdf:Description xmlns:sd2rt='urn:sd2rt:parameters:1' sd2rt:parameters={attribute}/>".encode()
    PICTURE.save(tmp_path / "a.jpg", xmp=packet)
    found = read_metadata(tmp_path / "a.jpg").record
    assert found is not None
    assert found.prompt == '"a" & b'


def with_comment(comment: bytes | str) -> dict[str, Any]:
    exif = Image.Exif()
    exif.get_ifd(EXIF_IFD)[USER_COMMENT] = comment
    return {"exif": exif}


TEXT = "a Würfel\nSteps: 20, Sampler: Euler a, Seed: 3"


@pytest.mark.parametrize(
    "comment",
    [
        UNICODE + TEXT.encode("utf_16_be"),
        UNICODE + TEXT.encode("utf_16_le"),
        UNICODE + b"\xff\xfe" + TEXT.encode("utf_16_le"),
        b"\0" * 8 + TEXT.encode(),
        b"ASCII\0\0\0" + TEXT.encode(),
        TEXT.encode(),
        TEXT.encode() + b"\0\0",
    ],
)
def test_comments_of_every_kind(tmp_path: Path, comment: bytes) -> None:
    PICTURE.save(tmp_path / "a.jpg", **with_comment(comment))
    found = read_metadata(tmp_path / "a.jpg").web_ui
    assert found is not None
    assert (found.prompt, found.pairs["Seed"]) == ("a Würfel", "3")


def test_a_comment_of_text(tmp_path: Path) -> None:
    text = TEXT.replace("ü", "u")
    PICTURE.save(tmp_path / "a.jpg", **with_comment(text))
    found = read_metadata(tmp_path / "a.jpg").web_ui
    assert found is not None
    assert found.prompt == "a Wurfel"


@pytest.mark.parametrize(
    "given",
    [
        {"comment": b"ASCII\0\0\0" + b"x\n" + b"a" * MOST_LENGTH},
        {"comment": UNICODE + b"\xd8\x00" * MOST_LENGTH},
        {"comment": "x\n" + "a" * MOST_LENGTH},
        {"xmp": b"<sd2rt:parameters>" + b"&#33;" * MOST_LENGTH},
    ],
)
def test_texts_of_any_length_are_not_read(tmp_path: Path, given: dict[str, Any]) -> None:
    comment = given.pop("comment", None)
    PICTURE.save(tmp_path / "a.webp", **given, **({} if comment is None else with_comment(comment)))
    with pytest.raises(TextTooLong, match=r"a\.webp: got a text of [1-9][\d,]* (bytes|characters) .*; expected at most 1,048,576"):
        read_texts(tmp_path / "a.webp", "a.webp")
    with pytest.raises(InvalidArgument, match="expected at most 1,048,576"):
        read_metadata(tmp_path / "a.webp")


def test_chunks_after_the_pixels_are_read(tmp_path: Path) -> None:
    stream = io.BytesIO()
    PICTURE.save(stream, "PNG")
    content = stream.getvalue()
    late = io.BytesIO()
    PngImagePlugin.putchunk(late, b"tEXt", b"parameters\0" + TEXT.encode("latin-1"))
    end = content.rindex(b"IEND") - 4
    (tmp_path / "a.png").write_bytes(content[:end] + late.getvalue() + content[end:])
    assert read_metadata(tmp_path / "a.png").web_ui is not None


def test_a_jpeg_turned_into_a_png_keeps_its_record(tmp_path: Path) -> None:
    save_picture(PICTURE, tmp_path / "a.jpg", PARAMETERS)
    with Image.open(tmp_path / "a.jpg") as image:
        chunks = PngImagePlugin.PngInfo()
        chunks.add_itxt("XML:com.adobe.xmp", image.info["xmp"].decode())
        image.save(tmp_path / "a.png", pnginfo=chunks)
        image.save(tmp_path / "b.png", exif=image.getexif())
    assert read_metadata(tmp_path / "a.png").record == replace(PARAMETERS, quality=90)
    text = read_metadata(tmp_path / "b.png").web_ui
    assert text is not None
    assert text.pairs["Seed"] == "7"


def test_a_damaged_record_leaves_the_text(tmp_path: Path) -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("parameters", web_ui_text(PARAMETERS))
    chunks.add_text("sd2rt", "{")
    PICTURE.save(tmp_path / "a.png", pnginfo=chunks)
    found = read_metadata(tmp_path / "a.png")
    assert found.record is None
    assert found.web_ui is not None
    assert found.web_ui.pairs["Seed"] == "7"
    assert "record is damaged" in found.notes[0]
    assert found.notes[0].endswith("; read its text instead")


def test_a_damaged_record_beside_a_text_by_others_leaves_that(tmp_path: Path) -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("parameters", "a cube\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 7, Size: 64x64, Version: v1.9.4")
    chunks.add_text("sd2rt", "{")
    PICTURE.save(tmp_path / "a.png", pnginfo=chunks)
    assert read_metadata(tmp_path / "a.png").notes[0].endswith("; read the web UI's text instead")


def test_a_record_of_a_newer_version(tmp_path: Path) -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("sd2rt", json_text(PARAMETERS).replace("{", '{"frames": 3, ', 1))
    PICTURE.save(tmp_path / "a.png", pnginfo=chunks)
    found = read_metadata(tmp_path / "a.png")
    assert (found.record, found.notes) == (PARAMETERS, ("frames: not known to this version of sd2rt",))


def damaged_alone() -> bytes:
    chunks, stream = PngImagePlugin.PngInfo(), io.BytesIO()
    chunks.add_text("sd2rt", "{")
    PICTURE.save(stream, "PNG", pnginfo=chunks)
    return stream.getvalue()


def encoded(name: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    PICTURE.save(stream, name, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (encoded("PNG"), "got a picture with no parameters; expected one that sd2rt, the web UI or a program like it wrote"),
        (encoded("JPEG"), "got a picture with no parameters"),
        (encoded("WEBP"), "got a picture with no parameters"),
        (encoded("WEBP", xmp=b"<x/>"), "got a picture with no parameters"),
        (encoded("JPEG", **with_comment(b"a cat")), "got a picture with a text without parameters ('a cat')"),
        (encoded("JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), "a.file"),
        (encoded("GIF"), "cannot read it"),
        (encoded("PNG")[:50], "cannot read it"),
        (b"", "cannot read it"),
        (b"text", "cannot read it"),
        (damaged_alone(), "record is damaged"),
    ],
)
def test_files_that_say_nothing_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.file").write_bytes(content)
    with pytest.raises(InvalidArgument) as caught:
        read_metadata(tmp_path / "a.file")
    assert words in str(caught.value)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.png", tmp_path):
        with pytest.raises(InvalidArgument, match=r"cannot open it .*expected a picture file"):
            read_metadata(path)


def test_a_huge_png_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (15_000, 10_000)).save(tmp_path / "a.png")
    with pytest.raises(InvalidArgument, match="expected at least 1 and at most 100,000,000 pixels"):
        read_metadata(tmp_path / "a.png")


def test_prompts_that_a_jpeg_cannot_hold(tmp_path: Path) -> None:
    long = replace(PARAMETERS, prompt="🟥" * 8192, negative_prompt="🟥" * 8192)
    with pytest.raises(InvalidArgument, match=r"too long for a JPEG's metadata.*choose --format png or webp, or --no-metadata"):
        save_picture(PICTURE, tmp_path / "a.jpg", long)
    assert list(tmp_path.iterdir()) == []
    for name in ("a.png", "a.webp"):
        save_picture(PICTURE, tmp_path / name, long)
        assert read_metadata(tmp_path / name).record is not None
    fits = replace(PARAMETERS, prompt="🟥" * 8192, negative_prompt="日本" * 4000)
    save_picture(PICTURE, tmp_path / "a.jpg", fits)
    found = read_metadata(tmp_path / "a.jpg").record
    assert found is not None
    assert found.negative_prompt == fits.negative_prompt


def test_what_just_fits_into_a_jpeg_is_written(tmp_path: Path) -> None:
    """The limit leaves room for what stands around the comment: no error comes from Pillow."""
    written = []
    for characters in range(32_000, 32_800, 40):
        path = tmp_path / f"{characters}.jpg"
        with contextlib.suppress(InvalidArgument):
            save_picture(PICTURE, path, replace(PARAMETERS, prompt="x" * characters))
            written.append(characters)
    assert 32_000 in written
    assert 32_760 not in written
    assert read_metadata(tmp_path / f"{max(written)}.jpg").record is not None
