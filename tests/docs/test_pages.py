"""What the tests of the pages find wrong, and what they take."""

from pathlib import Path

import pytest

from tests.docs.pages import join_lines, printed, read_page
from tests.docs.parsing import parse_line, unsaid


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("sd2rt generate prompt --steps 5 -n 2", ""),
        ("HF_HUB_OFFLINE=1 sd2rt engines list --json", ""),
        ("sd2rt models import ./no-such-folder", ""),
        ("sd2rt generate prompt --stepps 5", "No such option"),
        ("sd2rt paint prompt", "no such verb: paint"),
        ("sd2rt engines mend", "no such verb: mend"),
        ("sd2rt generate", "Missing"),
        ("sd2rt generate ''", "PROMPT: got an empty text"),
        ("pip install '.[cpu,export]'", ""),
        ("pip install '.[tpu]'", "no such extras: ['tpu']"),
        ("make demo PYTHON=python3.12", ""),
        ("make tea", "no such targets: ['tea']"),
        ("python -m benchmarks gpu", ""),
        ("python -m benchmark", "no such module: benchmark"),
        ("python docs/make_strips.py", ""),
        ("python docs/make_films.py", "no such file"),
        ("frobnicate", "no command that this test knows"),
    ],
)
def test_parsing_finds_what_does_not_exist(command: str, wrong: str) -> None:
    found = parse_line(command)
    assert (wrong in found) if wrong else not found


def test_messages_are_looked_for_in_the_sources() -> None:
    assert unsaid("sd2rt: target ...: no NVIDIA driver (...) was found") == []
    assert unsaid("sd2rt: target ...: the moon is full") == ["the moon is full"]


def test_a_note_that_nothing_follows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("    sd2rt info\n\n<!-- not run: no reason -->\n")
    with pytest.raises(ValueError, match="nothing follows the note"):
        read_page(tmp_path / "page.md")


def test_lines_are_compared_with_what_is_printed() -> None:
    assert printed("built in ... s", "one\nbuilt in 3.2 s\n")
    assert not printed("built in ... s", "built in 3.2 seconds")
    assert join_lines("# a comment\nsd2rt info \\\n  --json\n\n") == ["sd2rt info    --json"]
