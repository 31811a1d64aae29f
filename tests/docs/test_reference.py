"""The reference pages are what the code says."""

import runpy

import pytest

from tests.docs.pages import ROOT

griffe = pytest.importorskip("griffe", reason="needs the dev extra")


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """The pages as docs/make_reference.py makes them now."""
    script = runpy.run_path(str(ROOT / "docs/make_reference.py"))
    return {"cli.md": script["cli_page"](), "python-api.md": script["api_page"]()}


@pytest.mark.parametrize("page", ["cli.md", "python-api.md"])
def test_the_page_is_up_to_date(page: str, made: dict[str, str]) -> None:
    """Word by word: how lines break is the libraries' business."""
    assert (ROOT / "docs" / page).read_text().split() == made[page].split(), "run `python docs/make_reference.py`"


def test_every_verb_and_what_is_public_is_there(made: dict[str, str]) -> None:
    commands, api = made["cli.md"], made["python-api.md"]
    assert "## sd2rt engines prune\n" in commands
    assert "--seed INTEGER" in commands
    for name in ("runtime.load", "engine.open_engine", "engine.TensorSpec", "export.export", "engine: errors"):
        assert f"### sd2rt.{name}\n" in api
    assert "|- InvalidArgument" in api
    assert "low_memory: bool = False,\n" in api
    assert "- `seed: int`  \n  Image i of the call has seed + i" in api
