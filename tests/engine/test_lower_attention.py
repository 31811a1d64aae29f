from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper
from onnx_ir.passes.common import RemoveUnusedNodesPass

from sd2rt.engine.lower_attention import lower_attention
from tests.engine.graphs import Shape, Value, graph, relative_error

HEADS, WIDTH, CHANNELS = 4, 8, 32
BATCH, TOKENS, TEXT = 2, 12, 5


def split_heads(of: str) -> list[onnx.NodeProto]:
    split = helper.make_node("Reshape", [of, "split"], [f"{of}4"])
    return [split, helper.make_node("Transpose", [f"{of}4"], [f"{of}t"], perm=[0, 2, 1, 3])]


def canonical(mask: tuple[str, Shape] | None = None, **attributes: Any) -> onnx.ModelProto:
    """Return what the exporter writes: heads split and joined around the Attention of [B, H, S, D]."""
    nodes = [*split_heads("q"), *split_heads("k"), *split_heads("v")]
    nodes.append(helper.make_node("Attention", ["qt", "kt", "vt", *(["mask"] if mask else [])], ["a"], **attributes))
    nodes.append(helper.make_node("Transpose", ["a"], ["at"], perm=[0, 2, 1, 3]))
    nodes.append(helper.make_node("Reshape", ["at", "join"], ["joined"]))
    nodes.append(helper.make_node("MatMul", ["joined", "w"], ["y"]))
    weights = {"split": np.array([0, 0, HEADS, WIDTH]), "join": np.array([0, 0, CHANNELS]), "w": np.eye(CHANNELS, dtype=np.float32)}
    return graph(nodes, [*operands(), *masks(mask)], [("y", "float32", ["batch", "tokens", CHANNELS])], weights)


def operands() -> list[Value]:
    return [(name, "float32", ["batch", tokens, CHANNELS]) for name, tokens in (("q", "tokens"), ("k", "text"), ("v", "text"))]


def masks(mask: tuple[str, Shape] | None) -> list[Value]:
    return [("mask", *mask)] if mask else []


def bare(shape: Shape, text_shape: Shape, **attributes: Any) -> onnx.ModelProto:
    """Return an Attention alone, its operands and result the graph's own."""
    inputs = [("q", "float32", shape), ("k", "float32", text_shape), ("v", "float32", text_shape)]
    node = helper.make_node("Attention", ["q", "k", "v"], ["y"], **attributes)
    return graph([node], inputs, [("y", "float32", shape)])


def self_attention(**attributes: Any) -> onnx.ModelProto:
    shape = ["batch", "tokens", CHANNELS]
    return bare(shape, shape, q_num_heads=HEADS, kv_num_heads=HEADS, **attributes)


def lowered(model: onnx.ModelProto) -> onnx.ModelProto:
    made = ir.from_proto(model)
    lower_attention(made)
    RemoveUnusedNodesPass()(made)
    result = ir.to_proto(made)
    onnx.checker.check_model(result)
    return result


def operations(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node if node.op_type != "Constant"]


def random_feeds(model: onnx.ModelProto) -> dict[str, npt.NDArray[Any]]:
    rng = np.random.default_rng(0)
    sizes = {"batch": BATCH, "tokens": TOKENS, "text": TEXT}
    feeds: dict[str, npt.NDArray[Any]] = {}
    for value in model.graph.input:
        shape = [dim.dim_value or sizes[dim.dim_param] for dim in value.type.tensor_type.shape.dim]
        array = rng.standard_normal(shape)
        boolean = value.type.tensor_type.elem_type == onnx.TensorProto.BOOL
        feeds[value.name] = (array > 0) | (np.arange(shape[-1]) == 0) if boolean else array.astype(np.float32)
    return feeds


def run(model: onnx.ModelProto, feeds: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)[0]


@pytest.mark.parametrize(
    ("mask", "attributes"),
    [
        (None, {}),
        (None, {"scale": 0.5}),
        (("bool", [1, 1, "tokens", "text"]), {}),
        (("bool", ["batch", 1, "tokens", "text"]), {"scale": 0.1}),
        (("float32", ["batch", HEADS, "tokens", "text"]), {}),
    ],
    ids=["plain", "scale", "bool mask", "bool mask of each row", "additive mask of each head"],
)
def test_canonical_attention_becomes_multi_head_attention_alone(mask: tuple[str, Shape] | None, attributes: dict[str, float]) -> None:
    model = canonical(mask, **attributes)
    after = lowered(model)
    where = ["Where"] if mask and mask[0] == "bool" else []
    assert operations(after) == [*where, "MultiHeadAttention", "MatMul"]
    feeds = random_feeds(model)
    assert relative_error(run(after, feeds), run(model, feeds)) < 1e-5


def test_causal_attention_stays_causal() -> None:
    model = self_attention(is_causal=1)
    after = lowered(model)
    assert operations(after) == ["MultiHeadAttention"]
    feeds = random_feeds(model)
    assert relative_error(run(after, feeds), run(model, feeds)) < 1e-5
    assert relative_error(run(after, feeds), run(lowered(self_attention()), feeds)) > 0.1


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (bare(["batch", "tokens", CHANNELS], ["batch", "text", CHANNELS], q_num_heads=4, kv_num_heads=4), ["MultiHeadAttention"]),
        (
            bare(["batch", HEADS, "tokens", WIDTH], ["batch", HEADS, "text", WIDTH]),
            [*["Transpose", "Reshape"] * 3, "MultiHeadAttention", "Reshape", "Transpose"],
        ),
    ],
    ids=["heads joined", "heads apart"],
)
def test_attention_on_the_graphs_own_tensors_is_lowered(model: onnx.ModelProto, expected: list[str]) -> None:
    after = lowered(model)
    assert operations(after) == expected
    feeds = random_feeds(model)
    assert relative_error(run(after, feeds), run(model, feeds)) < 1e-5


def test_result_that_is_also_read_with_heads_apart_is_split_again() -> None:
    model = canonical()
    model.graph.node.append(helper.make_node("Identity", ["a"], ["heads"]))
    model.graph.output.append(helper.make_tensor_value_info("heads", onnx.TensorProto.FLOAT, ["batch", HEADS, "tokens", WIDTH]))
    after = lowered(model)
    assert operations(after) == ["MultiHeadAttention", "Reshape", "Transpose", "MatMul", "Identity"]
    feeds = random_feeds(model)
    got, expected = (onnxruntime.InferenceSession(m.SerializeToString()).run(["heads"], feeds)[0] for m in (after, model))
    assert relative_error(got, expected) < 1e-5


@pytest.mark.parametrize(
    "model",
    [
        canonical(is_causal=1),
        canonical(softcap=2.0),
        canonical(softmax_precision=1),
        canonical(("float32", ["tokens", "text"])),
        canonical(("float32", ["batch", 1, 1, "text"])),
        bare(["batch", "tokens", CHANNELS], ["batch", "text", 16], q_num_heads=4, kv_num_heads=2),
        bare(["batch", 4, "tokens", WIDTH], ["batch", 2, "text", WIDTH]),
        bare(["batch", "heads", "tokens", WIDTH], ["batch", "heads", "text", WIDTH]),
    ],
    ids=[
        "causal over other keys",
        "softcap",
        "softmax precision",
        "2-D mask",
        "broadcast mask",
        "grouped heads",
        "grouped heads apart",
        "unknown heads",
    ],
)
def test_attention_that_multi_head_attention_cannot_express_is_left(model: onnx.ModelProto) -> None:
    assert operations(lowered(model)) == operations(model)


def test_attention_whose_scores_are_read_is_left() -> None:
    names = ["y", "", "", "scores"]
    node = helper.make_node("Attention", ["q", "k", "v"], names, q_num_heads=4, kv_num_heads=4)
    outputs: list[Value] = [("y", "float32", ["batch", "tokens", CHANNELS]), ("scores", "float32", ["batch", 4, "tokens", "text"])]
    model = graph([node], operands(), outputs)
    assert operations(lowered(model)) == ["Attention"]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_masked_keys_get_the_lowest_number_of_the_attentions_own_type(dtype: str) -> None:
    values: list[Value] = [(name, dtype, ["batch", tokens, CHANNELS]) for name, tokens in (("q", "tokens"), ("k", "text"), ("v", "text"))]
    node = helper.make_node("Attention", ["q", "k", "v", "mask"], ["y"], q_num_heads=4, kv_num_heads=4)
    model = graph([node], [*values, ("mask", "bool", [1, 1, "tokens", "text"])], [("y", dtype, ["batch", "tokens", CHANNELS])])
    after = lowered(model)
    constants = [onnx.numpy_helper.to_array(node.attribute[0].t) for node in after.graph.node if node.op_type == "Constant"]
    assert [constant.dtype for constant in constants] == [dtype, dtype]
    assert [constant.item() for constant in constants] == [0, np.finfo(dtype).min]
    feeds = {name: array.astype(dtype) if array.dtype != bool else array for name, array in random_feeds(model).items()}
    assert relative_error(run(after, feeds), run(model, feeds)) < (1e-5 if dtype == "float32" else 5e-3)


def test_mask_of_an_attention_in_double_precision_is_left() -> None:
    values: list[Value] = [(name, "float64", ["batch", "tokens", CHANNELS]) for name in "qkv"]
    node = helper.make_node("Attention", ["q", "k", "v", "mask"], ["y"], q_num_heads=4, kv_num_heads=4)
    model = graph([node], [*values, ("mask", "bool", [1, 1, "tokens", "tokens"])], [("y", "float64", ["batch", "tokens", CHANNELS])])
    assert operations(lowered(model)) == ["Attention"]


def test_layers_of_two_types_share_no_mask() -> None:
    types = {"a": "float32", "b": "float16"}
    values: list[Value] = [(f"{name}{key}", types[key], ["batch", "tokens", CHANNELS]) for key in types for name in "qkv"]
    layers = [
        helper.make_node("Attention", [f"q{key}", f"k{key}", f"v{key}", "mask"], [key], q_num_heads=4, kv_num_heads=4) for key in types
    ]
    outputs: list[Value] = [(key, types[key], ["batch", "tokens", CHANNELS]) for key in types]
    model = graph(layers, [*values, ("mask", "bool", [1, 1, "tokens", "tokens"])], outputs)
    assert operations(lowered(model)) == ["Where", "MultiHeadAttention"] * 2


def test_mask_is_turned_into_numbers_once_for_all_layers() -> None:
    layers = [helper.make_node("Attention", ["q", "k", "v", "mask"], [name], q_num_heads=4, kv_num_heads=4) for name in "ab"]
    outputs: list[Value] = [(name, "float32", ["batch", "tokens", CHANNELS]) for name in "ab"]
    model = graph(layers, [*operands(), ("mask", "bool", [1, 1, "tokens", "text"])], outputs)
    assert operations(lowered(model)) == ["Where", "MultiHeadAttention", "MultiHeadAttention"]
