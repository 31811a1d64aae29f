"""The command as a whole: help, version, exit codes, and what an unexpected failure looks like."""

import errno
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import click
import pytest

from sd2rt.cli.main import main
from sd2rt.cli.main import sd2rt as root
from sd2rt.cli.settings import commands
from tests.cli.conftest import MODEL, Command, assert_refused, start

GROUPS = [(name,) for name, command in root.commands.items() if isinstance(command, click.Group)]
VERBS = [(), *GROUPS, *(tuple(name.split(".")) for name, _ in commands(root))]
SCRIPTS = [("completion",)]  # write what is no JSON


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_help(verb: tuple[str, ...], sd2rt: Command) -> None:
    found = sd2rt(*verb, "--help")
    assert (found.code, found.err) == (0, "")
    assert found.out.startswith(f"Usage: {' '.join(('sd2rt', *verb))} ")
    if verb not in GROUPS:
        assert "Examples:\n" in found.out
    if verb not in ((), *GROUPS, *SCRIPTS):
        assert "--json" in found.out


def test_the_verbs_are_all_there() -> None:
    assert {("reproduce",), ("quantize",), ("engines", "prune"), ("completion",)} < set(VERBS)
    assert len(VERBS) == len(set(VERBS)) > 25


def test_version(sd2rt: Command) -> None:
    assert sd2rt("--version").out == f"sd2rt {importlib.metadata.version('sd2rt')}\n"


@pytest.mark.parametrize("verb", [(), *GROUPS])
def test_a_group_alone_gives_its_help_as_wrong_usage(verb: tuple[str, ...], sd2rt: Command) -> None:
    found = sd2rt(*verb)
    assert (found.code, found.out) == (2, "")
    assert found.err.startswith("Usage: sd2rt")


@pytest.mark.parametrize(("option", "traced"), [((), False), (("--verbose",), True)])
def test_an_unexpected_failure_is_one_line_and_its_trace_on_demand(
    option: tuple[str, ...], traced: bool, sd2rt: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.platform", lambda: 1 // 0)
    found = sd2rt("info", *option)
    assert (found.code, found.out) == (1, "")
    assert ("Traceback" in found.err) == traced
    assert ("run again with -v" in found.err) == (not traced)
    assert found.err.splitlines()[-1].startswith("sd2rt: unexpected ZeroDivisionError")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "sd2rt: out of memory: smaller --width/--height, -n or --tile"),
        (OSError(errno.ENOSPC, "No space left on device", "out.png"), "sd2rt: out.png: No space left on device"),
        (OSError(errno.EIO, "Input/output error"), "sd2rt: output: Input/output error"),
    ],
    ids=repr,
)
def test_what_the_machine_refuses_is_not_reported(error: Exception, line: str, sd2rt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise error

    monkeypatch.setattr("platform.platform", refuse)
    assert_refused(sd2rt("info"), 1, line + "\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which only Linux has")
@pytest.mark.parametrize("words", [("info",), ("--help",)])
def test_a_full_disk_under_stdout_is_one_line(words: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "sd2rt.cli", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "sd2rt: output: No space left on device\n")


def test_debug_by_environment(sd2rt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SD2RT_DEBUG", "1")
    assert "Traceback" in sd2rt("info", "nope").err


def test_interrupt_outside_of_a_command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("platform.platform", interrupt)
    assert main(["info"]) == 130
    assert capfd.readouterr().err.strip() == "sd2rt: interrupted"


def test_a_reader_that_leaves_early_gets_no_trace() -> None:
    process = start("generate", "--help")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=30) == 1


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "sd2rt.cli", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[:6]) == (0, "sd2rt ")


def test_export_names_the_extra_where_torch_is_missing() -> None:
    process = start("export", "/nowhere", "--out", "new", blocked="torch diffusers transformers")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert err.count("\n") == 1
    assert "pip install 'sd2rt[export" in err


def test_generate_names_the_extra_where_onnxruntime_is_missing() -> None:
    process = start("generate", "a red cube", "--model", MODEL, "--target", "cpu", "--quiet", blocked="onnxruntime")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.count("\n") == 1
    assert "pip install 'sd2rt[cpu]'" in err


@pytest.mark.parametrize("variable", ["SD2RT_CONFIG", "SD2RT_MODELS", "SD2RT_CACHE"])
def test_a_variable_that_names_the_home_of_nobody_is_one_line(variable: str, sd2rt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "~nobody-there/x")
    assert_refused(sd2rt("info"), 2, f"{variable}: got '~nobody-there/x', and there is no such home here")
