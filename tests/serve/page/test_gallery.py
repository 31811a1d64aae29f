"""Pictures that stay: the gallery, the viewer, settings over a reload."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.serve.page.conftest import Opener, expect
from tests.serve.page.servers import PageServer

pytestmark = pytest.mark.browser

KEEP = """(count) => new Promise((resolve) => {
    const request = indexedDB.open("sd2rt", 1);
    request.onsuccess = () => {
        const transaction = request.result.transaction("pictures", "readwrite");
        for (let seed = 0; seed < count; seed += 1) {
            const parameters = {prompt: `seed ${seed}`, seed, width: 64, task: "text-to-image"};
            transaction.objectStore("pictures").add({created: seed, seconds: 1, parameters, file: new Blob()});
        }
        transaction.oncomplete = () => (request.result.close(), resolve());
    };
})"""


def paint(page: Any, prompt: str, seed: int) -> None:
    """Paint one more picture."""
    there = page.locator("#thumbs li").count()
    page.fill("#prompt", prompt)
    page.fill("#seed", str(seed))
    page.fill("#steps", "3")
    page.click("#paint")
    expect(page.locator("#thumbs li")).to_have_count(there + 1)
    expect(page.locator("#paint")).to_be_visible()


def test_a_reload_keeps_settings_and_pictures(opened: Opener, server: PageServer) -> None:
    page = opened(server.address)
    paint(page, "a red cube", 5)
    page.fill("#negative_prompt", "blue")
    page.fill("#guidance_scale", "3.5")
    page.select_option("#sampler", label="DPM++ 2M Karras")
    page.fill("#n", "2")
    assert page.evaluate("sessionStorage.length") == 0  # no job that would be looked for again
    page.reload()
    expect(page.locator("#thumbs li")).to_have_count(1)
    values = {
        name: page.input_value(f"#{name}") for name in ("prompt", "negative_prompt", "steps", "guidance_scale", "sampler", "seed", "n")
    }
    assert list(values.values()) == ["a red cube", "blue", "3", "3.5", "dpm++ 2m karras", "5", "2"]
    page.locator("[name=action][value=repaint]").check()
    assert page.input_value("#guidance_scale") == "2"  # this model's own
    page.reload()
    expect(page.locator("#model")).to_have_value("toyworld-inpainting")
    page.locator("[name=action][value=text]").check()
    assert page.input_value("#guidance_scale") == "3.5"


def test_the_viewer_tells_what_decided_a_picture(opened: Opener, server: PageServer) -> None:
    page = opened(server.address)
    paint(page, "a red cube", 5)
    paint(page, "a green cone", 6)
    page.locator("#thumbs button").last.click()
    viewer = page.locator("#viewer")
    expect(viewer).to_be_visible()
    facts = viewer.locator("dl").inner_text()
    assert all(text in facts for text in ("a red cube", "5", "toyworld", "64 × 64", "DPM++ 2M", "cpu"))
    page.keyboard.press("ArrowLeft")
    expect(viewer.locator("h2")).to_have_text("a green cone")
    page.keyboard.press("ArrowRight")
    with page.expect_download() as download:
        viewer.locator("button:has-text('Download')").click()
    assert download.value.suggested_filename.startswith("sd2rt-")
    assert download.value.suggested_filename.endswith("-5.png")
    viewer.locator("button:has-text('Use these settings')").click()
    expect(viewer).to_be_hidden()
    assert (page.input_value("#prompt"), page.input_value("#seed")) == ("a red cube", "5")


def test_a_picture_is_used_as_picture(opened: Opener, server: PageServer) -> None:
    page = opened(server.address)
    paint(page, "a red cube", 5)
    page.click("#result-buttons button:has-text('Use as picture')")
    expect(page.locator("#picture-box img")).to_be_visible()
    with page.expect_request(lambda request: request.method == "POST") as sent:
        page.click("#paint")
    assert sent.value.post_data_json["strength"] == 0.8
    assert sent.value.post_data_json["image"].startswith("iVBOR")
    assert "width" not in sent.value.post_data_json
    expect(page.locator("#thumbs li")).to_have_count(2)


def test_pictures_are_deleted_that_this_window_shows(opened: Opener, server: PageServer) -> None:
    page = opened(server.address)
    page.evaluate(KEEP, 3)
    page.reload()
    page.locator("#thumbs button").first.click()
    page.click("#viewer button:has-text('Delete')")
    expect(page.locator("#thumbs li")).to_have_count(2)
    page.keyboard.press("Escape")
    page.click("#clear-gallery")
    page.click("#question button:has-text('Keep')")
    assert page.locator("#thumbs li").count() == 2
    page.evaluate(KEEP, 1)  # as another window does
    page.click("#clear-gallery")
    page.click("#question button:has-text('Delete')")
    expect(page.locator("#thumbs li")).to_have_count(0)
    expect(page.locator("#gallery-empty")).to_be_visible()
    page.reload()
    expect(page.locator("#thumbs li")).to_have_count(1)


@pytest.mark.slow
def test_the_oldest_make_room(opened: Opener, server: PageServer) -> None:
    page = opened(server.address)
    page.evaluate(KEEP, 500)
    page.reload()
    expect(page.locator("#gallery-count")).to_contain_text("500: the oldest make room")
    page.fill("#prompt", "a red cube")
    page.click("#paint")
    expect(page.locator("#thumbs button").first).to_have_attribute("aria-label", re.compile("a red cube"))
    expect(page.locator("#thumbs li")).to_have_count(500)
    expect(page.locator("#thumbs button").last).to_have_attribute("aria-label", "seed 1, seed 1")
    assert page.locator("#trouble").is_hidden()


@pytest.mark.slow
def test_a_picture_that_the_browser_cannot_keep_is_told(opened: Opener, server: PageServer) -> None:
    page = opened(server.address)
    session = page.context.new_cdp_session(page)
    session.send("Storage.overrideQuotaForOrigin", {"origin": server.address, "quotaSize": 1})
    page.fill("#prompt", "a red cube")
    page.click("#paint")
    expect(page.locator("#trouble")).to_contain_text("could not keep the picture (QuotaExceededError)")
    expect(page.locator("#thumbs li")).to_have_count(1)
    session.send("Storage.overrideQuotaForOrigin", {"origin": server.address})
    page.reload()
    expect(page.locator("#gallery-empty")).to_contain_text("the last 500 pictures")
    assert page.locator("#thumbs li").count() == 0


def test_a_seed_is_random_until_it_is_used_again(opened: Opener, server: PageServer) -> None:
    page = opened(server.address)
    page.fill("#prompt", "a red cube")
    page.click("#paint")
    expect(page.locator("#seed-again")).to_be_enabled()
    assert page.input_value("#seed") == ""
    page.click("#seed-again")
    assert f"Seed {page.input_value('#seed')}," in page.inner_text("#caption")
    page.click("#seed-random")
    assert page.input_value("#seed") == ""


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(64, 192), (192, 64)])
def test_pictures_of_any_shape_fit_on_the_screen(opened: Opener, server: PageServer, width: int, height: int) -> None:
    page = opened(server.address)
    page.fill("#width", str(width))
    page.fill("#height", str(height))
    paint(page, "a red cube", 5)
    shown, large = page.locator("#pictures .framed img"), page.locator("#viewer img")
    box = shown.bounding_box()
    assert box["height"] <= 0.6 * 800
    assert box["width"] / box["height"] == pytest.approx(width / height, rel=0.02)
    shown.click()
    assert large.bounding_box()["height"] <= 0.8 * 800
    assert large.bounding_box()["width"] <= 0.8 * 1280
