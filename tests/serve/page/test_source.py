"""What a painting begins from: files that are no pictures, depth maps, and messages that go when they are no longer true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.serve.page.conftest import Opener, expect
from tests.serve.page.servers import PageServer

pytestmark = pytest.mark.browser
INPUTS = Path(__file__).parents[3] / "docs" / "inputs"
NO_PICTURE = {"name": "notes.png", "mimeType": "image/png", "buffer": b"no picture"}
DROP_TEXT = """() => {
    const data = new DataTransfer();
    data.items.add(new File(["no picture"], "notes.txt", {type: "text/plain"}));
    document.querySelector("main").dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
}"""


def begin(page: Any, action: str) -> None:
    """Choose an action, with a prompt."""
    page.locator(f"[name=action][value={action}]").check()
    page.fill("#prompt", "a cube")


def test_a_file_that_is_no_picture_is_told(opened: Opener, server: PageServer) -> None:
    page = opened(server.address)
    trouble = page.locator("#trouble")
    page.evaluate(DROP_TEXT)
    expect(trouble).to_contain_text("notes.txt is no picture that this browser can read")
    begin(page, "repaint")
    for place in ("#picture-box input", "#mask-file"):
        expect(trouble).to_be_hidden()
        page.set_input_files(place, NO_PICTURE)
        expect(trouble).to_contain_text("notes.png is no picture that this browser can read")
        page.set_input_files("#picture-box input", INPUTS / "scene.png")
    expect(trouble).to_be_hidden()
    assert page.locator("#announcer").inner_text() == ""  # an alert is spoken already


def test_a_file_that_was_changed_is_chosen_again(opened: Opener, server: PageServer, tmp_path: Path) -> None:
    page = opened(server.address)
    begin(page, "image")
    file = tmp_path / "scene.png"
    file.write_bytes((INPUTS / "scene.png").read_bytes())
    page.set_input_files("#picture-box input", file)
    expect(page.locator("#picture-box img")).to_be_visible()
    file.write_bytes(b"another")
    page.click("#paint")
    expect(page.locator("#trouble")).to_contain_text("scene.png cannot be read any longer")
    assert page.locator("#thumbs li").count() == 0


def test_what_was_mended_is_no_longer_told(opened: Opener, server: PageServer) -> None:
    page = opened(server.address)
    trouble = page.locator("#trouble")
    page.click("#paint")
    expect(trouble).to_contain_text("Say what to paint")
    page.keyboard.type("a")
    expect(trouble).to_be_hidden()
    begin(page, "repaint")
    page.click("#paint")
    expect(trouble).to_contain_text("no picture yet")
    page.set_input_files("#picture-box input", INPUTS / "scene.png")
    expect(trouble).to_be_hidden()
    page.click("#paint")
    expect(trouble).to_contain_text("Brush over the part")
    page.locator("canvas.mask").press("Space")
    expect(trouble).to_be_hidden()
    page.locator("[name=action][value=text]").check()
    page.fill("#width", "4096")
    page.click("#paint")
    expect(trouble).to_contain_text("got 4,096")
    page.fill("#width", "63")
    page.click("#paint")
    expect(page.locator("#width")).to_be_focused()  # beside the browser's own message
    assert trouble.is_hidden()
