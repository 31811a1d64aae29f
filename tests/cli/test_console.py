"""What goes to stdout and what to stderr."""

import json

import click
import pytest
from click.testing import CliRunner, Result

from sd2rt.cli.console import Console, console_options, rate_text


@click.command()
@console_options
@click.pass_obj
def paint(console: Console) -> None:
    console.note("seed 7")
    with console.progress("step") as progress:
        progress(1, 2)
    console.result({"path": "é.png"}, ["é.png"])


def run(*arguments: str) -> Result:
    return CliRunner().invoke(paint, arguments, obj=Console())


@pytest.mark.parametrize(("arguments", "words"), [([], "seed 7\n"), (["--quiet"], ""), (["-q"], "")])
def test_notes_go_to_stderr_unless_quiet_and_progress_needs_a_terminal(arguments: list[str], words: str) -> None:
    result = run(*arguments)
    assert (result.stdout, result.stderr) == ("é.png\n", words)


def test_json() -> None:
    result = run("--json")
    assert json.loads(result.stdout) == {"path": "é.png"}
    assert result.stderr == "seed 7\n"


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Console().progress("step") as progress:
        for done in (1, 2, 3):
            progress(done, 3)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\r") == 3
    assert "step 3/3" in captured.err
    assert captured.err.endswith("\n")


@pytest.mark.parametrize(
    ("times", "expected"),
    [([0.0, 0.5], "2.0 it/s"), ([0.0, 5.0, 5.25], "4.0 it/s"), ([0.0, 30.0, 40.0, 50.0], "10.00 s/it"), ([0.0, 0.0], "1000000000.0 it/s")],
)
def test_rate_leaves_the_first_round_out(times: list[float], expected: str) -> None:
    assert rate_text(times) == expected
