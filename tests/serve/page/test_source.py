"""What a painting begins from: files that are no pictures, depth maps, and messages that go when they are no longer true."""

from __future__ import annotations

import json
import urllib.request
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


def test_a_model_that_cannot_estimate_depth_is_given_a_map(opened: Opener, server: PageServer) -> None:
    page = opened(server.address)
    begin(page, "depth")
    expect(page.locator("#action-hint")).to_contain_text("shapes and distances of a depth map")
    page.set_input_files("#picture-box input", INPUTS / "scene.png")
    expect(page.locator("#picture-box img")).to_be_visible()
    sent: list[str] = []
    page.on("request", lambda request: request.method == "POST" and sent.append(request.url))
    page.click("#paint")
    expect(page.locator("#trouble")).to_contain_text("choose a depth map")
    expect(page.locator("#depth-box input")).to_be_focused()
    assert sent == []
    page.set_input_files("#depth-box input", INPUTS / "depth.png")
    expect(page.locator("#trouble")).to_be_hidden()
    page.click("#paint")
    expect(page.locator("#thumbs li")).to_have_count(1)
    assert len(sent) == 1


def test_a_model_that_estimates_depth_takes_a_picture_alone(opened: Opener, server: PageServer) -> None:
    with urllib.request.urlopen(f"{server.address}v1/models", timeout=10) as answer:
        models = json.load(answer)
    for model in models["data"]:
        model["estimates_depth"] = model["task"] == "depth-to-image"
    page = opened("about:blank", ready=False)
    page.route("**/v1/models", lambda route: route.fulfill(json=models), times=1)
    page.goto(server.address)
    expect(page.locator("#model")).to_have_value("toyworld")
    begin(page, "depth")
    expect(page.locator("#action-hint")).to_contain_text("of a picture, or of a depth map")
    page.set_input_files("#picture-box input", INPUTS / "scene.png")
    expect(page.locator("#picture-box img")).to_be_visible()
    with page.expect_request(lambda request: request.method == "POST") as sent:
        page.click("#paint")
    assert {"image", "strength"} < sent.value.post_data_json.keys()
    assert "depth" not in sent.value.post_data_json
    expect(page.locator("#trouble")).to_be_visible()  # this server's model cannot


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
