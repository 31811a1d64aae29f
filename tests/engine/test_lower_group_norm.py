from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx_ir.passes.common import RemoveUnusedNodesPass

from sd2rt.engine.lower_group_norm import lower_group_normalization
from tests.engine.graphs import graph, relative_error

NORMALIZATION = {"cpu": "InstanceNormalization", "cuda": "LayerNormalization"}
EPSILON = 1e-6


def normalization(channels: int, groups: int, dtype: str = "float32", weights: bool = True) -> onnx.ModelProto:
    """Return GroupNormalization of x [batch, channels, height, width]; without `weights`, its scale and bias are inputs of any length."""
    rng = np.random.default_rng(0)
    values = {name: rng.standard_normal(channels).astype(dtype) for name in ("scale", "bias")}
    shape = ["batch", channels, "height", "width"]
    inputs = [("x", dtype, shape), *([] if weights else [(name, dtype, ["channels"]) for name in values])]
    node = helper.make_node("GroupNormalization", ["x", "scale", "bias"], ["y"], num_groups=groups, epsilon=EPSILON)
    return graph([node], inputs, [("y", dtype, shape)], values if weights else None)


def lowered(model: onnx.ModelProto, target: str) -> onnx.ModelProto:
    made = ir.from_proto(model)
    lower_group_normalization(made, target)
    RemoveUnusedNodesPass()(made)
    result = ir.to_proto(made)
    onnx.checker.check_model(result, full_check=True)
    return result


def run(model: onnx.ModelProto, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: npt.NDArray[Any] = session.run(None, {"x": x})[0]
    return result


def operations(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("target", NORMALIZATION)
@pytest.mark.parametrize("shape", [(1, 8, 4, 4), (3, 8, 6, 10), (2, 8, 1, 1)], ids=["one", "batch, not square", "1x1"])
def test_groups_become_rows_of_another_normalization(target: str, shape: tuple[int, ...]) -> None:
    model = normalization(8, 2)
    after = lowered(model, target)
    assert operations(after)[NORMALIZATION[target]] == 1
    assert operations(after)["GroupNormalization"] == 0
    x = 3 + 2 * np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    assert relative_error(run(after, x), run(model, x)) < 1e-5


def test_half_precision_stays_half_precision_on_cuda() -> None:
    after = lowered(normalization(8, 2, "float16"), "cuda")
    (fill,) = [node for node in after.graph.node if node.op_type == "ConstantOfShape"]
    assert fill.attribute[0].t.data_type == TensorProto.FLOAT16
    assert {tensor.data_type for tensor in after.graph.initializer} == {TensorProto.FLOAT16}
    assert operations(after)["Cast"] == 0
    x = np.random.default_rng(1).standard_normal((2, 8, 5, 3)).astype(np.float16)
    assert relative_error(run(after, x), run(normalization(8, 2, "float16"), x)) < 5e-3


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("level", [0.0, 10.1, -100.3, 1234.0, 30000.0])
@pytest.mark.parametrize("size", [1, 64])
def test_groups_without_any_variance_give_the_bias(size: int, level: float, dtype: str) -> None:
    """Features that a trained model does not use: E[x^2] - E[x]^2 is below zero for some of them."""
    model = lowered(normalization(20, 2, dtype), "cuda")
    bias = onnx.numpy_helper.to_array(model.graph.initializer[1])
    result = run(model, np.full((2, 20, size, size), level, dtype))
    np.testing.assert_array_equal(result, np.broadcast_to(bias[:, None, None], result.shape))


def test_onnxruntimes_own_expansion_is_not_safe() -> None:
    """Why GroupNormalization is lowered at all; when this fails, it need not be any more."""
    levels = np.linspace(1, 3000, 40, dtype=np.float32)
    assert any(np.isnan(run(normalization(20, 2), np.full((1, 20, 64, 64), level))).any() for level in levels)


@pytest.mark.parametrize("target", NORMALIZATION)
def test_normalization_of_an_unknown_number_of_channels_is_left(target: str) -> None:
    assert list(operations(lowered(normalization(8, 2, weights=False), target))) == ["GroupNormalization"]
