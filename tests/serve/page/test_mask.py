"""The brush: mouse, touch and keys make a mask, and take it back."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.serve.page.conftest import Opener, expect
from tests.serve.page.servers import PageServer

pytestmark = pytest.mark.browser
INPUTS = Path(__file__).parents[3] / "docs" / "inputs"


def open_mask(opened: Opener, server: PageServer, **options: object) -> Any:
    """Open a page with a picture to brush on, and the keyboard on it."""
    page = opened(server.address, **options)
    page.locator("[name=action][value=repaint]").check()
    page.fill("#prompt", "a cube")
    page.set_input_files("#picture-box input", INPUTS / "scene.png")
    page.locator("canvas.mask").scroll_into_view_if_needed()
    page.locator("canvas.mask").focus()
    return page


def sent_mask(page: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Paint, and return the mask that is sent, [H, W] in [0, 1]."""
    with page.expect_request(lambda request: request.method == "POST") as sent:
        page.click("#paint")
    mask = Image.open(io.BytesIO(base64.b64decode(sent.value.post_data_json["mask"])))
    assert mask.width == mask.height == 512
    return np.asarray(mask.convert("L")) / 255


def test_keys_make_a_mask(opened: Opener, server: PageServer) -> None:
    page = open_mask(opened, server)
    expect(page.locator("#coverage")).to_have_text("Nothing is brushed yet.")
    page.fill("#brush-size", "20")
    page.locator("canvas.mask").focus()
    for key in ("ArrowRight", "ArrowRight", " ", "Shift+ArrowDown", "Shift+ArrowDown", "[", "]"):
        page.keyboard.press(key)
    expect(page.locator("#coverage")).to_contain_text("% of the picture is brushed")
    expect(page.locator("#announcer")).to_contain_text("Brush size")
    mask = sent_mask(page)
    assert mask[256:358, 340:375].mean() == 1.0  # two steps of half a brush to the right of the middle, and as far down
    assert mask[:, :256].max() == 0.0


def test_strokes_are_erased_undone_and_cleared(opened: Opener, server: PageServer) -> None:
    page = open_mask(opened, server)
    coverage = page.locator("#coverage")
    page.keyboard.press(" ")
    one = coverage.inner_text()
    page.keyboard.press("Shift+ArrowRight")
    assert coverage.inner_text() != one
    page.keyboard.press("Control+z")
    expect(coverage).to_have_text(one)
    page.keyboard.press("e")
    assert page.locator("[name=tool][value=eraser]").is_checked()
    page.keyboard.press("]")
    page.keyboard.press(" ")
    expect(coverage).to_have_text("Nothing is brushed yet.")
    page.click("#undo")
    expect(coverage).to_have_text(one)
    page.click("#redo")
    expect(coverage).to_have_text("Nothing is brushed yet.")
    page.click("#undo")
    box = page.locator("canvas.mask").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.keyboard.press("Control+z")
    page.mouse.move(box["x"] + 60, box["y"] + 60)  # the stroke has ended
    page.mouse.up()
    expect(coverage).to_have_text(one)
    page.click("#clear-mask")
    page.click("#paint")
    expect(page.locator("#trouble")).to_contain_text("Brush over the part")
    expect(page.locator("canvas.mask")).to_be_focused()


def test_touch_makes_a_mask_and_does_not_scroll(opened: Opener, server: PageServer) -> None:
    page = open_mask(opened, server, viewport={"width": 360, "height": 800}, has_touch=True)
    before = page.evaluate("scrollY")
    box = page.locator("canvas.mask").bounding_box()
    session = page.context.new_cdp_session(page)
    at = {"x": box["x"] + box["width"] / 4, "y": box["y"] + box["height"] / 4}
    for kind, down in (("touchStart", 0), ("touchMove", 40), ("touchMove", 80)):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{**at, "y": at["y"] + down}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(page.locator("#coverage")).to_contain_text("% of the picture is brushed")
    assert page.evaluate("scrollY") == before
    assert sent_mask(page)[128, 128] == 1.0


def test_a_mask_is_loaded(opened: Opener, server: PageServer) -> None:
    page = open_mask(opened, server)
    page.set_input_files("#mask-file", INPUTS / "mask.png")
    expect(page.locator("#coverage")).to_contain_text("% of the picture is brushed")
    given = np.asarray(Image.open(INPUTS / "mask.png").convert("L").resize((512, 512))) / 255
    assert np.abs(sent_mask(page) - given).mean() < 0.02


def test_pictures_are_dropped_and_pasted(opened: Opener, server: PageServer) -> None:
    page = opened(server.address)
    content = base64.b64encode((INPUTS / "scene.png").read_bytes()).decode()
    give = """([content, kind]) => {
        const data = new DataTransfer();
        data.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], "scene.png", {type: "image/png"}));
        const event = kind === "paste" ? new ClipboardEvent(kind, {clipboardData: data, bubbles: true, cancelable: true})
            : new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true});
        document.querySelector("#picture-box").dispatchEvent(event);
    }"""
    page.evaluate(give, [content, "paste"])
    expect(page.locator("#picture-box img")).to_be_visible()  # and the action is one that takes a picture
    assert page.locator("[name=action][value=image]").is_checked()
    page.click("#picture-box button:has-text('Remove')")
    expect(page.locator("#picture-box img")).to_be_hidden()
    page.evaluate(give, [content, "drop"])
    expect(page.locator("#picture-box")).to_contain_text("64 × 64 pixels")
