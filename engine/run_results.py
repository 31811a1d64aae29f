"""Engines' outputs in Polygraphy's format, for its tools (`polygraphy data`, `polygraphy inspect data`, `polygraphy run --load-outputs`).

The only module that imports polygraphy, and only to write arrays: it never sees a plan, since it would let host code in one run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from sd2rt.engine.errors import MissingDependency

Outputs = Mapping[str, npt.NDArray[Any]]


def save_run_results(path: Path, runs: Mapping[str, Outputs]) -> None:
    """Write the outputs of each named run to one JSON file. Raises MissingDependency, OSError."""
    try:
        from polygraphy.comparator import RunResults
    except ImportError as error:
        raise MissingDependency("saving outputs for Polygraphy needs polygraphy: pip install 'sd2rt[tensorrt]'") from error
    results = RunResults()
    for name, outputs in runs.items():
        results.add([dict(outputs)], runner_name=name)
    results.save(str(path))
