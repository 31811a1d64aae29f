"""When a picture is cut, and that a cut picture is the whole one where the networks look at a neighbourhood."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime import load
from sd2rt.runtime.bundle import Bundle, read_bundle
from sd2rt.runtime.models import EMBEDDED, find_model
from sd2rt.runtime.tiles import Tiles, choose_tiles, run_in_tiles
from sd2rt.toyworld.scene import render, sample_scene
from tests.runtime.fakes import FakeEngine, fake_pipeline


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(find_model(EMBEDDED))


@pytest.mark.parametrize(
    ("task", "size", "asked", "tiles"),
    [
        ("text-to-image", (768, 768), None, Tiles()),
        ("text-to-image", (512, 1152), None, Tiles()),
        ("text-to-image", (776, 768), None, Tiles(vae=96)),
        ("upscaling", (512, 512), None, Tiles()),
        ("upscaling", (512, 520), None, Tiles(vae=64, unet=64)),
        ("upscaling", (2048, 2048), None, Tiles(vae=64, unet=64)),
        ("upscaling", (2048, 2048), 768, Tiles(vae=96, unet=96)),
        ("upscaling", (2048, 2048), 0, Tiles()),
        ("image-to-image", (128, 64), 64, Tiles(vae=8)),
        ("image-to-image", (64, 64), 64, Tiles()),
    ],
)
def test_only_large_pictures_are_cut(bundle: Bundle, task: str, size: tuple[int, int], asked: int | None, tiles: Tiles) -> None:
    assert choose_tiles(task, size, asked, bundle) == tiles


@pytest.mark.parametrize("asked", [1, 63])
def test_tiles_that_would_show_are_refused(bundle: Bundle, asked: int) -> None:
    with pytest.raises(InvalidArgument, match=f"tile: got {asked} pixels; expected at least 64, or 0 for no tiles"):
        choose_tiles("upscaling", (512, 512), asked, bundle)


def test_tiles_are_counted_in_latents_both_ways() -> None:
    """Pixels to latents and back, by functions of one cell."""
    pixels = np.random.default_rng(0).normal(size=(1, 1, 64, 96)).astype(np.float32)
    shapes = []

    def encode(part: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        shapes.append(part.shape[2:])
        return part[:, :, ::8, ::8]

    latents = run_in_tiles(encode, pixels, Fraction(1, 8), 4)
    assert set(shapes) == {(32, 32)}
    np.testing.assert_allclose(latents, pixels[:, :, ::8, ::8], atol=1e-6)
    decoded = run_in_tiles(lambda part: part.repeat(8, axis=2).repeat(8, axis=3), latents, 8, 4)
    np.testing.assert_allclose(decoded, latents.repeat(8, axis=2).repeat(8, axis=3), atol=1e-6)


def test_a_large_picture_is_decoded_in_tiles(tmp_path: Path) -> None:
    with fake_pipeline(tmp_path / "small") as pipe:
        decoder = pipe._painter.networks.open("vae_decoder")  # type: ignore[attr-defined]
        assert isinstance(decoder, FakeEngine)
        options: dict[str, Any] = {"steps": 2, "width": 144, "height": 128, "output": "numpy"}
        whole = pipe("a", **options).images
        assert [feeds["latent_sample"].shape[2:] for feeds in decoder.feeds] == [(16, 18)]
        decoder.feeds.clear()
        np.testing.assert_allclose(pipe("a", tile=64, **options).images, whole, atol=1e-6)
    assert {feeds["latent_sample"].shape[2:] for feeds in decoder.feeds} == {(8, 8)}


def test_the_upscaler_paints_in_tiles() -> None:
    pytest.importorskip("torch", reason="tiny models need the export extra")
    from tests.tiny import tiny_bundle

    picture = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    options: dict[str, Any] = {"image": picture, "steps": 3, "output": "numpy"}
    with load(tiny_bundle("upscale"), target="cpu") as pipe:
        whole = pipe("a", **options).images
        tiled = pipe("a", tile=128, **options).images
    assert whole.shape == tiled.shape == (1, 160, 192, 3)  # type: ignore[union-attr]
    assert np.square(whole - tiled).mean() < 0.1 * np.square(whole - whole.mean()).mean()  # type: ignore[operator, union-attr]


def test_a_picture_upscaled_in_tiles_is_the_one_upscaled_whole() -> None:
    """Gate of 40 dB; a mosaic of four scenes, 128 x 128 pixels to 512 x 512, in tiles of half and of a quarter of its side."""
    generator = np.random.default_rng(5)
    scenes = [render(sample_scene(generator), 64).image for _ in range(4)]
    mosaic = np.concatenate([np.concatenate(scenes[:2], axis=1), np.concatenate(scenes[2:], axis=1)])
    with load("toyworld-upscaler", target="cpu") as pipe:
        whole, *tiled = (pipe("", image=mosaic, tile=tile, output="numpy").images for tile in (0, 256, 128))
    assert whole.shape == (1, 512, 512, 3)  # type: ignore[union-attr]
    assert min(-10 * np.log10(np.square(part - whole).mean()) for part in tiled) >= 40  # type: ignore[operator]
