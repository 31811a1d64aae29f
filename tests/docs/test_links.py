"""Links and pictures of the pages lead somewhere, every guide is in the index, and pictures stay small."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.docs.pages import PAGES, ROOT

LINKED = (*PAGES, *sorted((ROOT / "docs").glob("*.md")))
MOST_BYTES = 1_000_000


def flat(tokens: list[Token]) -> Iterator[Token]:
    """Yield all tokens, those inside of others too."""
    for token in tokens:
        yield token
        yield from flat(token.children or [])


def targets(page: Path) -> Iterator[str]:
    """Yield where a page's links and pictures lead, but those to other sites."""
    for token in flat(MarkdownIt("commonmark").parse(page.read_text())):
        target = str(token.attrs.get("href") or token.attrs.get("src") or "").partition("#")[0]
        if target and "://" not in target:
            yield target


@pytest.mark.parametrize("page", LINKED, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_links_lead_to_files(page: Path) -> None:
    assert [target for target in targets(page) if not (page.parent / target).is_file()] == []


def test_every_guide_is_in_the_index() -> None:
    guides = {f"guides/{page.name}" for page in (ROOT / "docs/guides").glob("*.md")}
    assert guides <= set(targets(ROOT / "docs/README.md"))


def test_the_pictures_are_small_and_each_is_on_a_page() -> None:
    pictures = {path for path in (ROOT / "docs").iterdir() if path.suffix in (".png", ".svg")}
    assert sum(path.stat().st_size for path in pictures) < MOST_BYTES
    assert pictures <= {(page.parent / target).resolve() for page in LINKED for target in targets(page)}
