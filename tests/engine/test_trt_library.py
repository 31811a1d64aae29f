import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sd2rt.engine import trt_library
from sd2rt.engine.errors import TargetUnavailable
from sd2rt.engine.trt_library import open_library, open_log

DRIVER = "running needs an NVIDIA GPU with a driver for CUDA 13 (580 or newer on Linux)"


@pytest.fixture
def tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Give a function that installs a package `tensorrt` of this source; it is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = sys.modules.pop("tensorrt", None)
    yield lambda source: (tmp_path / "tensorrt.py").write_text(source) and None
    sys.modules.pop("tensorrt", None)
    if before is not None:
        sys.modules["tensorrt"] = before


@pytest.mark.parametrize("version", ["11.0.0", "11.4.0.106", "12.1"])
def test_tensorrt_11_or_newer_is_taken(version: str, tensorrt: Callable[[str], None]) -> None:
    tensorrt(f"__version__ = {version!r}")
    assert open_library("tensorrt").__version__ == version


def test_older_tensorrt_is_refused_with_its_version(tensorrt: Callable[[str], None]) -> None:
    tensorrt("__version__ = '10.13.3.9'")
    expected = "target tensorrt: got tensorrt 10.13.3.9; expected 11.0 or newer: pip install -U 'sd2rt[tensorrt]'"
    with pytest.raises(TargetUnavailable, match=re.escape(expected)):
        open_library("tensorrt")


@pytest.mark.parametrize("error", ["ImportError", "OSError"])
def test_missing_shared_library_says_what_to_install(error: str, tensorrt: Callable[[str], None]) -> None:
    tensorrt(f"raise {error}('libnvinfer.so.11: cannot open shared object file\\nmore')")
    cause = "tensorrt cannot be loaded (libnvinfer.so.11: cannot open shared object file)"
    with pytest.raises(TargetUnavailable, match=re.escape(f"target tensorrt: {cause}; pip install 'sd2rt[tensorrt]'; {DRIVER}")):
        open_library("tensorrt")


@pytest.mark.parametrize(("target", "package"), [("tensorrt", "tensorrt"), ("tensorrt-rtx", "tensorrt_rtx_bindings")])
def test_missing_package_says_what_to_install(target: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # type: ignore[arg-type]  # as Python itself blocks an import
    expected = f"target {target}: the package {package} is not installed: pip install 'sd2rt[{target}]'; {DRIVER}"
    with pytest.raises(TargetUnavailable, match=re.escape(expected)):
        open_library(target)


def test_damaged_shared_library_says_what_to_install(rtx: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "holder").mkdir()
    (tmp_path / "holder" / "libtensorrt_rtx.so.1").write_bytes(b"x" * 5000)
    monkeypatch.setitem(trt_library.HOLDERS, "tensorrt-rtx", ("holder",))
    with pytest.raises(TargetUnavailable, match=r"tensorrt_rtx_bindings cannot be loaded \(.+invalid ELF header\); pip install"):
        open_library("tensorrt-rtx")


def test_file_that_stands_for_a_link_is_not_taken_for_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some wheels have a text file where the link libx.so.1 should be; the library is then libx.so.1.7.1."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    (tmp_path / "libx.so.1").write_text("libx.so.1.7.1")
    assert trt_library.find_library("tensorrt", "libx.so.1") is None
    (tmp_path / "libx.so.1.7.1").write_bytes(b"x" * 5000)
    assert trt_library.find_library("tensorrt", "libx.so.1") == tmp_path / "libx.so.1.7.1"


def test_libraries_of_another_wheel_are_loaded_without_importing_it(rtx: Any) -> None:
    """ONNX Runtime's plugin imports ONNX Runtime and makes links in its own folder."""
    code = "import sys; from sd2rt.engine.trt_library import open_library; open_library('tensorrt-rtx').Builder"
    done = f"{code}; print([name for name in sys.modules if name.startswith('onnxruntime')])"
    assert subprocess.run([sys.executable, "-c", done], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_log_keeps_the_first_error_and_prints_nothing(rtx: Any, capfd: pytest.CaptureFixture[str]) -> None:
    log = open_log(rtx)
    log.clear()
    assert (log.reason(), log is open_log(rtx)) == ("", True)
    levels = rtx.ILogger.Severity
    log.log(levels.INFO, "1 of 3")
    log.log(levels.WARNING, "slow")
    log.log(levels.ERROR, "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime")
    log.log(levels.ERROR, "the\n  cause")
    log.log(levels.INTERNAL_ERROR, "its consequence")
    assert (log.reason(), list(log.warnings)) == ("the cause", ["slow"])
    log.clear()
    assert (log.reason(), list(log.warnings)) == ("", [])
    assert capfd.readouterr() == ("", "")
