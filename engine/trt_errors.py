"""What TensorRT's own messages mean, and what to do: each cause its own error. Knows only text."""

from __future__ import annotations

import re

from sd2rt.engine.errors import BuildError, EngineError, TargetUnavailable
from sd2rt.engine.trt_library import DRIVER

# words of log messages, and TensorRT-RTX's names of what is wrong with a plan
MEMORY = re.compile(
    r"OutOfMemory|out of memory|bad_alloc|MemoryError|cannot allocate memory|FAILED_ALLOCATION|INSUFFICIENT_GPU_MEMORY|cudaError 2\b",
    re.IGNORECASE,
)
NO_DRIVER = re.compile(
    r"cudaError (35|100)\b|driver version is insufficient|no CUDA-capable device|Cannot load CUDA driver|OLD_CUDA_DRIVER", re.IGNORECASE
)
VERSION = re.compile(
    r"(Version|Magic) tag does not match|does not match (the )?runtime|serialization version|VERSION_MISMATCH", re.IGNORECASE
)
OTHER_GPU = re.compile(
    r"cannot run on this GPU|not compatible with this|different (GPU|device)|support this compute capability|UNSUPPORTED_CC", re.IGNORECASE
)
NO_KERNEL = re.compile(r"Cannot compile operation .* for \w+ \(SM\d+\)")  # Turing has no float32 matrix products, for one
LONGEST = 300  # characters of TensorRT's own words in a message of ours


def build_failure(component: str, said: str) -> EngineError:
    """Return the error of a build that failed with these words of TensorRT's."""
    words = quote(said)
    if MEMORY.search(said):
        remedy = "try --low-memory, a smaller --size or --batch, or free memory"
        return BuildError(f"{component}: memory ran out while its engine was built ({words}); {remedy}")
    if NO_DRIVER.search(said):
        return no_driver(component, words)
    if NO_KERNEL.search(said):
        remedy = "leave it out of --compute-capability, or use --target cuda there"
        return BuildError(f"{component}: TensorRT-RTX cannot build it for one of the GPUs asked for ({words}); {remedy}")
    return BuildError(f"{component}: TensorRT cannot build the engine: {words}")


def load_failure(component: str, said: str) -> EngineError:
    """Return the error of an engine that TensorRT would not load, with these words."""
    words = quote(said)
    if MEMORY.search(said):
        remedy = "close other programs that use it, or build with a smaller --size or --batch, or --weight-streaming"
        return EngineError(f"{component}: the GPU has not enough free memory for the engine ({words}); {remedy}")
    if NO_DRIVER.search(said):
        return no_driver(component, words)
    again = "build it again: sd2rt engines prune --all, then sd2rt build"
    if VERSION.search(said):
        return EngineError(f"{component}: the engine was built by another version of TensorRT ({words}); {again}")
    if OTHER_GPU.search(said):
        return EngineError(f"{component}: the engine was built for another GPU ({words}); {again}")
    return EngineError(f"{component}: TensorRT cannot load the engine: {words}")


def no_driver(component: str, words: str) -> TargetUnavailable:
    """Return the error of a machine whose GPU cannot be reached."""
    return TargetUnavailable(f"{component}: needs an NVIDIA GPU with {DRIVER}; TensorRT says: {words}")


def quote(said: str) -> str:
    """Cut TensorRT's words to one line."""
    line = " ".join(said.split()) or "it gives no reason"
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."
