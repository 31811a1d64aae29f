"""Graphs with layers in int8: which layers, what is written, and that ONNX Runtime and OpenVINO compute it."""

from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper, numpy_helper

from sd2rt.engine.forms import apply_form
from sd2rt.engine.int8_layers import Layer, find_layers, read_model, read_weight, write_observed
from sd2rt.engine.int8_numbers import Window
from sd2rt.engine.lowering import lower_graph
from sd2rt.engine.ort import open_unlowered
from sd2rt.engine.spec import ComponentFiles
from tests.engine.graphs import component, graph, relative_error
from tests.engine.int8_graphs import CHANNELS, CONV, FIRST, SECOND, SHAPE, narrowed, network


def run(files: ComponentFiles, sample: npt.NDArray[Any], dtype: str = "float32") -> npt.NDArray[Any]:
    with closing(open_unlowered(files, threads=1)) as engine:
        return engine.run({"sample": sample.astype(dtype)})["out_sample"]


@pytest.fixture
def sample() -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((2, CHANNELS, 8, 8)).astype(np.float32)


def test_layers_are_found_with_what_they_read(tmp_path: Path) -> None:
    window = Window(kernel=(3, 3), stride=(2, 2), pads=(1, 1, 1, 1))
    assert find_layers(read_model(component(tmp_path, network()))) == (
        Layer(output="c", source="normal", weight=CONV, window=window),
        Layer(output="one", source="rows", weight=FIRST, window=None),
        Layer(output="two", source="rows", weight=SECOND, window=None),
    )


@pytest.mark.parametrize(
    ("node", "shape"),
    [
        (helper.make_node("Conv", ["sample", "w"], ["out_sample"], group=16), (16, 1, 3, 3)),
        (helper.make_node("Conv", ["sample", "w"], ["out_sample"], dilations=[2, 2]), (16, 16, 3, 3)),
        (helper.make_node("Conv", ["sample", "w"], ["out_sample"], auto_pad="SAME_UPPER"), (16, 16, 3, 3)),
        (helper.make_node("Conv", ["sample", "w"], ["out_sample"]), (4, 16, 3, 3)),
        (helper.make_node("MatMul", ["sample", "w"], ["out_sample"]), (2, 16, 8, 16)),
        (helper.make_node("MatMul", ["w", "sample"], ["out_sample"]), (16, 8)),
        (helper.make_node("Add", ["sample", "w"], ["out_sample"]), (16, 8, 8)),
    ],
    ids=["groups", "dilations", "padding of its own", "few channels", "a stack of weights", "a weight on the left", "another operator"],
)
def test_other_nodes_are_no_layers(node: onnx.NodeProto, shape: tuple[int, ...], tmp_path: Path) -> None:
    weight = {"w": np.ones(shape, np.float32)}
    model = graph([node], [("sample", "float32", SHAPE)], [("out_sample", "float32", ["a", "b", "c", "d"])], weight, infer=False)
    assert find_layers(read_model(component(tmp_path, model))) == ()


def test_a_weight_that_two_layers_read_stays_as_it_is(tmp_path: Path) -> None:
    model = network()
    next(node for node in model.graph.node if node.output[0] == "two").input[1] = FIRST
    assert [layer.weight for layer in find_layers(read_model(component(tmp_path, model)))] == [CONV]


def test_weights_are_matrices_that_rows_are_multiplied_by(tmp_path: Path) -> None:
    model = read_model(component(tmp_path, network("float16")))
    shapes = {layer.weight: read_weight(model, layer).shape for layer in find_layers(model)}
    assert shapes == {CONV: (CHANNELS * 9, CHANNELS), FIRST: (CHANNELS, 32), SECOND: (CHANNELS, 32)}
    assert read_weight(model, find_layers(model)[0]).dtype == np.float32


def test_an_observed_graph_gives_what_its_layers_read_and_the_same_result(tmp_path: Path, sample: npt.NDArray[np.float32]) -> None:
    files = component(tmp_path / "in", network())
    (tmp_path / "out").mkdir()
    observed = write_observed(files, find_layers(read_model(files)), tmp_path / "out")
    with closing(open_unlowered(observed, threads=1)) as engine:
        results = engine.run({"sample": sample})
    assert set(results) == {"out_sample", "normal", "rows"}
    assert np.allclose(results["normal"], np.tanh(sample), atol=1e-6)
    assert np.array_equal(results["out_sample"], run(files, sample))


def test_an_observed_graph_has_no_input_or_output_twice(tmp_path: Path) -> None:
    model = network()
    model.graph.node[2].input[0] = "sample"
    files = component(tmp_path / "in", model)
    (tmp_path / "out").mkdir()
    path = write_observed(files, find_layers(read_model(files)), tmp_path / "out").onnx
    assert [value.name for value in onnx.load(path, load_external_data=False).graph.output] == ["out_sample", "rows"]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_graph_in_int8_computes_nearly_the_same(dtype: str, tmp_path: Path, sample: npt.NDArray[np.float32]) -> None:
    files = component(tmp_path / "in", network(dtype))
    got, expected = run(narrowed(files, tmp_path / "out"), sample, dtype), run(files, sample, dtype)
    assert got.dtype == np.dtype(dtype)
    assert 1e-4 < relative_error(got.astype(np.float32), expected.astype(np.float32)) < 0.1


def test_weights_are_stored_as_int8_and_no_more_as_floats(tmp_path: Path) -> None:
    after = onnx.load(narrowed(component(tmp_path / "in", network("float16")), tmp_path / "out").onnx)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in after.graph.initializer}
    assert {CONV, FIRST, SECOND}.isdisjoint(weights)
    assert {name: (weights[f"{name}.int8"].dtype, weights[f"{name}.int8"].shape) for name in (CONV, FIRST)} == {
        CONV: (np.int8, (CHANNELS, CHANNELS, 3, 3)),
        FIRST: (np.int8, (CHANNELS, 32)),
    }
    assert weights[f"{CONV}.scale"].shape == (CHANNELS,)
    assert weights["rows.zero"].dtype == np.uint8
    onnx.checker.check_model(after)


def test_layers_that_read_the_same_share_its_bytes(tmp_path: Path) -> None:
    after = onnx.load(narrowed(component(tmp_path / "in", network()), tmp_path / "out").onnx)
    assert Counter(node.op_type for node in after.graph.node)["QuantizeLinear"] == 2


def test_layers_that_are_not_named_stay_as_they_are(tmp_path: Path, sample: npt.NDArray[np.float32]) -> None:
    files = component(tmp_path / "in", network())
    after = onnx.load(narrowed(files, tmp_path / "out", weights=(FIRST,)).onnx)
    assert {tensor.name for tensor in after.graph.initializer} >= {CONV, SECOND, f"{FIRST}.int8"}
    second = next(node for node in after.graph.node if node.output[0] == "two")
    assert list(second.input) == ["rows", SECOND]


def lowered(files: ComponentFiles, folder: Path, target: str = "cpu") -> onnx.ModelProto:
    folder.mkdir()
    return onnx.load(lower_graph(files.name, apply_form(files, None), files.onnx.parent, folder, target))


def test_on_cpu_convolutions_are_float32_and_products_int8(tmp_path: Path, sample: npt.NDArray[np.float32]) -> None:
    files = component(tmp_path / "in", network("float16"))
    narrow = narrowed(files, tmp_path / "narrow")
    after = lowered(narrow, tmp_path / "lowered")
    producers = {output: node for node in after.graph.node for output in node.output}
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in after.graph.initializer}
    conv = next(node for node in after.graph.node if node.op_type == "Conv")
    assert producers[conv.input[0]].op_type == "Tanh"
    assert weights[conv.input[1]].dtype == np.float32
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(narrow.onnx).graph.initializer}
    scales = stored[f"{CONV}.scale"].astype(np.float32)
    assert np.array_equal(weights[conv.input[1]], stored[f"{CONV}.int8"] * scales[:, None, None, None])
    products = [node for node in after.graph.node if node.op_type == "MatMul"]
    assert {producers[name].op_type for node in products for name in node.input} == {"DequantizeLinear"}


def test_on_cpu_a_graph_in_int8_is_near_the_graph_itself(tmp_path: Path, sample: npt.NDArray[np.float32]) -> None:
    files = component(tmp_path / "in", network("float16"))
    after = lowered(narrowed(files, tmp_path / "narrow"), tmp_path / "lowered")
    (tmp_path / "again").mkdir()
    assert relative_error(run(component(tmp_path / "again", after), sample), run(files, sample, "float16").astype(np.float32)) < 0.1


def test_dequantized_weights_of_others_are_left(tmp_path: Path) -> None:
    """A zero point, or a scale that is computed: not what `int8_graph` writes."""
    weights = {"w": np.ones((16, 16, 1, 1), np.int8), "s": np.ones(16, np.float32), "z": np.zeros(16, np.int8)}
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wide"], axis=0),
        helper.make_node("Conv", ["sample", "wide"], ["out_sample"]),
    ]
    model = graph(nodes, [("sample", "float32", SHAPE)], [("out_sample", "float32", SHAPE)], weights, infer=False)
    assert [node.op_type for node in lowered(component(tmp_path / "in", model), tmp_path / "out").graph.node] == [
        "DequantizeLinear",
        "Conv",
    ]
