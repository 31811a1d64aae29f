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
