"""Which targets this machine can run, and why not the others. Looks at what is installed; imports none of it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from importlib.util import find_spec

from sd2rt.engine.cpu import cpu_count, cpu_name
from sd2rt.engine.errors import InvalidArgument, TargetUnavailable

TARGETS = ("tensorrt", "tensorrt-rtx", "cuda", "openvino", "cpu")  # in the order that `auto` prefers them
ONNX_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")  # two distributions of one import name


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetStatus:
    """Whether a target works here. `detail` is one line: its version and device, or why not and what to do."""

    name: str
    works: bool
    detail: str


def probe_targets() -> tuple[TargetStatus, ...]:
    """Look at every target, in the order that `auto` prefers them."""
    return tuple(_status(name) for name in TARGETS)


def resolve_target(name: str) -> TargetStatus:
    """Return the status of a target that works: the one named, or the best for "auto".

    Raises InvalidArgument for an unknown name and TargetUnavailable when it, or for "auto" every target, does not work.
    """
    return _status(choose_target(name))


def choose_target(name: str) -> str:
    """Return the name of the target that `resolve_target` would, without looking up its version. Raises as that does."""
    if name != "auto" and name not in TARGETS:
        raise InvalidArgument(f"target: got {name!r}; expected auto or one of {', '.join(TARGETS)}")
    obstacle = ""
    for candidate in TARGETS if name == "auto" else (name,):
        obstacle = _obstacle(candidate)
        if not obstacle:
            return candidate
    raise TargetUnavailable(f"target {name}: {obstacle}")


def _status(name: str) -> TargetStatus:
    obstacle = _obstacle(name)
    return TargetStatus(name=name, works=not obstacle, detail=obstacle or f"{_onnxruntime()} on {cpu_name()}, {cpu_count()} cores")


def _obstacle(name: str) -> str:
    """Say why a target does not work here and what to do; "" when it works."""
    if name != "cpu":
        return "this version of sd2rt has no backend for it; use cpu"
    if find_spec("onnxruntime") is None:
        return "onnxruntime is not installed: pip install 'sd2rt[cpu]'"
    return ""


def _onnxruntime() -> str:
    """Return "onnxruntime 1.32.0"; where both distributions are installed, which spoils them, say so."""
    import importlib.metadata  # 15 ms that painting a picture does not need

    found = []
    for distribution in ONNX_RUNTIMES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{distribution} {importlib.metadata.version(distribution)}")
    if len(found) > 1:
        return f"{' and '.join(found)} (they overwrite each other's files: uninstall both, then install one)"
    return found[0] if found else "onnxruntime"
