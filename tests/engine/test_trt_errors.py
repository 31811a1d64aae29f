"""Messages are TensorRT's own, as its library has them."""

import pytest

from sd2rt.engine.errors import BuildError, EngineError, TargetUnavailable
from sd2rt.engine.trt_errors import LONGEST, build_failure, load_failure, quote

NO_DRIVER = (
    "Error Code 1: Cuda Runtime (In generateForCurrent (cudaError 35: CUDA driver version is insufficient for CUDA runtime version))"
)
TURING = "Cannot compile operation 'node_MatMul_19' for Turing (SM75): FP32 GEMM is not supported."


@pytest.mark.parametrize(
    ("said", "kind", "expected"),
    [
        (
            "Unexpected exception std::bad_alloc",
            BuildError,
            "memory ran out while its engine was built .+try --low-memory, a smaller --size",
        ),
        ("[tensor.cpp] Error Code 2: OutOfMemory (Requested size was 1 bytes)", BuildError, "memory ran out"),
        ("cannot allocate memory for thread-local data: ABORT", BuildError, "memory ran out"),
        (NO_DRIVER, TargetUnavailable, r"needs an NVIDIA GPU with a driver for CUDA 13 \(580 or newer on Linux\); TensorRT says: Error"),
        (
            TURING,
            BuildError,
            "TensorRT-RTX cannot build it for one of the GPUs asked for .+leave it out of --compute-capability, or use --target cuda",
        ),
        ("Error Code 4: API Usage Error (no)", BuildError, r"TensorRT cannot build the engine: Error Code 4: API Usage Error \(no\)$"),
        ("", BuildError, "TensorRT cannot build the engine: it gives no reason$"),
    ],
)
def test_failed_build_says_why_and_what_to_do(said: str, kind: type[EngineError], expected: str) -> None:
    error = build_failure("unet", said)
    assert type(error) is kind
    with pytest.raises(kind, match=f"^unet: {expected}"):
        raise error


@pytest.mark.parametrize(
    ("said", "kind", "expected"),
    [
        (
            "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion failed. Version tag does not match. "
            "Note: Current Version: 240, Serialized Engine Version: 239)",
            EngineError,
            r"the engine was built by another version of TensorRT \(.+Engine Version: 239\)\); build it again: sd2rt engines prune",
        ),
        ("TensorRT plan major version does not match runtime major version.", EngineError, "the engine was built by another version"),
        ("The engine cannot run on this GPU, which has compute capability 8.9", EngineError, "the engine was built for another GPU"),
        ("Cuda Runtime (out of memory)", EngineError, "the GPU has not enough free memory .+close other programs .+smaller --size"),
        (NO_DRIVER, TargetUnavailable, "needs an NVIDIA GPU with a driver"),
        ("UNSUPPORTED_CC", EngineError, "the engine was built for another GPU"),
        ("VERSION_MISMATCH", EngineError, "the engine was built by another version"),
        ("INSUFFICIENT_GPU_MEMORY", EngineError, "the GPU has not enough free memory"),
        ("OLD_CUDA_DRIVER", TargetUnavailable, "needs an NVIDIA GPU with a driver"),
        ("something else", EngineError, "TensorRT cannot load the engine: something else$"),
    ],
)
def test_failed_load_says_why_and_what_to_do(said: str, kind: type[EngineError], expected: str) -> None:
    error = load_failure("unet", said)
    assert type(error) is kind
    with pytest.raises(kind, match=f"^unet: {expected}"):
        raise error


def test_words_are_cut_to_one_line_of_a_readable_length() -> None:
    assert quote("a\n  b") == "a b"
    assert (len(quote("x" * 1000)), quote("x" * 1000)[-4:]) == (LONGEST, "x...")
