"""Chromium, one for each process that tests, and pages in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sd2rt.serve.settings import ServeSettings
from tests.serve.fakes import FakeBackend
from tests.serve.page.servers import PageServer, serving

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright.expect
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WAIT_MS = 30_000
expect.set_options(timeout=WAIT_MS)
EXPECTED = ("Failed to load resource", "net::ERR_")  # answers that say no, and servers that are gone, are what some tests are about
Opener = Callable[..., Any]


@pytest.fixture(scope="module")  # while it is open this thread has an event loop, and tests elsewhere cannot have theirs
def chromium() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium: install Debian's `chromium`")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Desk:
    """A window of 1280 x 800 for one test after the other: a new one for each would take most of their time."""

    def __init__(self, browser: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1280, "height": 800})
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        listen(self.page, self.complaints)
        self._session = self.context.new_cdp_session(self.page)

    def clear(self) -> None:
        """Forget everything that a test left."""
        self.context.set_offline(False)
        self.page.emulate_media(color_scheme="light")
        if (origin := self.page.evaluate("origin")) != "null":
            self.page.evaluate("sessionStorage.clear()")
            self.page.goto("about:blank")
            self._session.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})
        self.complaints.clear()


def listen(page: Any, complaints: list[str]) -> None:
    """Collect what a page's console complains of."""
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))


@pytest.fixture(scope="module")
def desk(chromium: Any) -> Desk:
    return Desk(chromium)


@pytest.fixture
def opened(chromium: Any, desk: Desk) -> Iterator[Opener]:
    """Opens the page as if for the first time; with options of `new_context`, in a window of its own.

    Whatever the console complains of, such as the page's policy, fails the test.
    """
    contexts, complaints = [], desk.complaints

    def open_page(address: str, *, ready: bool = True, **options: Any) -> Any:
        page = desk.page
        if options:
            contexts.append(chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, **options}))
            page = contexts[-1].new_page()
            listen(page, complaints)
        page.set_default_timeout(WAIT_MS)
        page.goto(address)
        if ready:
            expect(page.locator("#model")).not_to_have_value("")
        return page

    yield open_page
    for context in contexts:
        context.close()
    found = [text for text in complaints if not any(part in text for part in EXPECTED)]
    desk.clear()
    assert found == []


@pytest.fixture(scope="module")
def fake() -> FakeBackend:
    return FakeBackend(step_s=0.01)


@pytest.fixture(scope="module")
def server(fake: FakeBackend) -> Iterator[PageServer]:
    """A server whose pictures are of one colour, and whose queue is short."""
    with serving(ServeSettings(queue=2), fake) as running:
        yield running


@pytest.fixture
def held(fake: FakeBackend, server: PageServer) -> Iterator[None]:
    """No step is taken while the test runs, unless it releases the backend; what it leaves is cancelled."""
    server.call(fake.hold)
    yield
    server.call(lambda: server.service.cancel_all("local"))
    server.call(fake.release)
