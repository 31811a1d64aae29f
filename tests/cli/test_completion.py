"""Completion: what shells load, and what they are answered."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete, ShellComplete

from sd2rt.cli.completion import FILES, VALUES, samplers, teach
from sd2rt.cli.main import sd2rt as root
from sd2rt.cli.settings import commands, key_of
from sd2rt.runtime.models import find_model
from sd2rt.runtime.samplers_names import SOLVERS, parse_sampler
from tests.cli.conftest import Command, assert_refused


@pytest.fixture(autouse=True)
def taught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SD2RT_MODELS", str(tmp_path / "models"))
    teach(root)


def answers(*words: str) -> list[str]:
    """What is offered for the last word."""
    found = ShellComplete(root, {}, "sd2rt", "_SD2RT_COMPLETE").get_completions(list(words[:-1]), words[-1])
    return [f"<{item.type}>" if item.type != "plain" else item.value for item in found]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(shell: str, sd2rt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BashComplete, "_check_version", staticmethod(lambda: None))  # runs bash, which a machine may not have
    found = sd2rt("completion", shell)
    assert (found.code, found.err) == (0, "")
    assert "_SD2RT_COMPLETE" in found.out


def test_other_shells(sd2rt: Command) -> None:
    assert_refused(sd2rt("completion", "csh"), 2, "'csh' is not one of 'bash', 'zsh', 'fish'")


def test_a_bash_that_is_too_old(sd2rt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: BashComplete) -> str:
        raise RuntimeError("Shell completion is not supported for Bash versions older than 4.4.")

    monkeypatch.setattr(BashComplete, "source", refuse)
    assert_refused(sd2rt("completion", "bash"), 2, "older than 4.4.; expected bash 4.4 or newer, zsh or fish")


def test_models(sd2rt: Command) -> None:
    assert sd2rt("models", "import", str(find_model("toyworld")), "--name", "mine").code == 0
    assert {"toyworld", "toyworld-depth", "mine", "sd21"} <= set(answers("generate", "x", "--model", ""))
    assert answers("generate", "x", "-m", "mi") == ["mine"]
    assert "sd21" in answers("build", "")
    for verb in ("verify", "quantize", "info"):  # which take no alias
        assert {"toyworld", "mine"} <= set(answers(verb, ""))
        assert "sd21" not in answers(verb, "")
    assert answers("build", "mi") == answers("info", "mi") == answers("verify", "mi") == ["mine"]
    assert answers("models", "rm", "") == answers("models", "show", "") == ["mine"]
    assert answers("models", "pull", "sd21") == ["sd21", "sd21-base"]


def test_files_where_no_name_begins_like_the_word() -> None:
    assert answers("generate", "x", "--model", "./s") == ["<file>"]
    assert answers("img2img", "x", "--image", "") == ["<file>"]
    assert answers("batch", "") == answers("reproduce", "") == answers("export", "") == ["<file>"]
    assert answers("batch", "rows.txt", "--out-dir", "") == answers("grid", "x", "--cells", "") == ["<file>"]


def test_targets_samplers_and_other_words() -> None:
    assert answers("generate", "x", "--target", "tensor") == ["tensorrt", "tensorrt-rtx"]
    assert answers("generate", "x", "--sampler", "euler") == [
        *("euler", "euler-karras", "euler-exponential"),
        *("euler-a", "euler-a-karras", "euler-a-exponential"),
    ]
    assert answers("generate", "x", "--precision", "") == ["auto", "bf16", "f32"]
    assert answers("generate", "x", "--speed", "f") == ["fast"]
    assert sorted(answers("export", "--preset", "sd21")) == ["sd21", "sd21-base"]
    assert "engines prune" in answers("config", "show", "")
    assert answers("comp") == ["completion"]
    assert answers("export", "--task", "") == ["auto", "text-to-image", "inpainting", "depth-to-image", "upscaling"]
    assert answers("generate", "x", "--preview-show", "") == ["auto", "kitty", "iterm", "sixel", "off"]
    assert answers("generate", "x", "--decoder", "") == ["vae", "tiny"]
    assert answers("generate", "x", "--format", "") == ["png", "jpeg", "webp"]


def test_every_sampler_offered_is_one() -> None:
    assert {parse_sampler(name).solver for name in samplers()} == set(SOLVERS)


def test_everything_taught_is_an_option_or_argument_that_there_is() -> None:
    known = {
        key_of(parameter) if isinstance(parameter, click.Option) else f"{name} {parameter.name}"
        for name, command in commands(root)
        for parameter in command.params
    }
    assert not {*VALUES, *FILES} - known


@pytest.mark.parametrize("name", ["rng", "preview", "preview-show", "decoder", "format", "precision", "dtype", "task"])
def test_words_offered_are_taken(name: str) -> None:
    """Each option's help names every word that is offered, as the commands check them elsewhere."""
    texts = [
        str(parameter.help)
        for _, command in commands(root)
        for parameter in command.params
        if isinstance(parameter, click.Option) and key_of(parameter) == name
    ]
    assert texts
    for word in VALUES[name]():
        assert any(word in text for text in texts) or word == "auto", (name, word)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_asks_and_is_answered(tmp_path: Path) -> None:
    """The real shell, its script and a real process."""
    (tmp_path / "sd2rt").write_text(f'#!/bin/sh\nexec {sys.executable} -m sd2rt.cli "$@"\n')
    (tmp_path / "sd2rt").chmod(0o755)
    script = (
        "source <(sd2rt completion bash); COMP_WORDS=(sd2rt generate x --sampler unip); COMP_CWORD=4; "
        '_sd2rt_completion sd2rt; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["unipc", "unipc-karras", "unipc-exponential"]
