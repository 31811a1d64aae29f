"""What the page says and does when things go wrong: no token, a full queue, a server that is gone."""

from __future__ import annotations

import json
import socket
import urllib.request

import pytest

from sd2rt.serve.settings import ServeSettings
from tests.serve.conditions import WAIT_S, wait_until
from tests.serve.fakes import FakeBackend
from tests.serve.page.conftest import Opener, expect
from tests.serve.page.servers import PageServer, serving

pytestmark = pytest.mark.browser
SECRET = "a-secret-of-the-test"
NO_STORAGE = """for (const name of ["localStorage", "sessionStorage", "indexedDB"]) {
    Object.defineProperty(window, name, {get() { throw new DOMException("blocked", "SecurityError"); }});
}"""


def order(server: PageServer, **options: object) -> None:
    """Send a job past the page."""
    body = json.dumps({"model": "toyworld", "prompt": "a cube", "steps": 2, **options}).encode()
    request = urllib.request.Request(f"{server.address}v1/jobs", body, {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=WAIT_S).close()


def fill_queue(server: PageServer) -> None:
    """Have one job painted and as many wait as may; their sizes differ, so that they are no batch."""
    order(server, width=64)
    wait_until(lambda: server.service.running)
    for width in (72, 80):
        order(server, width=width)


def test_a_token_is_asked_for_and_kept(opened: Opener) -> None:
    with serving(ServeSettings(tokens=(("ann", SECRET),)), FakeBackend()) as server:
        page = opened(server.address, ready=False)
        expect(page.locator("#door")).to_be_visible()
        expect(page.locator("#token")).to_be_focused()
        page.keyboard.type("this one is wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#door-text")).to_contain_text("did not take this token")
        page.keyboard.type(SECRET)
        page.keyboard.press("Enter")
        expect(page.locator("#model")).to_have_value("toyworld")
        expect(page.locator("#door")).to_be_hidden()
        page.fill("#prompt", "a cube")
        page.click("#paint")
        expect(page.locator("#thumbs li")).to_have_count(1)
        page.reload()
        expect(page.locator("#model")).to_have_value("toyworld")
        assert SECRET not in page.evaluate("JSON.stringify(localStorage)")


@pytest.mark.usefixtures("held")
def test_a_full_queue_is_told_and_tried_again(opened: Opener, server: PageServer, fake: FakeBackend) -> None:
    fill_queue(server)
    page = opened(server.address)
    page.fill("#prompt", "a cube")
    page.click("#paint")
    expect(page.locator("#progress-text")).to_contain_text("The server is busy. Trying again in")
    server.call(fake.release)
    expect(page.locator("#thumbs li")).to_have_count(1)
    assert page.locator("#trouble").is_hidden()


@pytest.mark.usefixtures("held")
def test_waiting_for_room_can_be_given_up(opened: Opener, server: PageServer) -> None:
    fill_queue(server)
    page = opened(server.address)
    page.fill("#prompt", "a cube")
    page.click("#paint")
    expect(page.locator("#progress-text")).to_contain_text("busy")
    page.keyboard.press("Escape")
    expect(page.locator("#paint")).to_be_visible()
    assert page.locator("#thumbs li").count() == 0


@pytest.mark.usefixtures("held")
def test_the_place_in_the_queue_is_shown_and_given_up(opened: Opener, server: PageServer) -> None:
    order(server, width=72)
    page = opened(server.address)
    page.fill("#prompt", "a cube")
    page.click("#paint")
    expect(page.locator("#progress-text")).to_have_text("Next in the queue")
    page.reload()
    expect(page.locator("#progress-text")).to_have_text("Next in the queue")
    page.click("#cancel")
    expect(page.locator("#paint")).to_be_visible()
    assert page.locator("#thumbs li").count() == 0


def test_what_the_server_refuses_or_fails_is_told(opened: Opener, server: PageServer) -> None:
    page = opened(server.address)
    page.fill("#prompt", "(a cube:nonsense) fail")
    page.click("#paint")
    expect(page.locator("#trouble")).to_contain_text("asked to fail")
    page.fill("#prompt", "a cube")
    page.fill("#width", "4096")
    page.click("#paint")
    expect(page.locator("#trouble")).to_contain_text("expected at most")
    page.fill("#width", "64")
    page.click("#paint")
    expect(page.locator("#trouble")).to_be_hidden()
    expect(page.locator("#thumbs li")).to_have_count(1)
    expect(page.locator("#caption")).to_contain_text("Seed")
    page.fill("#width", "4096")
    page.click("#paint")
    expect(page.locator("#trouble")).to_contain_text("expected at most")
    assert page.locator("#caption").is_visible()  # the picture before is shown with all that belongs to it
    assert page.locator("#result-buttons button").count() > 1


def test_what_cannot_be_right_is_not_sent(opened: Opener, server: PageServer) -> None:
    page = opened(server.address)
    page.click("#paint")
    expect(page.locator("#trouble")).to_contain_text("Say what to paint")
    expect(page.locator("#prompt")).to_be_focused()
    page.fill("#prompt", "a cube")
    page.fill("#seed", "99999999999999999999")
    page.click("#settings summary")
    page.click("#paint")
    expect(page.locator("#seed")).to_be_focused()
    page.fill("#seed", "")
    page.locator("[name=action][value=repaint]").check()
    page.click("#paint")
    expect(page.locator("#trouble")).to_contain_text("no picture yet")
    assert page.locator("#thumbs li").count() == 0


def test_what_is_hidden_is_not_checked(opened: Opener, server: PageServer) -> None:
    page = opened(server.address)
    page.fill("#prompt", "a cube")
    page.locator("[name=action][value=repaint]").check()
    page.fill("#mask_blur", "300")
    page.locator("[name=action][value=text]").check()
    page.click("#paint")
    expect(page.locator("#thumbs li")).to_have_count(1)
    page.locator("[name=action][value=repaint]").check()
    expect(page.locator("#mask_blur")).to_be_enabled()
    assert page.input_value("#mask_blur") == "300"


@pytest.mark.usefixtures("held")
def test_keys_pressed_twice_paint_once(opened: Opener, server: PageServer) -> None:
    page = opened(server.address)
    page.fill("#prompt", "a cube")
    sent = []
    page.on("request", lambda request: request.method == "POST" and sent.append(request.url))
    key = "dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', ctrlKey: true}))"
    page.evaluate(f"{key}; {key}")
    expect(page.locator("#progress-text")).to_have_text("Painting")
    assert len(sent) == 1


def test_a_lost_connection_is_told_and_the_job_found_again(opened: Opener, server: PageServer, fake: FakeBackend) -> None:
    server.call(fake.hold)
    page = opened(server.address)
    page.fill("#prompt", "a cube")
    page.click("#paint")
    expect(page.locator("#progress-text")).to_have_text("Painting")
    page.context.set_offline(True)
    server.call(fake.release)
    expect(page.locator("#progress-text")).to_contain_text("The connection is lost")
    page.context.set_offline(False)
    expect(page.locator("#thumbs li")).to_have_count(1)
    assert page.locator("#trouble").is_hidden()


@pytest.mark.usefixtures("held")
def test_looking_for_a_lost_job_can_be_given_up(opened: Opener, server: PageServer) -> None:
    page = opened(server.address)
    page.fill("#prompt", "a cube")
    page.click("#paint")
    expect(page.locator("#progress-text")).to_have_text("Painting")
    page.context.set_offline(True)
    expect(page.locator("#progress-text")).to_contain_text("The connection is lost")
    page.keyboard.press("Escape")
    expect(page.locator("#paint")).to_be_visible()
    assert page.locator("#thumbs li").count() == 0


@pytest.mark.usefixtures("held")
def test_a_reload_finds_the_job_again(opened: Opener, server: PageServer, fake: FakeBackend) -> None:
    page = opened(server.address)
    page.fill("#prompt", "a cube")
    page.click("#paint")
    expect(page.locator("#progress-text")).to_have_text("Painting")
    page.reload()
    expect(page.locator("#cancel")).to_be_visible()
    server.call(fake.release)
    expect(page.locator("#thumbs li")).to_have_count(1)
    assert page.locator("#trouble").is_hidden()


def test_what_was_sent_is_not_sent_again(opened: Opener, server: PageServer) -> None:
    page = opened(server.address)
    page.fill("#prompt", "a cube")
    sent: list[str] = []
    page.on("request", lambda request: request.method == "POST" and sent.append(request.url))
    statuses = iter((429, 401))
    page.route("**/events", lambda route: route.fulfill(status=next(statuses)), times=2)
    page.click("#paint")
    expect(page.locator("#token")).to_be_focused()
    page.keyboard.type(SECRET)
    page.keyboard.press("Enter")
    expect(page.locator("#thumbs li")).to_have_count(1)
    assert len(sent) == 1


@pytest.mark.slow
def test_a_server_that_still_starts_is_waited_for(opened: Opener, server: PageServer) -> None:
    page = opened("about:blank", ready=False)
    page.route("**/v1/models", lambda route: route.fulfill(json={"data": []}), times=1)
    page.goto(server.address)
    expect(page.locator("#trouble")).to_contain_text("still starting")
    expect(page.locator("#model")).to_have_value("toyworld")
    assert page.locator("#trouble").is_hidden()


def test_without_storage_the_page_paints(opened: Opener, server: PageServer) -> None:
    page = opened("about:blank", ready=False, color_scheme="light")
    page.add_init_script(NO_STORAGE)
    page.goto(server.address)
    expect(page.locator("#gallery-empty")).to_contain_text("keeps no pictures")
    page.fill("#prompt", "a cube")
    page.click("#paint")
    expect(page.locator("#thumbs li")).to_have_count(1)
    assert page.locator("#trouble").is_hidden()


def test_a_server_that_is_gone_is_told_and_asked_again(opened: Opener) -> None:
    backend = FakeBackend()
    with serving(ServeSettings(), backend) as server:
        page = opened(server.address)
    port = int(server.address.rstrip("/").rpartition(":")[2])
    page.fill("#prompt", "a cube")
    page.click("#paint")
    expect(page.locator("#trouble")).to_contain_text("cannot be reached")
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    with serving(ServeSettings(), backend, port):
        page.click("#paint")
        expect(page.locator("#thumbs li")).to_have_count(1)
