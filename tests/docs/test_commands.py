"""Every command of the README and the guides runs, in an empty folder with docs/inputs, and prints what the page says.

Commands that cannot run here are marked in the pages, and parsed: their verbs and options exist, and the messages that pages show are
in the source. `./sd21` is toyworld's bundle here.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from functools import cache as cache_result
from pathlib import Path

import click
import pytest

from sd2rt.cli.console import Console
from sd2rt.cli.main import main, sd2rt
from sd2rt.engine.errors import InvalidArgument
from tests.docs.pages import PAGES, ROOT, Block, join_lines, printed, read_page

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


@names
def test_every_command_runs_and_prints_what_the_page_says(page: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: list[str] = []
    for block in read_page(page):
        if block.kind.startswith("file "):
            file = Path(block.kind.removeprefix("file "))
            file.parent.mkdir(exist_ok=True)
            file.write_text(block.text)
        elif block.kind == "python" and not block.not_run:
            exec(compile(block.text, f"{page.name}:{block.line}", "exec"), {"__name__": "page"})
        elif not block.not_run:
            wrong += run_block(block, capfd, monkeypatch)
    assert not wrong, f"{page.relative_to(ROOT)}:\n" + "\n".join(wrong)


@names
def test_what_cannot_run_here_is_parsed(page: Path) -> None:
    """Skipped at its end where there is something, so that a run lists it."""
    blocks = [block for block in read_page(page) if block.not_run]
    unrun = [(re.sub(" +#.*", "", command), block.not_run) for block in blocks for command in block.commands]
    for command, _ in unrun:
        assert parse_shell_line(command) == "", f"{page.name}: {command}"
    for message in (line for block in blocks for lines in block.expected for line in lines):
        assert not unsaid(message), f"{page.name}: {message}"
    if unrun:
        reasons = dict.fromkeys(reason for _, reason in unrun)
        listed = "; ".join(f"{why}: {', '.join(command for command, reason in unrun if reason == why)}" for why in reasons)
        pytest.skip(f"{page.relative_to(ROOT)}, parsed and not run: {listed}")


def run_block(block: Block, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run a block's commands, and say what went wrong: a failure that is not shown, or a line that was not printed."""
    wrong = []
    for command, expected in zip(block.commands, block.expected, strict=True):
        if not words(command) or words(command)[0] in CHECKS:
            problem = parse_shell_line(command)
            wrong += [f"line {block.line}: {command}\n  {problem}"] if problem else []
            continue
        capfd.readouterr()
        code = run_by_shell(command) if BY_SHELL.search(bare(command)) else run_here(command, monkeypatch)
        output = "".join(capfd.readouterr())
        missing = [line for line in expected if not printed(line, output)]
        if missing or (code and not expected):
            wrong.append(f"line {block.line}: {command}\n  exit {code}; not printed: {missing}; printed:\n{output}")
    return wrong


def unsaid(message: str) -> list[str]:
    """Return the parts of a message, between colons and what stands for values, that are in no string of the sources."""
    parts = [part.strip(" ;:()") for part in re.split(r"\.\.\.|: ", message.removeprefix("sd2rt: "))]
    return [part for part in parts if not any(part in text for text in source_strings())]


@cache_result
def source_strings() -> tuple[str, ...]:
    """Return every string of the packages' sources; an f-string's parts one by one."""
    trees = [ast.parse(path.read_text()) for folder in ("cli", "engine", "runtime", "export") for path in (ROOT / folder).glob("*.py")]
    return tuple(node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def words(command: str) -> list[str]:
    """Return a command's words, without a comment."""
    return shlex.split(command, comments=True)


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


def run_by_shell(command: str) -> int:
    """Run a line with pipes or redirections."""
    return subprocess.run(["bash", "-c", command], check=False).returncode


def parse_shell_line(command: str) -> str:
    """Return what is wrong with a line that is not run, or nothing: its verb, options, extras or targets do not exist."""
    arguments = words(command)
    while arguments and re.match(r"[A-Z][A-Z0-9_]*=", arguments[0]):
        arguments.pop(0)
    if not arguments:
        return ""
    if arguments[0] == "sd2rt":
        return parse(arguments[1:])
    check = CHECKS.get(arguments[0])
    return check(arguments[1:]) if check else f"no command that this test knows: {arguments[0]}"


def parse(arguments: list[str]) -> str:
    """Parse the arguments of sd2rt as click does before it calls a verb, and return what it says against them."""
    command: click.Command = sd2rt
    above = click.Context(sd2rt, info_name="sd2rt", obj=Console(), **sd2rt.context_settings)
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
        if name not in command.commands:
            return f"no such verb: {name}"
        command = command.commands[name]
    try:
        command.make_context(command.name, arguments, parent=above)
    except click.exceptions.Exit:
        return ""  # --help and --version say what they have to while they are parsed
    except (click.ClickException, InvalidArgument) as error:
        return str(error)
    return ""


def check_pip(arguments: list[str]) -> str:
    """Check that the extras of `pip install '.[a,b]'` exist."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = re.findall(r"(?:\.|sd2rt)\[([a-z0-9,-]+)\]", " ".join(arguments))
    unknown = {name for group in asked for name in group.split(",")} - set(extras)
    return f"no such extras: {sorted(unknown)}" if unknown else ""


def check_make(arguments: list[str]) -> str:
    """Check that the targets of `make` exist."""
    makefile = (ROOT / "Makefile").read_text()
    unknown = [name for name in arguments if "=" not in name and not re.search(rf"^{name}:", makefile, re.MULTILINE)]
    return f"no such targets: {unknown}" if unknown else ""


def check_python(arguments: list[str]) -> str:
    """Check that the module of `python -m MODULE`, or the file of `python FILE`, exists."""
    if arguments[:1] == ["-m"]:
        return "" if arguments[1] == "venv" or importlib.util.find_spec(arguments[1]) else f"no such module: {arguments[1]}"
    return "" if (ROOT / arguments[0]).is_file() else f"no such file: {arguments[0]}"


CHECKS = {"pip": check_pip, "make": check_make, "python": check_python, "git": lambda arguments: "", "cd": lambda arguments: ""}
"""Programs that are not run from a page, and what is checked of them instead."""


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("sd2rt generate prompt --steps 5 -n 2", ""),
        ("HF_HUB_OFFLINE=1 sd2rt engines list --json", ""),
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
    found = parse_shell_line(command)
    assert (wrong in found) if wrong else not found


def test_a_failure_that_the_page_does_not_show_is_found(capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    block = Block(kind="shell", line=1, commands=["sd2rt info nowhere"], expected=[[]])
    assert len(run_block(block, capfd, monkeypatch)) == 1
    block.expected = [["sd2rt: no bundle folder at ..."]]
    assert len(run_block(block, capfd, monkeypatch)) == 1


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
