"""The page with a real server: toyworld paints, on the CPU, in few steps."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sd2rt.runtime.metadata import read_metadata
from sd2rt.runtime.parameters import Parameters
from sd2rt.serve.order import Order
from sd2rt.serve.settings import ServeSettings
from sd2rt.serve.workers import LocalBackend
from tests.serve.conditions import WAIT_S, wait_until_watched
from tests.serve.page.conftest import Opener, expect
from tests.serve.page.servers import PageServer, serving

pytestmark = pytest.mark.browser
INPUTS = Path(__file__).parents[3] / "docs" / "inputs"
LARGE = {"steps": 150, "width": 128, "height": 128}
LONG = Order(model="toyworld", options={"prompt": "a cube", "images_per_prompt": 8, **LARGE})
SCENE = "a large red sphere on the left and a small blue cube on the right, gray floor"


@pytest.fixture(scope="module")
def toyworld() -> Iterator[PageServer]:
    settings = ServeSettings(target="cpu", threads=1)
    with serving(settings, LocalBackend(settings)) as running:
        yield running


def begin(page: Any, action: str, **fields: object) -> None:
    """Fill the form in."""
    page.locator(f"[name=action][value={action}]").check()
    for name, value in fields.items():
        page.fill(f"#{name}", str(value))


def paint(page: Any) -> Path:
    """Paint, and return the file that the picture's download gives."""
    page.click("#paint")
    return downloaded(page)


def downloaded(page: Any) -> Path:
    """Wait for the picture, and return the file that its download gives."""
    page.wait_for_selector("#result-buttons:visible")
    with page.expect_download() as download:
        page.click("#result-buttons button:has-text('Download')")
    return Path(download.value.path())


def record_of(file: Path) -> Parameters:
    """Return what a PNG file says of itself."""
    assert file.read_bytes()[:4] == b"\x89PNG"
    parameters = read_metadata(file).record
    assert parameters is not None
    return parameters


def pixels(file: Path) -> np.ndarray[Any, np.dtype[np.int16]]:
    return np.asarray(Image.open(file).convert("RGB")).astype(np.int16)


def test_type_generate_watch_and_download(opened: Opener, toyworld: PageServer) -> None:
    page = opened(toyworld.address)
    begin(page, "text", prompt=SCENE, seed=7, steps=8)
    asyncio.run_coroutine_threadsafe(toyworld.service.submit(LONG, "another"), toyworld.loop).result(WAIT_S)
    page.evaluate(
        """() => { window.seen = new Set(); new MutationObserver(() => {
            for (const image of document.querySelectorAll('#pictures .unfinished')) window.seen.add(image.src);
            window.title = document.title; window.said = document.querySelector('#progress-text').textContent;
        }).observe(document.body, {subtree: true, childList: true, attributes: true, characterData: true}); }"""
    )
    page.click("#paint")
    wait_until_watched(toyworld.service)  # who looks later sees fewer previews
    toyworld.call(lambda: toyworld.service.cancel_all("another"))
    file = downloaded(page)
    assert page.evaluate("window.seen.size") >= 3  # the preview changed
    assert re.match(r"Painting|Step \d of 8", page.evaluate("window.said"))  # steps that are too quick are not told
    record = record_of(file)
    assert (record.prompt, record.seed, record.steps) == (SCENE, 7, 8)
    assert "Seed 7" in page.inner_text("#caption")
    assert page.locator("#thumbs li").count() == 1


def test_cancel_stops_within_a_step(opened: Opener, toyworld: PageServer) -> None:
    page = opened(toyworld.address)
    begin(page, "text", prompt=SCENE, n=8, **LARGE)
    page.click("#paint")
    expect(page.locator("#progress-text")).to_contain_text("Step")
    page.keyboard.press("Escape")
    page.wait_for_selector("#paint:visible", timeout=10_000)  # all steps take longer
    assert page.locator("#thumbs li").count() == 0
    assert page.locator("#pictures .unfinished").count() == 0
    assert page.locator("#trouble:visible").count() == 0


def test_repainting_leaves_the_rest_as_it_was(opened: Opener, toyworld: PageServer) -> None:
    page = opened(toyworld.address)
    begin(page, "repaint", prompt="a large red sphere on the left and a small yellow cone on the right, gray floor", seed=7, steps=6)
    page.set_input_files("#picture-box input", INPUTS / "scene.png")
    page.fill("#brush-size", "50")
    canvas = page.locator("canvas.mask")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.4)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.6, steps=4)
    page.mouse.up()
    before, after = pixels(INPUTS / "scene.png"), pixels(paint(page))
    changed = np.abs(after - before).max(axis=2) > 0
    assert not changed[:, :32].any()  # the sphere's half was not brushed
    assert changed[22:42, 44:60].mean() > 0.5


def test_a_picture_is_painted_over(opened: Opener, toyworld: PageServer) -> None:
    page = opened(toyworld.address)
    begin(page, "image", prompt=SCENE, seed=3, steps=6, strength=0.5)
    page.set_input_files("#picture-box input", INPUTS / "scene.png")
    file = paint(page)
    record = record_of(file)
    assert (record.task, record.strength) == ("image-to-image", 0.5)
    assert record.image_sha256 is not None
    difference = np.abs(pixels(file) - pixels(INPUTS / "scene.png"))
    assert 0 < difference.mean() < 40


@pytest.mark.slow
def test_a_depth_map_is_painted(opened: Opener, toyworld: PageServer) -> None:
    page = opened(toyworld.address)
    begin(page, "depth", prompt="a large cyan cylinder on the left and a small orange sphere on the right, pink floor", steps=4)
    page.set_input_files("#depth-box input", INPUTS / "depth.png")
    record = record_of(paint(page))
    assert record.task == "depth-to-image"
    assert record.depth_sha256 is not None


@pytest.mark.slow
def test_a_finished_picture_is_upscaled(opened: Opener, toyworld: PageServer) -> None:
    page = opened(toyworld.address)
    begin(page, "text", prompt=SCENE, seed=7, steps=4)
    paint(page)
    page.click("#result-buttons button:has-text('Upscale')")
    page.wait_for_selector("#picture-box img:visible")
    assert page.input_value("#model") == "toyworld-upscaler"
    page.fill("#prompt", "")
    page.fill("#steps", "2")
    page.click("#paint")
    expect(page.locator("#thumbs li")).to_have_count(2)
    assert page.evaluate("document.querySelector('#pictures img').naturalWidth") == 256


@pytest.mark.slow
def test_several_pictures_have_seeds_that_follow(opened: Opener, toyworld: PageServer) -> None:
    page = opened(toyworld.address)
    begin(page, "text", prompt=SCENE, seed=40, steps=4, n=3)
    page.click("#paint")
    page.wait_for_selector("#pictures .framed")
    assert "Seeds 40, 41, 42" in page.inner_text("#caption")
    assert page.locator("#thumbs li").count() == 3
