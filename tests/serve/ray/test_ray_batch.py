"""What is said without Ray Data. With it: `test_ray_slow` and tests/cli/test_batch_ray.py."""

import sys

import pytest

from sd2rt.engine.errors import MissingDependency
from sd2rt.serve.ray_batch import _import_data


def test_without_arrow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependency, match=r"--backend ray needs pyarrow: pip install 'sd2rt\[ray\]'"):
        _import_data()
