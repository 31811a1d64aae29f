"""Which targets this machine can run, and why not the others. Looks at what is installed; imports none of it."""

from __future__ import annotations

import importlib.metadata
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
    return tuple(_probe(name) for name in TARGETS)


def resolve_target(name: str) -> TargetStatus:
    """Return the status of a target that works: the one named, or the best for "auto".

    Raises InvalidArgument for an unknown name and TargetUnavailable when it, or for "auto" every target, does not work.
    """
    if name != "auto" and name not in TARGETS:
        raise InvalidArgument(f"target: got {name!r}; expected auto or one of {', '.join(TARGETS)}")
    statuses = probe_targets() if name == "auto" else (_probe(name),)
    for status in statuses:
        if status.works:
            return status
    raise TargetUnavailable(f"target {name}: {statuses[-1].detail}")


def onnxruntime_version() -> str:
    """Return distribution and version, such as "onnxruntime 1.32.0"; "" when neither is installed."""
    found = []
    for distribution in ONNX_RUNTIMES:
        try:
            found.append(f"{distribution} {importlib.metadata.version(distribution)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return " and ".join(found)


def _probe(name: str) -> TargetStatus:
    if name == "cpu":
        return _probe_cpu()
    version = importlib.metadata.version("sd2rt")
    return TargetStatus(name=name, works=False, detail=f"sd2rt {version} has no backend for it yet; use cpu")


def _probe_cpu() -> TargetStatus:
    if find_spec("onnxruntime") is None:
        return TargetStatus(name="cpu", works=False, detail="onnxruntime is not installed: pip install 'sd2rt[cpu]'")
    version = onnxruntime_version()
    if " and " in version:
        remedy = "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install 'sd2rt[cpu]'"
        return TargetStatus(name="cpu", works=False, detail=f"{version} overwrite each other's files: {remedy}")
    return TargetStatus(name="cpu", works=True, detail=f"{version or 'onnxruntime'} on {cpu_name()}, {cpu_count()} cores")
