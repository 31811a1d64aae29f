"""The passes over OpenVINO's graphs: what they leave out, what they leave alone, and that the numbers stay."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

openvino = pytest.importorskip("openvino", reason="the openvino target needs openvino")
from openvino import opset13 as ops  # noqa: E402

from sd2rt.engine.openvino_passes import drop_empty_masks, simplify, split_gates, stay_narrow  # noqa: E402

RNG = np.random.default_rng(0)
BF16, F32 = openvino.Type.bf16, openvino.Type.f32


def constant(*shape: int, kind: Any = F32, value: float | None = None) -> Any:
    floats = RNG.standard_normal(shape, np.float32) if value is None else np.full(shape, value, np.float32)
    return openvino.op.Constant(openvino.Tensor(floats), shared_memory=False) if kind == F32 else narrow_constant(floats)


def narrow_constant(floats: Any) -> Any:
    tensor = openvino.Tensor(BF16, list(floats.shape))
    tensor.data.view(np.uint16)[...] = floats.view(np.uint32) >> 16
    return openvino.op.Constant(tensor, shared_memory=True)


def model_of(result: Any, *parameters: Any) -> Any:
    return openvino.Model([ops.result(result)], list(parameters))


def kinds(model: Any) -> Counter[str]:
    return Counter(node.get_type_name() for node in model.get_ordered_ops())


def run(model: Any, *inputs: Any) -> Any:
    narrow = any(node.get_output_element_type(0) == BF16 for node in model.get_ordered_ops() if node.get_output_size())
    settings = {"INFERENCE_PRECISION_HINT": "bf16" if narrow else "f32"}  # as engines of such graphs are compiled
    return openvino.Core().compile_model(model.clone(), "CPU", settings)(list(inputs))[0].copy()


def assert_same_numbers(before: Any, model: Any, *inputs: Any, tolerance: float = 1e-5) -> None:
    got, expected = run(model, *inputs), run(before, *inputs)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(got, expected, atol=tolerance * np.abs(expected).max())


def assert_untouched(before: Any, model: Any) -> None:
    assert [node.get_friendly_name() for node in model.get_ordered_ops()] == [node.get_friendly_name() for node in before.get_ordered_ops()]
    assert kinds(model) == kinds(before)


def narrow_input(*shape: int) -> tuple[Any, Any]:
    """A parameter of float32 and what it is in bfloat16."""
    parameter = ops.parameter(list(shape), np.float32)
    return parameter, ops.convert(parameter, "bf16")


def group_norm(scale_kind: Any = BF16) -> Any:
    """As a graph in half precision has it: widened, normalized, narrowed."""
    parameter, x = narrow_input(2, 8, 4, 4)
    scale, bias = constant(8, kind=scale_kind), constant(8, kind=BF16)
    widened = [ops.convert(x, "f32"), scale if scale_kind == F32 else ops.convert(scale, "f32"), ops.convert(bias, "f32")]
    return model_of(ops.convert(ops.convert(ops.group_normalization(*widened, 2, 1e-5), "bf16"), "f32"), parameter)


def layer_norm() -> Any:
    parameter, x = narrow_input(2, 6, 16)
    normal = ops.mvn(ops.convert(x, "f32"), np.array([2]), True, 1e-5, "INSIDE_SQRT")
    return model_of(ops.convert(ops.multiply(ops.convert_like(normal, x), constant(16, kind=BF16)), "f32"), parameter)


def upcast_attention() -> Any:
    parameter, x = narrow_input(1, 2, 6, 16)
    queries, keys, values = (ops.convert(ops.multiply(x, constant(16, kind=BF16)), "f32") for _ in range(3))
    mask = ops.convert_like(constant(value=0.0), queries)
    return model_of(ops.convert(ops.convert(ops.scaled_dot_product_attention(queries, keys, values, mask), "bf16"), "f32"), parameter)


@pytest.mark.parametrize(("make", "shape"), [(group_norm, (2, 8, 4, 4)), (layer_norm, (2, 6, 16)), (upcast_attention, (1, 2, 6, 16))])
def test_what_was_widened_for_a_norm_or_attention_stays_narrow(make: Any, shape: Sequence[int]) -> None:
    model = make()
    before = model.clone()
    simplify(model)
    wide = [node for node in model.get_ordered_ops() if node.get_type_name() == "Convert" and node.get_output_element_type(0) == F32]
    assert len(wide) == 1  # the result's
    norm = next(
        node for node in model.get_ordered_ops() if node.get_type_name() in ("GroupNormalization", "MVN", "ScaledDotProductAttention")
    )
    assert norm.get_output_element_type(0) == BF16
    assert_same_numbers(before, model, RNG.standard_normal(shape, np.float32), tolerance=2e-2)


def test_attention_with_a_mask_in_float32_stays_wide() -> None:
    parameter, x = narrow_input(1, 2, 6, 16)
    wide = ops.convert(x, "f32")
    model = model_of(ops.scaled_dot_product_attention(wide, wide, wide, constant(6, 6)), parameter)
    before = model.clone()
    simplify(model)
    assert_untouched(before, model)


def test_a_norm_with_a_weight_in_float32_stays_wide() -> None:
    model = group_norm(scale_kind=F32)
    before = model.clone()
    stay_narrow(model)
    assert_untouched(before, model)


def test_what_comes_in_float32_stays_wide() -> None:
    """The time embedding: whole timesteps have more digits than bfloat16."""
    parameter = ops.parameter([2, 16], np.float32)
    normal = ops.mvn(parameter, np.array([1]), True, 1e-5, "INSIDE_SQRT")
    model = model_of(ops.sin(normal), parameter)
    before = model.clone()
    stay_narrow(model)
    assert_untouched(before, model)


def attention(mask: Any | None, *scale: Any, causal: bool = False) -> Any:
    parameter = ops.parameter([1, 2, 6, 16], np.float32)
    queries, keys, values = (ops.multiply(parameter, constant(16)) for _ in range(3))
    return model_of(
        ops.scaled_dot_product_attention(queries, keys, values, *([] if mask is None else [mask]), *scale, causal=causal), parameter
    )


def mask_inputs(model: Any) -> int:
    return int(next(node for node in model.get_ordered_ops() if node.get_type_name() == "ScaledDotProductAttention").get_input_size())


@pytest.mark.parametrize("causal", [False, True])
def test_a_mask_of_one_zero_goes(causal: bool) -> None:
    model = attention(constant(value=0.0), causal=causal)
    before = model.clone()
    drop_empty_masks(model)
    assert mask_inputs(model) == 3
    assert_same_numbers(before, model, RNG.standard_normal((1, 2, 6, 16), np.float32))


@pytest.mark.parametrize(
    "inputs",
    [(constant(value=1.0),), (constant(6, 6),), (constant(6, 6, value=0.0),), (constant(value=0.0), constant(value=0.5))],
    ids=["not zero", "a mask", "more than one zero", "a scale of its own"],
)
def test_other_masks_stay(inputs: Any) -> None:
    model = attention(*inputs)
    before = model.clone()
    drop_empty_masks(model)
    assert_untouched(before, model)


def gated(*, kind: Any = F32, transposed: bool = False, axis: int = -1, also_whole: bool = False, bias: Any = None) -> Any:
    """GEGLU without its nonlinearity."""
    parameter = ops.parameter([2, 6, 16], np.float32)
    x = parameter if kind == F32 else ops.convert(parameter, "bf16")
    layer = ops.matmul(x, constant(*((20, 16) if transposed else (16, 20)), kind=kind), False, transposed)
    whole = ops.add(layer, constant(20, kind=kind) if bias is None else bias)
    halves = ops.split(whole, axis, 2)
    product = ops.multiply(halves.output(0), halves.output(1))
    result = ops.add(product, ops.reduce_mean(whole, np.array([2]), True)) if also_whole else product
    return model_of(result if kind == F32 else ops.convert(result, "f32"), parameter)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("kind", "axis", "tolerance"), [(F32, -1, 1e-5), (F32, 2, 1e-5), (BF16, -1, 2e-2)])
def test_a_layer_that_is_cut_in_two_becomes_two_layers(kind: Any, axis: int, tolerance: float, transposed: bool) -> None:
    model = gated(kind=kind, axis=axis, transposed=transposed)
    before = model.clone()
    split_gates(model)
    assert (kinds(model)["Split"], kinds(model)["MatMul"]) == (0, 2)
    assert_same_numbers(before, model, RNG.standard_normal((2, 6, 16), np.float32), tolerance=tolerance)


@pytest.mark.parametrize(
    "model",
    [gated(axis=1), gated(also_whole=True), gated(bias=constant(1))],
    ids=["along another axis", "read whole too", "one bias for all"],
)
def test_layers_that_cannot_be_cut_stay(model: Any) -> None:
    before = model.clone()
    split_gates(model)
    assert_untouched(before, model)


def test_a_split_of_something_else_stays() -> None:
    parameter = ops.parameter([2, 6, 20], np.float32)
    halves = ops.split(ops.add(ops.multiply(parameter, constant(20)), constant(20)), 2, 2)
    model = model_of(ops.multiply(halves.output(0), halves.output(1)), parameter)
    before = model.clone()
    split_gates(model)
    assert_untouched(before, model)


def test_names_stay_those_of_the_graph() -> None:
    """Profiles and error messages speak of them."""
    model = gated()
    next(node for node in model.get_ordered_ops() if node.get_type_name() == "Split").set_friendly_name("gate")
    simplify(model)
    assert {"gate.0", "gate.1"} <= {node.get_friendly_name() for node in model.get_ordered_ops()}
