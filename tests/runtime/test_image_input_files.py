"""Files of every kind to pictures: formats, modes, orientation, transparency; damaged and huge ones in one line."""

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.image_input import FORMATS, read_image
from sd2rt.runtime.mask import read_mask

FILES = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "TIFF": "tif", "BMP": "bmp", "GIF": "gif", "AVIF": "avif", "PPM": "ppm"}
RAMP = np.linspace(0, 255, 24 * 16).reshape(16, 24).astype(np.uint8)


def _photo() -> Image.Image:
    """A smooth picture, 24 wide and 16 high: red grows to the right, green downward."""
    rows, columns = np.mgrid[0:16, 0:24]
    return Image.fromarray(np.stack([columns * 10, rows * 16, np.full_like(rows, 80)], axis=2).astype(np.uint8))


def _save(folder: Path, image: Image.Image, name: str = "a.png", **options: Any) -> Path:
    image.save(folder / name, **options)
    return folder / name


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read(tmp_path: Path, kind: str) -> None:
    if Image.registered_extensions().get(f".{FILES[kind]}") != kind:
        pytest.skip(f"this Pillow was built without {kind}")
    picture = read_image("image", _save(tmp_path, _photo(), f"a.{FILES[kind]}"))
    assert (picture.shape, picture.dtype) == ((16, 24, 3), np.uint8)
    loss = np.abs(picture.astype(int) - np.asarray(_photo())).mean()
    assert loss <= {"JPEG": 4, "WEBP": 4, "AVIF": 4, "GIF": 8}.get(kind, 0)


def test_paths_may_be_text_and_need_no_right_ending(tmp_path: Path) -> None:
    path = _save(tmp_path, _photo(), "a.webp", format="PNG")
    np.testing.assert_array_equal(read_image("image", str(path)), np.asarray(_photo()))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "RGBX", "LA", "RGBA", "RGBa"])
def test_modes_without_anything_transparent_become_rgb(mode: str) -> None:
    image = _photo().convert("RGBA").convert(mode) if mode == "RGBa" else _photo().convert(mode)
    expected = np.asarray(
        _photo().convert(mode if mode in ("1", "P", "CMYK", "YCbCr", "HSV") else "L" if "L" in mode else "RGB").convert("RGB")
    )
    np.testing.assert_array_equal(read_image("image", image), expected)


@pytest.mark.parametrize(("name", "mode", "loss"), [("a.jpg", "CMYK", 8), ("a.tif", "CMYK", 1), ("a.jpg", "L", 4), ("a.png", "1", 0)])
def test_modes_in_files(tmp_path: Path, name: str, mode: str, loss: int) -> None:
    image = _photo().convert(mode)
    picture = read_image("image", _save(tmp_path, image, name))
    assert np.abs(picture.astype(int) - np.asarray(image.convert("RGB"))).mean() <= loss


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    colours = np.array([[[255, 0, 0, 0], [255, 0, 0, 255], [0, 0, 0, 51]]], np.uint8)
    expected = [[[255, 255, 255], [255, 0, 0], [204, 204, 204]]]
    assert read_image("image", _save(tmp_path, Image.fromarray(colours))).tolist() == expected
    assert read_image("image", Image.fromarray(colours)).tolist() == expected
    grays = Image.fromarray(np.array([[[0, 0], [0, 255], [100, 255]]], np.uint8), "LA")
    assert read_image("image", _save(tmp_path, grays))[:, :, 0].tolist() == [[255, 0, 100]]


def test_palette_with_transparency_lies_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    for name in ("a.png", "a.gif"):
        path = _save(tmp_path, image, name, transparency=0)
        assert read_image("image", path).tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_transparent_gray_of_a_png_lies_on_white(tmp_path: Path) -> None:
    path = _save(tmp_path, Image.fromarray(np.array([[10, 20]], np.uint8)), transparency=10)
    assert read_image("image", path)[0, :, 0].tolist() == [255, 20]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.ppm"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, name: str) -> None:
    grays = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    picture = read_image("image", _save(tmp_path, Image.fromarray(grays), name))
    assert picture[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]
    assert (picture == picture[:, :, :1]).all()


def test_grays_of_32_bits(tmp_path: Path) -> None:
    assert read_image("image", Image.fromarray(np.array([[0, 65535]], np.int32)))[0, :, 0].tolist() == [0, 255]
    assert read_image("image", _save(tmp_path, Image.fromarray(np.array([[0, 0.2, 1]], np.float32)), "a.tif"))[0, :, 0].tolist() == [
        0,
        51,
        255,
    ]
    with pytest.raises(InvalidArgument, match=r"image: got 32-bit grays from 0 to 65536; expected 8 or 16 bits"):
        read_image("image", Image.fromarray(np.array([[0, 65536]], np.int32)))
    with pytest.raises(InvalidArgument, match="image: got floats from 0 to 2; expected finite ones from 0 to 1"):
        read_image("image", Image.fromarray(np.array([[0, 2]], np.float32)))


def test_modes_without_a_way_to_rgb_are_refused() -> None:
    image = Image.new("LA", (2, 2)).convert("La")
    for read in (read_image, read_mask):
        with pytest.raises(InvalidArgument, match=r"image: got an image in mode La \(.*\); convert it to RGB or RGBA first"):
            read("image", image)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize(("orientation", "top_left"), [(1, (0, 0)), (3, (15, 23)), (6, (15, 0)), (8, (0, 23)), (2, (0, 23)), (5, (0, 0))])
def test_orientation_is_applied(tmp_path: Path, name: str, orientation: int, top_left: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    picture = read_image("image", _save(tmp_path, _photo(), name, exif=exif))
    assert picture.shape == ((24, 16, 3) if orientation >= 5 else (16, 24, 3))
    assert np.abs(picture[0, 0].astype(int) - np.asarray(_photo())[top_left]).max() < 24


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_the_first_frame_counts(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    path = _save(tmp_path, frames[0], name, save_all=True, append_images=frames[1:])
    assert read_image("image", path)[0, 0].tolist() == pytest.approx([255, 0, 0], abs=3)


@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "bmp", "tif", "webp"])
def test_one_pixel(tmp_path: Path, kind: str) -> None:
    assert read_image("image", _save(tmp_path, Image.new("RGB", (1, 1), "white"), f"a.{kind}")).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none.png", r"image: cannot open .*none\.png \(No such file or directory\); expected an image file"),
        (".", r"image: cannot open .* \(Is a directory\); expected an image file"),
        ("text.png/more.png", r"image: cannot open .* \(Not a directory\)"),
        ("text.png", r"image: cannot read .*text\.png \(cannot identify image file .*\); expected an image: PNG, JPEG"),
        ("empty.png", r"image: cannot read .*empty\.png \(cannot identify"),
        ("\0.png", r"image: cannot read .* \(embedded null byte\)"),
        ("script.eps", r"image: cannot read .*script\.eps \(cannot identify"),
    ],
)
def test_files_that_are_no_images_are_refused(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "text.png").write_text("a red cube")
    (tmp_path / "empty.png").touch()
    (tmp_path / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(InvalidArgument, match=message) as caught:
        read_image("image", tmp_path / path)
    assert "\n" not in str(caught.value)


def _error_of(path: Path) -> str | None:
    """Read a file that may be damaged; warnings are errors."""
    try:
        with warnings.catch_warnings(action="error"):
            return None if read_image("image", path).shape[2] == 3 else "another shape"
    except InvalidArgument as error:
        return str(error)


@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "tif", "webp", "bmp", "avif"])
def test_damaged_files_are_refused_in_one_line_or_read(tmp_path: Path, kind: str) -> None:
    if f".{kind}" not in Image.registered_extensions():
        pytest.skip(f"this Pillow was built without {kind}")
    buffer = io.BytesIO()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    noise.save(buffer, {"jpg": "JPEG", "tif": "TIFF"}.get(kind, kind))
    whole, path, rng, refused = buffer.getvalue(), tmp_path / "a.image", np.random.default_rng(1), 0
    for attempt in range(60):
        data = bytearray(whole)
        if attempt < 20:
            data = data[: len(data) * attempt // 20]
        else:
            for place in rng.integers(0, min(len(data), 200 if attempt % 2 else len(data)), 4):
                data[place] = rng.integers(256)
        path.write_bytes(data)
        error = _error_of(path)
        refused += error is not None
        assert error or attempt >= 20  # no truncated file is read
        assert "\n" not in (error or "")
    assert refused >= 20
    if kind == "avif":  # what libavif reports is a RuntimeError
        path.write_bytes(whole.replace(b"iinf", b"iinx"))
        assert "cannot read" in (_error_of(path) or "")


def _png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + struct.pack(">I", 0) + b"IDAT"


@pytest.mark.parametrize(
    ("width", "height", "message"),
    [
        (10_000, 10_001, r"image: got 10,000 x 10,001 pixels \(width x height\); .* at most 100,000,000 pixels; scale it down first"),
        (100_000, 100_000, "image: cannot read .*exceeds limit"),
        (10_000, 10_000, "image: cannot read .*truncated"),  # not too large: refused for what is missing
    ],
)
def test_large_files_are_refused_by_their_header(tmp_path: Path, width: int, height: int, message: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(_png_header(width, height))
    with warnings.catch_warnings(action="error"), pytest.raises(InvalidArgument, match=message):
        read_image("image", path)
