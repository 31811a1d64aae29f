"""The page for everybody: by keys alone, on a phone, light and dark, for screen readers."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.serve.page.conftest import Opener, expect
from tests.serve.page.servers import PageServer

pytestmark = pytest.mark.browser
INPUTS = Path(__file__).parents[3] / "docs" / "inputs"
ACTIONS = ("text", "image", "repaint", "depth", "upscale")
BEYOND = """() => [...document.querySelectorAll("main *")]
    .filter((element) => element.getBoundingClientRect().right > 360.5 && !element.closest(".unseen"))
    .map((element) => element.outerHTML.slice(0, 200))"""
TOO_SMALL = """() => [...document.querySelectorAll("button, select")]
    .map((element) => element.getBoundingClientRect().height).filter((height) => height && height < 32)"""
MOVING = """() => document.getAnimations().length + [...document.querySelectorAll("*")]
    .filter((element) => getComputedStyle(element).transitionDuration !== "0s").length"""
UNNAMED = """() => [...document.querySelectorAll("button, input, select, textarea, canvas, img, progress, dialog, section")]
    .filter((element) => !element.labels?.length && !element.ariaLabel && !element.alt && !element.textContent.trim()
        && !element.hasAttribute("aria-labelledby") && !(element.tagName === "IMG" && element.hasAttribute("alt")))
    .map((element) => element.outerHTML.slice(0, 200))"""


def show_all(page: Any, action: str) -> None:
    """Bring a page into a state where an action shows all that it has."""
    page.evaluate("document.querySelector('#settings').open = true")
    page.locator(f"[name=action][value={action}]").check()
    if action != "text":
        page.set_input_files("#picture-box input", INPUTS / "scene.png")
        expect(page.locator("#picture-box img")).to_be_visible()


def test_everything_is_done_by_keys(opened: Opener, server: PageServer) -> None:
    page = opened(server.address)
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("[name=action][value=text]")).to_be_focused()
    page.keyboard.press("ArrowRight")
    assert page.locator("[name=action][value=image]").is_checked()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Tab")
    page.keyboard.type("a red cube")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#announcer")).to_contain_text("Done. One picture")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "thumb":
            break
    page.keyboard.press("Enter")
    expect(page.locator("#viewer")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()
    assert page.evaluate("document.activeElement.className") == "thumb"


@pytest.mark.usefixtures("held")
def test_keys_paint_and_cancel_and_are_not_lost(opened: Opener, server: PageServer) -> None:
    page = opened(server.address)
    page.fill("#prompt", "a red cube")
    page.locator("#paint").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#cancel")).to_be_focused()
    expect(page.locator("#progress-text")).to_have_text("Painting")
    page.locator("#sampler").press("Escape")  # closes the list of samplers
    page.locator("#prompt").dispatch_event("keydown", {"key": "Escape", "isComposing": True})
    expect(page.locator("#progress-text")).to_have_text("Painting")
    page.locator("#cancel").focus()
    page.keyboard.press("Escape")
    expect(page.locator("#paint")).to_be_focused()
    expect(page.locator("#announcer")).to_have_text("Cancelled")
    assert page.locator("#thumbs li").count() == 0


def test_a_narrow_screen_needs_no_sideways_scrolling(opened: Opener, server: PageServer) -> None:
    page = opened(server.address, viewport={"width": 360, "height": 800})
    for action in ACTIONS:
        show_all(page, action)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.evaluate(BEYOND) == []
        assert page.evaluate(TOO_SMALL) == []


def test_every_control_has_a_name(opened: Opener, server: PageServer) -> None:
    page = opened(server.address)
    for action in ACTIONS:
        show_all(page, action)
        assert page.evaluate(UNNAMED) == []


@pytest.mark.skipif(find_spec("axe_playwright_python") is None, reason="needs axe-playwright-python")
def test_axe_finds_nothing(opened: Opener, server: PageServer) -> None:
    page = opened(server.address)
    page.fill("#prompt", "a red cube")
    page.click("#paint")
    expect(page.locator("#thumbs li")).to_have_count(1)
    for action in ("text", "repaint", "depth"):
        show_all(page, action)
        assert complaints(page) == []
    page.emulate_media(color_scheme="dark")
    page.fill("#prompt", "a cube, fail")
    page.click("#paint")
    expect(page.locator("#trouble")).to_be_visible()
    assert complaints(page) == []
    page.locator("#thumbs button").first.click()
    assert complaints(page) == []


def complaints(page: Any) -> list[str]:
    """Return what axe finds wrong, shortly; its contrasts are WCAG's."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:120]} {node['any'][:1]}" for one in found for node in one["nodes"]]


@pytest.mark.slow
def test_nothing_moves_for_those_who_want_it_so(opened: Opener, server: PageServer) -> None:
    page = opened(server.address, reduced_motion="reduce")
    assert page.evaluate(MOVING) == 0
