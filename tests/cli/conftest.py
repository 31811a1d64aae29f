"""The command line on the embedded model, with an engine cache of the test run's own."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sd2rt.cli import paint as painting
from sd2rt.cli.main import main
from sd2rt.runtime import loading
from sd2rt.runtime.models import find_model
from tests.cli.pictures import write_pictures

MODEL = "toyworld"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that all tests share, so that engines are built once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_world(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in an empty folder, with the shared cache and one thread."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SD2RT_CACHE", str(cache))
    monkeypatch.setenv("SD2RT_MODELS", str(cache.parent / "models-none"))
    monkeypatch.setenv("SD2RT_CONFIG", os.devnull)
    monkeypatch.delenv("SD2RT_DEBUG", raising=False)


@pytest.fixture
def sd2rt(capfd: pytest.CaptureFixture[str]) -> Command:
    """Run one command line in this process."""

    def run(*arguments: str) -> Outcome:
        capfd.readouterr()
        code = main(arguments)
        captured = capfd.readouterr()
        return Outcome(code=code, out=captured.out, err=captured.err)

    return run


@pytest.fixture
def paint(sd2rt: Command) -> Command:
    """Run `generate` with two quick steps."""
    return lambda prompt, *options: sd2rt("generate", prompt, "--model", MODEL, "--steps", "2", "--seed", "7", *options)


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Write picture files of every kind into the test's folder, and return the names there."""
    write_pictures(tmp_path)
    return sorted(path.name for path in tmp_path.iterdir())


@pytest.fixture
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the model's bundle that a test may damage."""
    return Path(shutil.copytree(find_model(MODEL), tmp_path_factory.mktemp("bundle") / "copy"))


@pytest.fixture
def unused_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An engine cache that must not come to be."""
    folder = tmp_path.parent / f"{tmp_path.name}-cache"
    monkeypatch.setenv("SD2RT_CACHE", str(folder))
    return folder


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the test a home and a temporary folder of its own."""
    place = tmp_path_factory.mktemp("places")
    for name in ("home", "temporary"):
        (place / name).mkdir()
    monkeypatch.setenv("HOME", str(place / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(place / "temporary"))
    return place


@pytest.fixture
def opened_engines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the engines that the test opens, as they are opened."""
    opened: list[str] = []
    real = loading.open_engine

    def open_engine(files: Any, *rest: Any) -> Any:
        opened.append(files.name)
        return real(files, *rest)

    monkeypatch.setattr(loading, "open_engine", open_engine)
    return opened


def fill_disk(monkeypatch: pytest.MonkeyPatch, room: Path | None = None) -> None:
    """Let no picture be written but in one folder."""
    open_file = Path.open

    def open_part(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if mode == "xb" and path.absolute().parent != room:
            raise OSError(28, "No space left on device")
        return open_file(path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_part)


def after_painting(monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    """Let something happen between painting and writing."""
    run = painting.run_job

    def run_and_act(*arguments: Any) -> Any:
        result = run(*arguments)
        act()
        return result

    monkeypatch.setattr(painting, "run_job", run_and_act)


def assert_refused(found: Outcome, code: int, words: str) -> None:
    """Check that a command failed with one line on stderr and nothing on stdout."""
    assert (found.code, found.out) == (code, ""), found
    assert found.err.startswith("sd2rt: ")
    assert found.err.count("\n") == 1
    assert words in found.err


def wait_for(process: subprocess.Popen[str], there: Callable[[], object]) -> None:
    """Wait until something is there. Raises AssertionError when the process ends before, or takes more than a minute."""
    begun = time.monotonic()
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() - begun < 60
        time.sleep(0.01)


def start(*arguments: str, blocked: str = "") -> subprocess.Popen[str]:
    """Start the command in a process of its own, in which importing any module named in `blocked` fails."""
    script = "import sys; sys.modules.update(dict.fromkeys(sys.argv.pop(1).split())); from sd2rt.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", script, blocked, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
