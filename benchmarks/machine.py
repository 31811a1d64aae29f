"""What a figure was measured on: the machine, the libraries and the commit. Knows no benchmark."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("sd2rt", "numpy", "onnxruntime", "onnx", "torch", "diffusers", "transformers", "tokenizers", "pillow")
LIBRARIES += ("onnxruntime-gpu", "tensorrt", "tensorrt-rtx-cu13-bindings", "cuda-bindings")


def conditions() -> dict[str, object]:
    """Describe machine, libraries, commit and date as plain JSON values."""
    return {
        "machine": {
            "cpu": cpu_name(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "system": platform.platform(),
            "load_average": os.getloadavg(),
        },
        "versions": {"python": platform.python_version(), **{name: version for name in LIBRARIES if (version := installed_version(name))}},
        "commit": git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(git("status", "--porcelain", "--untracked-files=no")),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def cpu_name() -> str:
    """Return the processor's model name, as Linux gives it, else what Python knows."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def installed_version(distribution: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def git(*arguments: str) -> str:
    """Return what a git command says about this repository, or an empty string outside of one."""
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()
