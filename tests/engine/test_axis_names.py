"""The names of axes, from a graph to a manifest and back."""

from dataclasses import replace
from pathlib import Path

import pytest
from onnx import helper

from sd2rt.engine.axis_names import axis_names, read_axis_names, read_ranges
from sd2rt.engine.errors import EngineError
from sd2rt.engine.manifest import Manifest, read_manifest, write_manifest
from tests.engine.graphs import graph

MANIFEST = Manifest(key="k", component="unet", target="tensorrt", fields={}, files={}, build_seconds=0.0, created="", sd2rt="")


def test_names_come_back_from_a_manifest(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "bias"], ["y"])]
    model = graph(nodes, [("x", "float32", ["batch", 4, None])], [("y", "float32", ["batch", 4, None])], infer=False)  # type: ignore[list-item]
    model.graph.initializer.append(helper.make_tensor("bias", 1, [1], [0.0]))
    model.graph.input.append(helper.make_tensor_value_info("bias", 1, [1]))  # as old graphs list weights
    assert axis_names(model) == {"x": ["batch", "4", "?"], "y": ["batch", "4", "?"]}
    write_manifest(tmp_path, replace(MANIFEST, notes={"tensors": axis_names(model)}))
    assert read_axis_names(read_manifest(tmp_path)) == {"x": ("batch", 4, "x.2"), "y": ("batch", 4, "y.2")}


def test_sizes_that_an_engine_was_built_for_are_in_its_manifest() -> None:
    assert read_ranges(replace(MANIFEST, fields={"axes": {"batch": [1, 2, 4]}})) == {"batch": (1, 2, 4)}
    assert read_ranges(MANIFEST) == {}


def test_a_tensor_without_axes_has_none() -> None:
    model = graph([helper.make_node("Identity", ["x"], ["y"])], [("x", "float32", [])], [("y", "float32", [])])
    assert axis_names(model) == {"x": [], "y": []}


@pytest.mark.parametrize("notes", [{}, {"tensors": 3}, {"tensors": {"x": "batch"}}])
def test_a_manifest_without_names_says_what_to_do(notes: dict[str, object]) -> None:
    with pytest.raises(EngineError, match="unet: got an engine whose manifest does not name its axes; build it again: sd2rt engines prune"):
        read_axis_names(replace(MANIFEST, notes=notes))  # type: ignore[arg-type]
