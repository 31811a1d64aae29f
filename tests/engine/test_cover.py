from collections.abc import Mapping
from typing import Any

import pytest

from sd2rt.engine.cover import covers
from sd2rt.engine.manifest import Field

AXES = {"images": [1, 1, 1], "height": [64, 64, 64]}
RTX_4090 = {"name": "RTX 4090", "capability": "sm89", "driver": 13010}
TUNING: dict[str, Field] = {"optimization_level": 3, "workspace_bytes": None, "weight_streaming": False, "low_memory": False}
GPUS: dict[str, Field] = {"compute_capabilities": ["sm89"], "gpu": None}
BASE: dict[str, Field] = {"backend": "1.7", "files": {"model.onnx": "0" * 64}, "axes": AXES, **GPUS, **TUNING}


def fields(**changes: Any) -> Mapping[str, Field]:
    return {**BASE, **changes}


@pytest.mark.parametrize(
    ("found", "covered"),
    [
        ({"images": [1, 1, 1], "height": [64, 64, 64]}, True),
        ({"images": [1, 2, 4], "height": [32, 80, 96]}, True),
        ({"images": [1, 1, 1], "height": [64, 80, 96]}, True),
        ({"images": [2, 2, 4], "height": [64, 64, 64]}, False),
        ({"images": [1, 1, 1], "height": [32, 48, 48]}, False),
        ({"images": [1, 1, 1]}, False),
        ({"images": [1, 1, 1], "height": [64, 64, 64], "width": [8, 8, 8]}, False),
        (None, False),
    ],
)
def test_every_size_asked_for_must_be_among_those_built_for(found: Any, covered: bool) -> None:
    assert covers(fields(axes=found), fields()) is covered


@pytest.mark.parametrize(
    ("found", "wanted", "covered"),
    [
        (["sm89"], ["sm89"], True),
        (["sm86", "sm89"], ["sm89"], True),
        (["sm86"], ["sm89"], False),
        (["sm86"], ["sm86", "sm89"], False),
        (["portable"], ["sm86", "sm120"], True),
        (["portable"], ["sm75"], False),
        (["portable"], ["sm90"], False),
        (["portable"], ["portable"], True),
        (["sm80", "sm86", "sm89", "sm120"], ["portable"], False),
        ([], ["sm89"], False),
        (None, ["sm89"], False),
    ],
)
def test_every_gpu_asked_for_must_be_among_those_built_for(found: Any, wanted: list[str], covered: bool) -> None:
    assert covers(fields(compute_capabilities=found), fields(compute_capabilities=wanted)) is covered


@pytest.mark.parametrize(
    ("found", "covered"),
    [
        ({"compute_capabilities": ["sm89"]}, True),
        ({"compute_capabilities": ["portable"]}, True),
        ({"compute_capabilities": ["sm86"]}, False),
        ({"compute_capabilities": [], "gpu": RTX_4090}, True),
        ({"compute_capabilities": [], "gpu": {**RTX_4090, "driver": 13000}}, False),
    ],
)
def test_engine_that_names_this_machines_gpu_does_for_it(found: Mapping[str, Any], covered: bool) -> None:
    assert covers(fields(**found), fields(compute_capabilities=[], gpu=RTX_4090)) is covered


def test_engine_for_one_machine_does_for_no_named_gpu() -> None:
    assert not covers(fields(compute_capabilities=[], gpu=RTX_4090), fields())


@pytest.mark.parametrize("change", [{"backend": "1.8"}, {"files": {"model.onnx": "1" * 64}}, {"more": 1}])
def test_all_else_must_be_equal(change: Mapping[str, Any]) -> None:
    assert not covers(fields(**change), fields())
    assert not covers(fields(), fields(**change))


@pytest.mark.parametrize(
    ("found", "wanted", "covered"),
    [
        ({"low_memory": True}, {}, True),
        ({"workspace_bytes": 1 << 20}, {}, True),
        ({}, {"low_memory": True, "workspace_bytes": 1 << 20}, True),
        ({"weight_streaming": True}, {}, True),
        ({}, {"weight_streaming": True}, False),
        ({"optimization_level": 5}, {}, True),
        ({"optimization_level": 0}, {}, True),
        ({"optimization_level": 5}, {"optimization_level": 4}, True),
        ({"optimization_level": 3}, {"optimization_level": 4}, False),
        ({"optimization_level": 2}, {"optimization_level": 1}, True),
        ({"optimization_level": None}, {}, False),
    ],
)
def test_how_an_engine_was_built_is_no_obstacle_to_the_usual_request(
    found: Mapping[str, Any], wanted: Mapping[str, Any], covered: bool
) -> None:
    assert covers(fields(**found), fields(**wanted)) is covered


def test_engines_without_sizes_cover_none_but_their_own_key() -> None:
    assert not covers({"target": "cpu"}, {"target": "cpu"})
