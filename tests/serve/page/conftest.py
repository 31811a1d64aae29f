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
WAIT_MS = 10_000
EXPECTED = ("Failed to load resource", "net::ERR_")  # answers that say no, and servers that are gone, are what some tests are about
Opener = Callable[..., Any]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium: install Debian's `chromium`")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Any) -> Iterator[Opener]:
    """Opens pages in fresh browser profiles. Whatever a page's console complains of, such as its policy, fails the test."""
    contexts, complaints = [], []

    def open_page(address: str, *, ready: bool = True, **options: Any) -> Any:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        context.set_default_timeout(WAIT_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        page.goto(address)
        if ready:
            expect(page.locator("#model")).not_to_have_value("")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [text for text in complaints if not any(part in text for part in EXPECTED)] == []


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
