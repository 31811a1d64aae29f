"""Attention that the bundle upcasts: float32 between casts, everything around it float16."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass

from sd2rt.engine.lower_attention import lower_attention
from sd2rt.engine.lower_casts import hoist_casts
from tests.engine.graphs import graph, relative_error

HEADS, WIDTH, CHANNELS = 2, 4, 8
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def upcast(read: str = "joined") -> onnx.ModelProto:
    """Return what the exporter writes for an upcast attention of x. The result is read "joined", or also "apart" before its heads are."""
    nodes = []
    for name in "qkv":
        nodes.append(helper.make_node("MatMul", ["x", f"w{name}"], [f"{name}1"]))
        nodes.append(helper.make_node("Reshape", [f"{name}1", "split"], [f"{name}4"]))
        nodes.append(helper.make_node("Transpose", [f"{name}4"], [f"{name}t"], perm=[0, 2, 1, 3]))
        nodes.append(helper.make_node("Cast", [f"{name}t"], [f"{name}f"], to=FLOAT))
    nodes.append(helper.make_node("Attention", ["qf", "kf", "vf"], ["a"], scale=0.3))
    nodes.append(helper.make_node("Cast", ["a"], ["ah"], to=HALF))
    nodes.append(helper.make_node("Transpose", ["ah"], ["at"], perm=[0, 2, 1, 3]))
    nodes.append(helper.make_node("Reshape", ["at", "join"], ["j"]))
    nodes.append(helper.make_node("MatMul", ["j", "wq"], ["y"]))
    rng = np.random.default_rng(0)
    weights: dict[str, npt.NDArray[Any]] = {f"w{name}": rng.standard_normal((CHANNELS, CHANNELS)).astype(np.float16) for name in "qkv"}
    weights |= {"split": np.array([0, 0, HEADS, WIDTH]), "join": np.array([0, 0, CHANNELS])}
    outputs = [("y", "float16", ["batch", "tokens", CHANNELS])]
    if read == "apart":
        nodes.append(helper.make_node("Identity", ["ah"], ["heads"]))
        outputs.append(("heads", "float16", ["batch", HEADS, "tokens", WIDTH]))
    return graph(nodes, [("x", "float16", ["batch", "tokens", CHANNELS])], outputs, weights)


def lowered(model: onnx.ModelProto) -> onnx.ModelProto:
    made = ir.from_proto(model)
    ShapeInferencePass(check_type=False, strict_mode=False)(made)
    hoist_casts(made)
    lower_attention(made)
    RemoveUnusedNodesPass()(made)
    result = ir.to_proto(made)
    onnx.checker.check_model(result)
    return result


def operations(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node if node.op_type != "Constant"]


def casts(model: onnx.ModelProto) -> list[int]:
    return [node.attribute[0].i for node in model.graph.node if node.op_type == "Cast"]


def run(model: onnx.ModelProto, x: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    results: list[npt.NDArray[Any]] = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    return results


def sample() -> npt.NDArray[np.float16]:
    return np.random.default_rng(1).standard_normal((2, 5, CHANNELS)).astype(np.float16)


def test_casts_end_up_around_multi_head_attention() -> None:
    after = lowered(upcast())
    assert operations(after) == [*["MatMul", "MatMul", "MatMul"], *["Cast"] * 3, "MultiHeadAttention", "Cast", "MatMul"]
    assert casts(after) == [FLOAT, FLOAT, FLOAT, HALF]
    assert relative_error(run(after, sample())[0], run(upcast(), sample())[0]) < 5e-3


def test_scores_beyond_the_range_of_half_precision_stay_finite() -> None:
    """What upcasting is for: q and k of 300 give scores of 360,000 before they are scaled."""
    model = upcast()
    after = lowered(model)
    x = np.full((1, 5, CHANNELS), 100, np.float16) * np.sign(sample()[:1]).astype(np.float16)
    (got,), (expected,) = run(after, x), run(model, x)
    assert np.isfinite(got).all()
    assert relative_error(got, expected) < 5e-3


def test_result_that_is_also_read_with_heads_apart_keeps_its_cast() -> None:
    model = upcast("apart")
    after = lowered(model)
    assert operations(after).count("MultiHeadAttention") == 1
    for got, expected in zip(run(after, sample()), run(model, sample()), strict=True):
        assert relative_error(got, expected) < 5e-3


def test_attention_without_casts_is_left() -> None:
    model = upcast()
    for node in [node for node in model.graph.node if node.op_type == "Cast"]:
        node.op_type = "Identity"
        del node.attribute[:]
    del model.graph.value_info[:]
    made = ir.from_proto(model)
    before = [node.op_type for node in made.graph]
    hoist_casts(made)
    assert [node.op_type for node in made.graph] == before


@pytest.mark.parametrize("swap", [[0, 1, 2, 3], [0, 3, 1, 2]], ids=["no swap", "another swap"])
def test_cast_behind_another_transpose_is_left(swap: list[int]) -> None:
    """Only the Transpose that splits heads is looked through."""
    nodes = [
        helper.make_node("Reshape", ["x", "split"], ["x4"]),
        helper.make_node("Transpose", ["x4"], ["xt"], perm=swap),
        helper.make_node("Cast", ["xt"], ["xf"], to=FLOAT),
        helper.make_node("Attention", ["xf", "xf", "xf"], ["y"]),
    ]
    model = graph(
        nodes, [("x", "float16", ["batch", 4, CHANNELS])], [("y", "float32", ["a", "b", "c", "d"])], {"split": np.array([0, 0, 2, 4])}
    )
    made = ir.from_proto(model)
    hoist_casts(made)
    assert [node.op_type for node in made.graph] == ["Reshape", "Transpose", "Cast", "Attention"]
