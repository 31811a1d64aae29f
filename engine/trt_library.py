"""TensorRT and TensorRT-RTX, which have one API, as one module: found, loaded and checked. The only module that imports either.

    tensorrt        `import tensorrt`, 11 or newer
    tensorrt-rtx    `import tensorrt_rtx_bindings`, after its shared libraries: they come in another wheel, `tensorrt_rtx_libs` or
                    ONNX Runtime's plugin, or lie where the system finds them

Knows no engine; `targets` asks it what is installed, which imports nothing.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections import deque
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sd2rt.engine.errors import TargetUnavailable, first_line

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx_bindings"}
OLDEST = {"tensorrt": 11, "tensorrt-rtx": 1}  # major versions
LIBRARIES = {"tensorrt": ("libnvinfer.so.11",), "tensorrt-rtx": ("libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1")}
HOLDERS = {
    "tensorrt": ("tensorrt_libs",),
    "tensorrt-rtx": ("tensorrt_rtx_libs", "onnxruntime_ep_nv_tensorrt_rtx"),
}  # packages that carry them
DRIVER = "a driver for CUDA 13 (580 or newer on Linux)"
LD_CACHE = Path("/etc/ld.so.cache")  # where the system's loader looks names up
SMALLEST_LIBRARY_BYTES = 4096  # wheels that cannot hold links have text files in their place
KEPT_MESSAGES = 50
ECHO = "catchCudaError"  # what TensorRT logs once more, without a driver, after every error


def open_library(target: str) -> Any:
    """Return the module of `target`, "tensorrt" or "tensorrt-rtx". Raises TargetUnavailable with the package or library that is missing."""
    if find_spec(MODULES[target]) is None:
        raise TargetUnavailable(f"target {target}: {missing_package(target)}")
    try:
        if target == "tensorrt-rtx" and sys.platform == "linux":
            for name in LIBRARIES[target]:
                ctypes.CDLL(str(find_library(target, name) or name))
        module = _import(target)
    except (ImportError, OSError) as error:
        raise TargetUnavailable(f"target {target}: {MODULES[target]} cannot be loaded ({first_line(error)}); {remedy(target)}") from error
    if int(module.__version__.split(".")[0]) < OLDEST[target]:
        raise TargetUnavailable(f"target {target}: {old_version(target, module.__version__)}")
    return module


def _import(target: str) -> Any:
    if target == "tensorrt":
        import tensorrt

        return tensorrt
    import tensorrt_rtx_bindings

    return tensorrt_rtx_bindings


def missing_package(target: str) -> str:
    """Say that the target's package is missing and what it needs."""
    return f"the package {MODULES[target]} is not installed: {remedy(target)}"


def missing_library(target: str, name: str) -> str:
    """Say that a shared library is missing and what brings it."""
    return f"the library {name} was not found: {remedy(target)}"


def old_version(target: str, version: str) -> str:
    """Say that the target's package is too old."""
    return f"got {MODULES[target]} {version}; expected {OLDEST[target]}.0 or newer: {remedy(target, upgrade=True)}"


def remedy(target: str, upgrade: bool = False) -> str:
    """Say what to install."""
    return f"pip install {'-U ' if upgrade else ''}'sd2rt[{target}]'; running needs an NVIDIA GPU with {DRIVER}"


def find_library(target: str, name: str) -> Path | None:
    """Return a library's file in the packages that carry it or on the library path; None where only the system could know."""
    specs = [spec for spec in map(find_spec, HOLDERS[target]) if spec is not None]
    folders = [*(place for spec in specs for place in spec.submodule_search_locations or ())]
    folders += filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep))
    files = [file for folder in folders for file in sorted(Path(folder).glob(f"{name}*"))]
    return next((file for file in files if file.stat().st_size >= SMALLEST_LIBRARY_BYTES), None)


def lost_library(target: str) -> str | None:
    """Return the name of a library that is neither in a package nor known to the system, without loading any."""
    if sys.platform != "linux":
        return None
    known = LD_CACHE.read_bytes() if LD_CACHE.exists() else b""
    return next((name for name in LIBRARIES[target] if name.encode() not in known and find_library(target, name) is None), None)


@cache  # TensorRT keeps the first logger of a process for all that follow
def open_log(trt: Any) -> Any:
    """Return the logger of a module: it keeps errors and warnings and prints nothing.

    `clear()` forgets them; `reason()` returns the first error since then, which is the cause of those after it, or "".
    """

    class Log(trt.ILogger):  # type: ignore[misc]  # the library has no types
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=KEPT_MESSAGES)
            self.warnings: deque[str] = deque(maxlen=KEPT_MESSAGES)

        def log(self, severity: Any, message: str) -> None:
            levels = trt.ILogger.Severity
            if severity in (levels.INTERNAL_ERROR, levels.ERROR):
                self.errors.append(message)
            elif severity == levels.WARNING:
                self.warnings.append(message)

        def clear(self) -> None:
            self.errors.clear()
            self.warnings.clear()

        def reason(self) -> str:
            told = [message for message in self.errors if ECHO not in message]
            return " ".join(told[0].split()) if told else ""

    return Log()
