"""What the processor is and can do, as far as an engine built for it depends on that."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # "quota period" in microseconds, or "max period": what a container may use
# Prefixes of the flags that ONNX Runtime and OpenVINO choose kernels, and so weight layouts, by.
VECTOR_FLAGS = ("sse4", "avx", "fma", "f16c", "amx", "asimd", "neon", "sve", "sme", "i8mm", "bf16", "fphp")


def cpu_features() -> str:
    """Return the architecture and its vector extensions, such as "x86_64 avx avx2 f16c fma": the same text on the same kind of CPU."""
    fields = _cpuinfo()
    flags = (fields.get("flags") or fields.get("features") or "").split()
    return " ".join([platform.machine(), *sorted({flag for flag in flags if flag.startswith(VECTOR_FLAGS)})])


def cpu_name() -> str:
    """Return the processor's own name, or the architecture where the system does not tell."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def cpu_count() -> int:
    """Return how many cores this process may use, which in a container is often fewer than the machine has."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (int(number) for number in CPU_MAX.read_text().split())
    except (OSError, ValueError):  # no such file, or no limit
        return allowed
    return max(1, min(allowed, math.ceil(quota / period)))


def _cpuinfo() -> dict[str, str]:
    """Return the first processor's fields, keys in lower case; nothing where the system has no such file."""
    try:
        text = CPUINFO.read_text()
    except OSError:
        return {}
    lines = text.split("\n\n", 1)[0].splitlines()
    return {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
