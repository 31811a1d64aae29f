"""Saving outputs in Polygraphy's format where polygraphy is not installed; where it is, `sd2rt verify`'s tests read them back."""

import sys
from pathlib import Path

import numpy as np
import pytest

from sd2rt.engine.errors import MissingDependency
from sd2rt.engine.run_results import save_run_results


def test_without_polygraphy_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polygraphy.comparator", None)
    with pytest.raises(MissingDependency, match=r"needs polygraphy: pip install 'sd2rt\[tensorrt\]'"):
        save_run_results(tmp_path / "unet.json", {"cpu": {"out_sample": np.zeros(3)}})
    assert not list(tmp_path.iterdir())
