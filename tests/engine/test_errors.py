import pytest

from sd2rt.engine import errors

PARENTS = {
    "InvalidArgument": (errors.Sd2rtError, ValueError),
    "BundleError": (errors.Sd2rtError,),
    "ModelNotFound": (errors.Sd2rtError,),
    "ExportError": (errors.Sd2rtError,),
    "MissingDependency": (errors.Sd2rtError, ImportError),
    "EngineError": (errors.Sd2rtError,),
    "TargetUnavailable": (errors.EngineError,),
    "BuildError": (errors.EngineError,),
    "EngineCacheError": (errors.EngineError,),
}


@pytest.mark.parametrize(("name", "parents"), PARENTS.items())
def test_error_stands_where_the_tree_says(name: str, parents: tuple[type[Exception], ...]) -> None:
    assert getattr(errors, name).__bases__ == parents


@pytest.mark.parametrize("name", PARENTS)
def test_docstring_draws_every_error(name: str) -> None:
    assert name in (errors.__doc__ or "")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "[ONNXRuntimeError] : 1 : FAIL : MatMul: bfc_arena.cc:360 Failed to allocate memory for requested buffer of size 8",
            "out of memory; go",
        ),
        ("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception during initialization: std::bad_alloc", "out of memory; go"),
        ("CUDA failure 2: out of memory ; GPU=0", "out of memory; go"),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED", "out of memory; go"),
        ("Non-zero status code\nfailed to allocate memory", "Non-zero status code"),
        ("", "RuntimeError"),
    ],
)
def test_want_of_memory_is_named(said: str, expected: str) -> None:
    assert errors.reason(RuntimeError(said), "go") == expected


def test_pythons_own_want_of_memory_is_named() -> None:
    assert errors.reason(MemoryError(), "go") == "out of memory; go"
