"""What goes to stdout and what to stderr."""

import json
import logging

import click
import pytest
from click.testing import CliRunner, Result

from sd2rt.cli.console import LOGGER, Console, console_options


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
    monkeypatch.setattr("sd2rt.cli.progress.REDRAW_S", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    with Console().progress("step") as progress:
        for done in (1, 2, 3):
            progress(done, 3)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\r") == 3
    assert "step 3/3" in captured.err
    assert captured.err.endswith("\n")


@pytest.mark.parametrize(
    ("environment", "quiet", "shown", "coloured"),
    [
        ({}, False, True, True),
        ({"NO_COLOR": "1"}, False, True, False),
        ({"NO_COLOR": ""}, False, True, True),
        ({"TERM": "dumb"}, False, False, False),
        ({}, True, False, False),
    ],
)
def test_progress_and_colours_are_for_terminals_that_take_them(
    environment: dict[str, str],
    quiet: bool,
    shown: bool,
    coloured: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    console = Console()
    console.quiet, console.debug = quiet, True
    with console.progress("step") as progress:
        progress(2, 2)
    console.detail("loaded")
    err = capsys.readouterr().err
    assert ("step 2/2" in err, "\033[36m" in err, "\033[2mloaded" in err) == (shown, coloured, coloured)
    assert ("loaded" in err) == (not quiet)


@pytest.mark.parametrize(("debug", "words"), [(False, ""), (True, "unet: opened in 2 s\n")])
def test_what_packages_log_is_for_verbose_alone(debug: bool, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    console, log = Console(), logging.getLogger("sd2rt.engine")
    console.debug = debug
    with console.listening():
        log.debug("%s: opened in %d s", "unet", 2)
    log.debug("nobody listens")
    assert capsys.readouterr().err == words
    assert logging.getLogger(LOGGER).handlers == []


@pytest.mark.parametrize(("as_json", "out"), [(False, "a.png\nb.png\n"), (True, '{"row": 1, "path": "é"}\n')])
def test_one_of_many_results_is_a_line(as_json: bool, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.as_json = as_json
    console.item({"row": 1, "path": "é"}, ["a.png", "b.png"])
    assert capsys.readouterr().out == out
