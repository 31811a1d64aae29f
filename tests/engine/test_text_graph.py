"""Text encoders without their last layers: where the cut is found in graphs of other makes, and what is refused."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from sd2rt.engine.errors import BuildError, InvalidArgument
from sd2rt.engine.spec import TextForm
from sd2rt.engine.text_graph import cut_text
from tests.engine.graphs import graph

WIDTH, WORDS, LENGTH = 4, 20, 5
RNG = np.random.default_rng(0)
WEIGHTS = {
    "words": RNG.standard_normal((WORDS, WIDTH), dtype=np.float32),
    "places": RNG.standard_normal((LENGTH, WIDTH), dtype=np.float32),
    "turn": RNG.standard_normal((WIDTH, WIDTH), dtype=np.float32),
    "bias": RNG.standard_normal(WIDTH, dtype=np.float32),
    "one": np.array(1, np.float32),
    "last_axis": np.array([-1]),
}


def _encoder(layers: int, *, sums: int = 2, copies: bool = False) -> onnx.ModelProto:
    """Return an encoder of the usual build, with a mask made from the ids' shape in every layer and "one" in many places."""
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["word_states"]),
        helper.make_node("Add", ["word_states", "places"], ["stream0"]),
        helper.make_node("Shape", ["input_ids"], ["shape"]),
        helper.make_node("Cast", ["shape"], ["float_shape"], to=onnx.TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["float_shape"], ["mask"], keepdims=0),
    ]
    for sum_ in range(layers * sums):
        stream, last = f"stream{sum_}", f"stream{sum_ + 1}"
        if copies:
            nodes.append(helper.make_node("Identity", [stream], [f"{stream}_copy"]))
            stream = f"{stream}_copy"
        nodes += [
            helper.make_node("MatMul", [stream, "turn"], [f"turned{sum_}"]),
            helper.make_node("Add", ["bias", f"turned{sum_}"], [f"biased{sum_}"]),
            helper.make_node("Add", [f"biased{sum_}", "mask"], [f"masked{sum_}"]),
            helper.make_node("Add", [f"masked{sum_}", "one"], [f"more{sum_}"]),
            helper.make_node("Tanh", [f"more{sum_}"], [f"change{sum_}"]),
            helper.make_node("Add", [f"change{sum_}", stream] if sum_ % 2 else [stream, f"change{sum_}"], [last]),
        ]
    nodes += _final_norm(f"stream{layers * sums}")
    outputs = [("last_hidden_state", "float32", ["batch", LENGTH, WIDTH]), ("pooled", "float32", ["batch", LENGTH, WIDTH])]
    return graph(nodes, [("input_ids", "int64", ["batch", LENGTH])], outputs, WEIGHTS)


def _final_norm(states: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("ReduceMean", [states, "last_axis"], ["mean"]),
        helper.make_node("Sub", [states, "mean"], ["centred"]),
        helper.make_node("Add", ["centred", "bias"], ["last_hidden_state"]),
        helper.make_node("Tanh", ["last_hidden_state"], ["pooled"]),
    ]


def _run(model: onnx.ModelProto) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (states,) = session.run(["last_hidden_state"], {"input_ids": np.array([[0, 3, 19, 7, 7], [1, 2, 3, 4, 5]])})
    return np.asarray(states)


@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize("skip", [1, 2, 3])
def test_the_cut_is_an_encoder_of_fewer_layers(skip: int, copies: bool) -> None:
    cut = cut_text(_encoder(4, copies=copies), TextForm(skip=skip))
    onnx.checker.check_model(cut)
    np.testing.assert_array_equal(_run(cut), _run(_encoder(4 - skip, copies=copies)))
    assert np.abs(_run(cut) - _run(_encoder(4))).max() > 0.1
    assert [output.name for output in cut.graph.output] == ["last_hidden_state"]
    assert not any("stream8" in node.input or "stream8" in node.output for node in cut.graph.node)


@pytest.mark.parametrize(("layers", "skip"), [(4, 4), (4, 100), (1, 1)])
def test_at_least_one_layer_is_left(layers: int, skip: int) -> None:
    with pytest.raises(InvalidArgument, match=f"clip_skip: got {skip + 1}; expected 1 to {layers}, the layers of this model's text enc"):
        cut_text(_encoder(layers), TextForm(skip=skip))


@pytest.mark.parametrize(("layers", "sums", "found"), [(0, 2, 0), (3, 1, 3)])
def test_a_graph_without_such_layers_is_refused(layers: int, sums: int, found: int) -> None:
    with pytest.raises(BuildError, match=f"got a graph with {found} sums in its stream of states; expected 2 for every layer"):
        cut_text(_encoder(layers, sums=sums), TextForm(skip=1))


def test_another_component_is_refused() -> None:
    model = _encoder(2)
    model.graph.output[0].name = "other"
    with pytest.raises(BuildError, match="got a graph of input_ids -> other, pooled; expected input_ids -> last_hidden_state"):
        cut_text(model, TextForm(skip=1))


def test_a_form_leaves_out_at_least_one_layer() -> None:
    with pytest.raises(InvalidArgument, match="skip: got 0; expected at least 1, the layers that are left out"):
        TextForm(skip=0)
