from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass

from sd2rt.engine.lower_gates import lower_gates
from tests.engine.graphs import graph

WIDTH, HIDDEN = 6, 10
X = np.random.default_rng(0).standard_normal((2, 5, WIDTH)).astype(np.float32)


def feed_forward(
    gate: int = 1, axis: int = -1, approximate: str = "none", read: str = "", weights: bool = True, parts: list[int] | None = None
) -> onnx.ModelProto:
    """Return h * gelu(g) of x [batch, tokens, WIDTH], g being half `gate`; `read` is a value that the graph gives too."""
    rng = np.random.default_rng(1)
    values: dict[str, npt.NDArray[Any]] = {
        "w": rng.standard_normal((WIDTH, 2 * HIDDEN)).astype(np.float32),
        "b": rng.standard_normal(2 * HIDDEN).astype(np.float32),
    }
    inputs: list[Any] = [("x", "float32", ["batch", "tokens", WIDTH])]
    if not weights:
        inputs += [(name, "float32", list(values[name].shape)) for name in values]
        values = {}
    if parts:
        values["parts"] = np.array(parts)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["sum"]),
        helper.make_node("Split", ["sum", "parts"] if parts else ["sum"], ["h0", "h1"], axis=axis, **({} if parts else {"num_outputs": 2})),
        helper.make_node("Gelu", [f"h{gate}"], ["open"], approximate=approximate),
        helper.make_node("Mul", [f"h{1 - gate}", "open"], ["y"]),
    ]
    outputs: list[Any] = [("y", "float32", None)]
    if read:
        nodes.append(helper.make_node("Neg", [read], ["also"]))
        outputs.append(("also", "float32", None))
    return graph(nodes, inputs, outputs, values)


def lowered(model: onnx.ModelProto) -> onnx.ModelProto:
    made = ir.from_proto(model)
    ShapeInferencePass(check_type=False, strict_mode=False)(made)
    lower_gates(made)
    RemoveUnusedNodesPass()(made)
    result = ir.to_proto(made)
    onnx.checker.check_model(result)
    return result


def operations(model: onnx.ModelProto) -> list[str]:
    return sorted(node.op_type for node in model.graph.node)


def run(model: onnx.ModelProto) -> list[npt.NDArray[Any]]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    results: list[npt.NDArray[Any]] = session.run(None, {"x": X})
    return results


@pytest.mark.parametrize("axis", [-1, 2])
@pytest.mark.parametrize("gate", [0, 1])
def test_a_gated_product_becomes_one_per_half(gate: int, axis: int) -> None:
    model = feed_forward(gate, axis)
    after = lowered(model)
    assert operations(after) == ["Add", "BiasGelu", "MatMul", "MatMul", "Mul"]
    assert {tuple(tensor.dims) for tensor in after.graph.initializer} == {(WIDTH, HIDDEN), (HIDDEN,)}
    np.testing.assert_allclose(run(after)[0], run(model)[0], rtol=1e-5, atol=1e-6)


def test_the_other_half_may_be_read_more_than_once() -> None:
    model = feed_forward(read="h0")
    after = lowered(model)
    assert "Split" not in operations(after)
    for got, expected in zip(run(after), run(model), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        feed_forward(approximate="tanh"),
        feed_forward(axis=1),
        feed_forward(weights=False),
        feed_forward(parts=[HIDDEN, HIDDEN]),
        *(feed_forward(read=name) for name in ("product", "sum", "h1")),
    ],
    ids=["tanh", "other axis", "weights that callers give", "parts of given sizes", "product read", "sum read", "gate read"],
)
def test_others_are_left_alone(model: onnx.ModelProto) -> None:
    assert operations(lowered(model)) == operations(model)
