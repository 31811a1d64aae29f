"""Settings that no server can work with are refused before it starts."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.serve.settings import Limits, ServeSettings


@pytest.mark.parametrize(
    ("given", "least"),
    [
        ({"workers": 0}, "1"),
        ({"threads": -1}, "0"),
        ({"queue": 0}, "1"),
        ({"batch": 0}, "1"),
        ({"batch_wait_ms": -0.5}, "0"),
        ({"memory_bytes": -1}, "0"),
        ({"results_s": 0.0}, "0.001"),
        ({"results_bytes": -1}, "0"),
        ({"drain_s": math.nan}, "0"),
        ({"drain_s": math.inf}, "0"),
        ({"port": -1}, "0"),
    ],
)
def test_numbers_out_of_range(given: dict[str, Any], least: str) -> None:
    ((name, value),) = given.items()
    with pytest.raises(InvalidArgument, match=f"^{name}: got {value}; expected at least {least}$"):
        ServeSettings(**given)


@pytest.mark.parametrize("name", ["images", "steps", "prompt_characters", "body_bytes", "upload_pixels", "native_squares"])
def test_limits_that_allow_nothing(name: str) -> None:
    with pytest.raises(InvalidArgument, match=f"{name}: got 0; expected at least 1"):
        Limits(**{name: 0})


def test_no_models() -> None:
    with pytest.raises(InvalidArgument, match="models: got none"):
        ServeSettings(models=())
