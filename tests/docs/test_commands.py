"""Every command of the README and the guides runs, in an empty folder with docs/inputs, and prints what the page says.

Commands that cannot run here are marked in the pages, and parsed: their verbs and options exist, and the messages that pages show are
in the source. `./sd21` is toyworld's bundle here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sd2rt.cli.main import main
from tests.docs.pages import PAGES, ROOT, Block, printed, read_page
from tests.docs.parsing import CHECKS, parse_line, unsaid, words

Capture = pytest.CaptureFixture[str]
QUIET = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
BY_SHELL = re.compile(r"[|<>;&]")
WITH_PAGES = [page for page in PAGES if read_page(page)]
names = pytest.mark.parametrize("page", WITH_PAGES, ids=lambda page: page.stem)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of engines that all pages share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_world(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder with docs/inputs, with an own home and cache, no network and no GPU."""
    shutil.copytree(ROOT / "docs/inputs", tmp_path / "docs/inputs")
    (tmp_path / "sd21").symlink_to(ROOT / "toyworld/bundle")  # the bundle of SD2 that the pages have
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("SD2RT_", "HF_", "XDG_"))]:
        monkeypatch.delenv(name)
    for name, value in {**QUIET, "SD2RT_CACHE": str(cache), "HOME": str(tmp_path / "home")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def servers() -> Iterator[list[subprocess.Popen[str]]]:
    """The servers that a page starts; they end with it."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for server in started:
        server.terminate()
    for server in started:
        try:
            server.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            server.kill()
            server.communicate()
    assert [server.returncode for server in started] == [0] * len(started)


@names
def test_every_command_runs_and_prints_what_the_page_says(
    page: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch, servers: list[subprocess.Popen[str]]
) -> None:
    wrong: list[str] = []
    for block in read_page(page):
        if block.kind.startswith("file "):
            file = Path(block.kind.removeprefix("file "))
            file.parent.mkdir(exist_ok=True)
            file.write_text(block.text)
        elif block.kind == "python" and not block.not_run:
            exec(compile(block.text, f"{page.name}:{block.line}", "exec"), {"__name__": "page"})
        elif not block.not_run:
            wrong += run_block(block, capfd, monkeypatch, servers)
    assert not wrong, f"{page.relative_to(ROOT)}:\n" + "\n".join(wrong)


@names
def test_what_cannot_run_here_is_parsed(page: Path) -> None:
    """Skipped at its end where there is something, so that a run lists it."""
    blocks = [block for block in read_page(page) if block.not_run]
    unrun = [(re.sub(" +#.*", "", command), block.not_run) for block in blocks for command in block.commands]
    for command, _ in unrun:
        assert parse_line(command) == "", f"{page.name}: {command}"
    for message in (line for block in blocks for lines in block.expected for line in lines):
        assert not unsaid(message), f"{page.name}: {message}"
    if unrun:
        reasons = dict.fromkeys(reason for _, reason in unrun)
        listed = "; ".join(f"{why}: {', '.join(command for command, reason in unrun if reason == why)}" for why in reasons)
        pytest.skip(f"{page.relative_to(ROOT)}, parsed and not run: {listed}")


def run_block(block: Block, capfd: Capture, monkeypatch: pytest.MonkeyPatch, servers: list[subprocess.Popen[str]]) -> list[str]:
    """Run a block's commands, and say what went wrong: a failure that is not shown, or a line that was not printed.

    `sd2rt serve ... &` is put to `servers` and is waited for until it says where it listens.
    """
    wrong = []
    for command, expected in zip(block.commands, block.expected, strict=True):
        if not words(command) or words(command)[0] in CHECKS:
            problem = parse_line(command)
            wrong += [f"line {block.line}: {command}\n  {problem}"] if problem else []
            continue
        capfd.readouterr()
        if words(command)[:2] == ["sd2rt", "serve"] and words(command)[-1] == "&":
            servers.append(start_server(words(command)[2:-1]))
            code = 0
        else:
            code = run_by_shell(command) if BY_SHELL.search(bare(command)) else run_here(command, monkeypatch)
        output = "".join(capfd.readouterr())
        missing = [line for line in expected if not printed(line, output)]
        if missing or (code and not expected):
            wrong.append(f"line {block.line}: {command}\n  exit {code}; not printed: {missing}; printed:\n{output}")
    return wrong


def bare(command: str) -> str:
    """Return a command without what is quoted and its comment: what is left of a shell's own characters counts."""
    return re.sub(r"'[^']*'|\"[^\"]*\"| #.*", "", command)


def run_here(command: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run `[NAME=VALUE ...] sd2rt ...` in this process, where engines are cached; any other program by its name."""
    arguments = words(command)
    with monkeypatch.context() as environment:
        while re.match(r"[A-Z][A-Z0-9_]*=", arguments[0]):
            environment.setenv(*arguments.pop(0).split("=", 1))
        if arguments[0] == "sd2rt":
            return main(arguments[1:])
        if arguments[0] == "export" and len(arguments) == 2:
            monkeypatch.setenv(*arguments[1].split("=", 1))  # for the rest of the page
            return 0
        return subprocess.run(arguments, check=False).returncode


def start_server(options: list[str]) -> subprocess.Popen[str]:
    """Start a server in a process of its own, and show what it says first."""
    command = [sys.executable, "-m", "sd2rt.cli", "serve", *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    print(server.stdout.readline(), end="", flush=True)
    return server


def run_by_shell(command: str) -> int:
    """Run a line with pipes or redirections."""
    return subprocess.run(["bash", "-c", command], check=False).returncode


def test_a_failure_that_the_page_does_not_show_is_found(capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    block = Block(kind="shell", line=1, commands=["sd2rt info nowhere"], expected=[[]])
    assert len(run_block(block, capfd, monkeypatch, [])) == 1
    block.expected = [["sd2rt: no bundle folder at ..."]]
    assert len(run_block(block, capfd, monkeypatch, [])) == 1
