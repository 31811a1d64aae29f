"""The reference pages are what the code says."""

import runpy
from collections.abc import Callable

import pytest

from tests.docs.pages import ROOT

griffe = pytest.importorskip("griffe", reason="needs the dev extra")


@pytest.fixture(scope="module")
def made() -> dict[str, Callable[[], str]]:
    """The functions of docs/make_reference.py."""
    return runpy.run_path(str(ROOT / "docs/make_reference.py"))


@pytest.mark.parametrize(("page", "maker"), [("cli.md", "cli_page"), ("python-api.md", "api_page")])
def test_the_page_is_up_to_date(page: str, maker: str, made: dict[str, Callable[[], str]]) -> None:
    """Word by word: how lines break is the libraries' business."""
    found = (ROOT / "docs" / page).read_text()
    assert found.split() == made[maker]().split(), "run `python docs/make_reference.py`"


def test_every_verb_and_what_is_public_is_there(made: dict[str, Callable[[], str]]) -> None:
    commands, api = made["cli_page"](), made["api_page"]()
    assert "## sd2rt engines prune\n" in commands
    assert "--seed INTEGER" in commands
    for name in ("runtime.load", "engine.open_engine", "engine.InvalidArgument", "export.export"):
        assert f"### sd2rt.{name}\n" in api
    assert "low_memory: bool = False,\n" in api
    assert "- `seed: int`  \n  Image i of the call has seed + i" in api
