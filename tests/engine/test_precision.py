"""Fallback precisions, on small graphs run by ONNX's reference evaluator: numpy, every operator in its inputs' own type."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from sd2rt.engine.errors import BuildError, InvalidArgument
from sd2rt.engine.precision import AS_EXPORTED, FP32, FP32_ATTENTION, PRECISIONS, at_precision
from sd2rt.engine.spec import ComponentFiles
from tests.engine.graphs import block, component, graph, relative_error

WIDTH = 8


def attention_graph(gain: float, dtype: str = "float16", upcast: bool = False) -> onnx.ModelProto:
    """Project x [batch, 6, 8] to queries `gain` times as large, attend with a mask, and scale the result; no inner types."""
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((WIDTH, WIDTH)) for name in ("wq", "wk", "wv")}
    weights = {
        "wq": weights["wq"] * gain,
        "wk": 10 * weights["wk"],
        "wv": weights["wv"],
        "mask": np.zeros((1, 1, 6, 6)),
        "half": np.full(1, 0.5),
    }
    nodes = [helper.make_node("MatMul", ["x", f"w{name}"], [name]) for name in "qkv"]
    names = ["q", "k", "v"]
    if upcast:
        nodes += [helper.make_node("Cast", [name], [f"{name}32"], to=onnx.TensorProto.FLOAT) for name in names]
        names = [f"{name}32" for name in names]
    nodes.append(helper.make_node("Attention", [*names, "" if upcast else "mask"], ["a"], q_num_heads=2, kv_num_heads=2))
    if upcast:
        nodes.append(helper.make_node("Cast", ["a"], ["b"], to=onnx.TensorProto.FLOAT16))
    nodes.append(helper.make_node("Mul", ["b" if upcast else "a", "half"], ["y"]))
    cast = {name: array.astype(dtype) for name, array in weights.items() if not (upcast and name == "mask")}
    shape = ["batch", 6, WIDTH]
    return graph(nodes, [("x", dtype, shape)], [("y", dtype, shape)], cast, infer=False)


def rewrite(folder: Path, model: onnx.ModelProto, precision: str) -> tuple[onnx.ModelProto, Path, ComponentFiles]:
    """Save the model as a component, read it without its weights and rewrite it."""
    files = component(folder / "bundle", model)
    (folder / "build").mkdir()
    rewritten, place = at_precision(onnx.load(files.onnx, load_external_data=False), precision, files, folder / "build")
    return rewritten, place, files


def run(model: onnx.ModelProto, place: Path, feeds: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Load the weights from `place` and run."""
    onnx.load_external_data_for_model(model, str(place))
    onnx.checker.check_model(model)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(ReferenceEvaluator(model).run(None, feeds)[0])


def draw(shape: tuple[int, ...], dtype: str = "float16") -> npt.NDArray[Any]:
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def interface(model: onnx.ModelProto) -> list[tuple[str, int, str]]:
    values = [*model.graph.input, *model.graph.output]
    return [(value.name, value.type.tensor_type.elem_type, str(value.type.tensor_type.shape)) for value in values]


@pytest.mark.parametrize(("precision", "finite"), [(AS_EXPORTED, False), (FP32_ATTENTION, True), (FP32, True)])
def test_logits_beyond_half_precision_need_a_fallback(tmp_path: Path, precision: str, finite: bool) -> None:
    model, x = attention_graph(gain=3_000), draw((2, 6, WIDTH))
    rewritten, place, files = rewrite(tmp_path, model, precision)
    assert interface(rewritten) == interface(model)
    got = run(rewritten, place, {"x": x})
    assert got.dtype == np.float16
    assert np.isfinite(got).all() == finite
    if finite:
        exact = run(attention_graph(gain=3_000, dtype="float32"), files.onnx.parent, {"x": x.astype(np.float32)})
        assert relative_error(got, exact) < 2e-3


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_is_right_stays_right(tmp_path: Path, precision: str) -> None:
    sample = draw((2, 8, 5, 4))
    rewritten, place, files = rewrite(tmp_path, block("float16"), precision)
    exact = block()
    for weight in exact.graph.initializer:  # the same numbers as the float16 graph has
        rounded = onnx.numpy_helper.to_array(weight).astype(np.float16).astype(np.float32)
        weight.CopyFrom(onnx.numpy_helper.from_array(rounded, weight.name))
    error = relative_error(run(rewritten, place, {"sample": sample}), run(exact, files.onnx.parent, {"sample": sample.astype(np.float32)}))
    assert 0 < error < (2e-3 if precision == FP32 else 1e-2)  # float32 rounds once, at the end


def test_in_float32_only_the_interface_is_half(tmp_path: Path) -> None:
    rewritten, place, _ = rewrite(tmp_path, attention_graph(gain=1.0), FP32)
    assert operators(rewritten) == ["Cast", "MatMul", "MatMul", "MatMul", "Attention", "Mul", "Cast"]
    assert {weight.data_type for weight in rewritten.graph.initializer} == {onnx.TensorProto.FLOAT}
    assert place == tmp_path / "build"
    assert {path.name for path in place.iterdir()} == {"fp32.onnx", "fp32.bin"}


def test_upcast_attention_leaves_weights_where_they_are(tmp_path: Path) -> None:
    model = attention_graph(gain=1.0)
    rewritten, place, files = rewrite(tmp_path, model, FP32_ATTENTION)
    casts = ["Cast", "Cast", "Cast", "Cast"]  # q, k, v and the mask
    assert operators(rewritten) == ["MatMul", "MatMul", "MatMul", *casts, "Attention", "Cast", "Mul"]
    before = onnx.load(files.onnx, load_external_data=False).graph.initializer
    after = {weight.name: weight for weight in rewritten.graph.initializer}
    assert all(after[weight.name].data_location == onnx.TensorProto.EXTERNAL for weight in before)
    assert all({e.key: e.value for e in after[w.name].external_data} == {e.key: e.value for e in w.external_data} for w in before)
    assert place == files.onnx.parent
    assert list((tmp_path / "build").iterdir()) == []


@pytest.mark.parametrize(
    "model", [attention_graph(gain=1.0, upcast=True), attention_graph(gain=1.0, dtype="float32")], ids=["upcast", "fp32"]
)
def test_attention_in_float32_is_left_alone(tmp_path: Path, model: onnx.ModelProto) -> None:
    rewritten, _, _ = rewrite(tmp_path, model, FP32_ATTENTION)
    assert operators(rewritten) == operators(model)


def test_upcasting_twice_is_upcasting_once(tmp_path: Path) -> None:
    once, _, files = rewrite(tmp_path, attention_graph(gain=1.0), FP32_ATTENTION)
    twice, _ = at_precision(once, FP32_ATTENTION, files, tmp_path / "build")
    assert operators(twice) == operators(once)


def test_an_attention_whose_result_is_the_output_keeps_its_name_and_type(tmp_path: Path) -> None:
    shape = ["batch", 6, WIDTH]
    node = helper.make_node("Attention", ["x", "x", "x"], ["y"], q_num_heads=2, kv_num_heads=2)
    model = graph([node], [("x", "float16", shape)], [("y", "float16", shape)], infer=False)
    for index, precision in enumerate((FP32_ATTENTION, FP32)):
        (tmp_path / str(index)).mkdir()
        rewritten, place, _ = rewrite(tmp_path / str(index), model, precision)
        assert interface(rewritten) == interface(model)
        assert run(rewritten, place, {"x": draw((1, 6, WIDTH))}).dtype == np.float16


def test_weights_with_hard_links_are_read(tmp_path: Path) -> None:
    files = component(tmp_path / "bundle", block("float16"))
    os.link(files.data[0], tmp_path / "linked")
    rewritten, place = at_precision(onnx.load(files.onnx, load_external_data=False), FP32, files, tmp_path)
    assert np.isfinite(run(rewritten, place, {"sample": draw((1, 8, 3, 3))})).all()


def test_types_that_cannot_be_inferred_are_refused(tmp_path: Path) -> None:
    shape = ["batch", 6, WIDTH]
    nodes = [
        helper.make_node("Mystery", ["x"], ["q"], domain="elsewhere"),
        helper.make_node("Attention", ["q", "x", "x"], ["y"], q_num_heads=2, kv_num_heads=2),
    ]
    model = graph(nodes, [("x", "float16", shape)], [("y", "float16", shape)], infer=False)
    model.opset_import.append(helper.make_opsetid("elsewhere", 1))
    with pytest.raises(BuildError, match="got an Attention of 'q', whose type cannot be inferred; export the bundle again"):
        rewrite(tmp_path, model, FP32_ATTENTION)


def test_unknown_precisions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="got 'fp8'; expected one of as exported, fp32 attention, fp32"):
        rewrite(tmp_path, block(), "fp8")


def test_types_are_followed_through_group_normalization_and_where(tmp_path: Path) -> None:
    """ONNX's own shape inference stops at GroupNormalization."""
    shape = ["batch", 8, 6, WIDTH]
    nodes = [
        helper.make_node("GroupNormalization", ["x", "scale", "bias"], ["n"], num_groups=2),
        helper.make_node("Where", ["choice", "n", "x"], ["q"]),
        helper.make_node("Attention", ["q", "q", "q"], ["y"]),
    ]
    weights = {"scale": np.ones(8, np.float16), "bias": np.zeros(8, np.float16), "choice": np.array(True)}
    model = graph(nodes, [("x", "float16", shape)], [("y", "float16", shape)], weights, infer=False)
    rewritten, _, _ = rewrite(tmp_path, model, FP32_ATTENTION)
    assert operators(rewritten) == ["GroupNormalization", "Where", "Cast", "Cast", "Cast", "Attention", "Cast"]
