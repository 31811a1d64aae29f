"""Check and cast what is fed to an engine, with messages that name the tensor: the same for every backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import InvalidArgument
from sd2rt.engine.spec import TensorSpec

UNNAMED = "?"  # an axis that may vary and need not agree with any other


def check_feeds(engine: str, inputs: tuple[TensorSpec, ...], feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Return the feeds in the inputs' dtypes. Axes of one name must agree across all inputs.

    Raises InvalidArgument for a missing or unknown name, a wrong shape, or floats where integers are expected.
    """
    names = [spec.name for spec in inputs]
    if set(feeds) != set(names):
        raise InvalidArgument(f"{engine}: got inputs {', '.join(sorted(feeds)) or 'none'}; expected {', '.join(names)}")
    sizes: dict[str, int] = {}
    for spec in inputs:
        _check_shape(engine, spec, feeds[spec.name].shape, sizes)
    return {spec.name: _cast(engine, spec, feeds[spec.name]) for spec in inputs}


def _check_shape(engine: str, spec: TensorSpec, got: tuple[int, ...], sizes: dict[str, int]) -> None:
    """Compare a shape with what is expected; `sizes` collects what named axes were so far."""
    expected = tuple(sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in spec.shape)
    matches = len(got) == len(expected) and all(isinstance(want, str) or have == want for have, want in zip(got, expected, strict=True))
    if not matches:
        wanted = ", ".join(str(dim) for dim in expected)
        raise InvalidArgument(f"{engine}: got {spec.name} of shape {got}; expected ({wanted})")
    sizes.update({dim: have for dim, have in zip(spec.shape, got, strict=True) if isinstance(dim, str) and dim != UNNAMED})


def _cast(engine: str, spec: TensorSpec, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if not np.can_cast(array.dtype, spec.dtype, "same_kind"):
        raise InvalidArgument(f"{engine}: got {spec.name} of {array.dtype}; expected {spec.dtype}")
    return np.ascontiguousarray(array, dtype=spec.dtype)
