from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from sd2rt.engine.errors import BuildError, BundleError
from sd2rt.engine.forms import apply_form
from sd2rt.engine.lowering import lower_graph
from sd2rt.engine.spec import ComponentFiles
from tests.engine.graphs import block, component, graph, relative_error

GROUP_NORM_FORM = ["Reshape", "InstanceNormalization", "Reshape", "Mul", "Add", "Shape", "Reshape"]


def lower(files: ComponentFiles, folder: Path) -> Path:
    return lower_graph(files.name, apply_form(files, None), files.onnx.parent, folder, "cpu")


def lowered(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    (folder / "out").mkdir()
    return onnx.load(lower(component(folder / "in", model), folder / "out"))


def run(model: onnx.ModelProto, **feeds: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)[0]


def element_types(model: onnx.ModelProto) -> set[int]:
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    return {value.type.tensor_type.elem_type for value in values} | {tensor.data_type for tensor in model.graph.initializer}


@pytest.mark.parametrize("shape", [(1, 8, 4, 4), (3, 8, 6, 10)], ids=["square", "batch, not square"])
def test_group_normalization_becomes_instance_normalization(shape: tuple[int, ...], tmp_path: Path) -> None:
    model = block()
    after = lowered(model, tmp_path)
    counts = Counter(node.op_type for node in after.graph.node)
    assert counts["GroupNormalization"] == 0
    assert all(counts[name] for name in GROUP_NORM_FORM)
    sample = 3 + 2 * np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    assert relative_error(run(after, sample=sample), run(model, sample=sample)) < 1e-5


def test_group_normalization_of_tokens_is_lowered(tmp_path: Path) -> None:
    weights = {"s": np.array([1, 2, 3, 4], np.float32), "b": np.array([4, 3, 2, 1], np.float32)}
    node = helper.make_node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2)
    model = graph([node], [("x", "float32", ["batch", 4, "tokens"])], [("y", "float32", ["batch", 4, "tokens"])], weights)
    x = np.random.default_rng(0).standard_normal((2, 4, 7)).astype(np.float32)
    after = lowered(model, tmp_path)
    assert [value.name for value in after.graph.output] == ["y"]
    assert relative_error(run(after, x=x), run(model, x=x)) < 1e-5


def test_group_normalization_of_old_opsets_is_left(tmp_path: Path) -> None:
    """Before opset 21, scale and shift are per group."""
    weights = {"s": np.array([1, 2], np.float32), "b": np.array([2, 1], np.float32)}
    node = helper.make_node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2)
    model = graph([node], [("x", "float32", [1, 4, 3, 3])], [("y", "float32", [1, 4, 3, 3])], weights, opset=18)
    assert [node.op_type for node in lowered(model, tmp_path).graph.node] == ["GroupNormalization"]


def test_weights_that_the_graph_names_without_type_and_shape_are_lowered_like_others(tmp_path: Path) -> None:
    model = block("float16")
    for tensor in model.graph.initializer:
        model.graph.value_info.add(name=tensor.name)
    after = lowered(model, tmp_path)
    assert TensorProto.FLOAT16 not in element_types(after)
    assert "GroupNormalization" not in {node.op_type for node in after.graph.node}


def test_half_precision_graph_computes_in_float32_from_its_half_precision_weights(tmp_path: Path) -> None:
    after = lowered(block("float16"), tmp_path)
    assert TensorProto.FLOAT16 not in element_types(after)
    sample = np.random.default_rng(1).standard_normal((2, 8, 6, 10)).astype(np.float32)
    rounded = block("float32")
    for tensor, half in zip(rounded.graph.initializer, block("float16").graph.initializer, strict=True):
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(half).astype(np.float32), tensor.name))
    assert relative_error(run(after, sample=sample), run(rounded, sample=sample)) < 1e-5


def test_attention_in_a_graph_without_inner_shapes_is_lowered(tmp_path: Path) -> None:
    """Bundles carry shapes of inputs and outputs alone; SD2.1's have casts around the attention too."""
    nodes = [helper.make_node("GroupNormalization", ["x", "s", "b"], ["n"], num_groups=2)]
    nodes.append(helper.make_node("Reshape", ["n", "tokens"], ["t"]))
    nodes.append(helper.make_node("Transpose", ["t"], ["q"], perm=[0, 2, 1]))
    for name in "qkv":
        nodes.append(helper.make_node("Reshape", ["q", "split"], [f"{name}4"]))
        nodes.append(helper.make_node("Transpose", [f"{name}4"], [f"{name}t"], perm=[0, 2, 1, 3]))
        nodes.append(helper.make_node("Cast", [f"{name}t"], [f"{name}f"], to=TensorProto.FLOAT))
    nodes.append(helper.make_node("Attention", ["qf", "kf", "vf"], ["a"]))
    nodes.append(helper.make_node("Cast", ["a"], ["ah"], to=TensorProto.FLOAT16))
    nodes.append(helper.make_node("Transpose", ["ah"], ["at"], perm=[0, 2, 1, 3]))
    nodes.append(helper.make_node("Reshape", ["at", "join"], ["j"]))
    nodes.append(helper.make_node("MatMul", ["j", "w"], ["y"]))
    shapes = {"tokens": [0, 8, -1], "split": [0, 0, 2, 4], "join": [0, 0, 8]}
    weights: dict[str, npt.NDArray[Any]] = {name: np.array(shape) for name, shape in shapes.items()}
    weights |= {"s": np.arange(8).astype(np.float16), "b": np.ones(8, np.float16), "w": np.eye(8, dtype=np.float16)}
    inputs, outputs = [("x", "float16", ["batch", 8, "height", "width"])], [("y", "float16", ["batch", "tokens", 8])]
    model = graph(nodes, inputs, outputs, weights, infer=False)
    assert not model.graph.value_info
    after = lowered(model, tmp_path)
    counts = Counter(node.op_type for node in after.graph.node)
    assert (counts["MultiHeadAttention"], counts["Attention"], counts["Cast"], counts["Transpose"]) == (1, 0, 0, 1)
    x = np.random.default_rng(0).standard_normal((2, 8, 3, 5)).astype(np.float16)
    assert relative_error(run(after, x=x.astype(np.float32)), run(model, x=x)) < 1e-2


def test_casts_between_half_and_single_precision_go_others_stay(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["up"], to=TensorProto.FLOAT),
        helper.make_node("Exp", ["up"], ["e"]),
        helper.make_node("Cast", ["e"], ["down"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["label"], ["l"], to=TensorProto.FLOAT16),
        helper.make_node("Add", ["down", "l"], ["sum"]),
        helper.make_node("Add", ["sum", "one"], ["y"]),
    ]
    one = helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.array([1], np.float16)))
    inputs = [("x", "float16", ["n"]), ("label", "int64", ["n"])]
    after = lowered(graph([one, *nodes], inputs, [("y", "float16", ["n"])]), tmp_path)
    assert [node.op_type for node in after.graph.node] == ["Constant", "Exp", "Cast", "Add", "Add"]
    got = run(after, x=np.array([0, 1], np.float32), label=np.array([1, 2]))
    np.testing.assert_allclose(got, [3, np.e + 3], rtol=1e-6)


def test_cast_to_an_output_keeps_the_outputs_name(tmp_path: Path) -> None:
    nodes = [helper.make_node("Exp", ["x"], ["e"]), helper.make_node("Cast", ["e"], ["y"], to=TensorProto.FLOAT)]
    after = lowered(graph(nodes, [("x", "float16", ["n"])], [("y", "float32", ["n"])]), tmp_path)
    assert [value.name for value in after.graph.output] == ["y"]
    np.testing.assert_allclose(run(after, x=np.array([0, 1], np.float32)), [1, np.e], rtol=1e-6)


def test_weights_inside_the_graph_are_lowered_too(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    files = component(tmp_path / "in", block("float16"), external=False)
    assert files.data == ()
    assert TensorProto.FLOAT16 not in element_types(onnx.load(lower(files, tmp_path / "out")))


def test_weights_computed_from_a_float32_file_are_lowered(tmp_path: Path) -> None:
    """The file is mapped, and let go of after each."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((8, 160)).astype(np.float32), "b": rng.standard_normal(160).astype(np.float32)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["sum"]),
        helper.make_node("Split", ["sum"], ["h", "g"], axis=-1, num_outputs=2),
        helper.make_node("Gelu", ["g"], ["open"]),
        helper.make_node("Mul", ["h", "open"], ["y"]),
    ]
    model = graph(nodes, [("x", "float32", ["batch", "tokens", 8])], [("y", "float32", ["batch", "tokens", 80])], weights)
    after = lowered(model, tmp_path)
    assert [node.op_type for node in after.graph.node].count("MatMul") == 2
    x = rng.standard_normal((2, 3, 8)).astype(np.float32)
    assert relative_error(run(after, x=x), run(model, x=x)) < 1e-5


@pytest.mark.parametrize("content", [b"not a graph", b"\x08\x0a\x3a\xff\xff"], ids=["text", "cut off"])
def test_unreadable_graph_is_a_bundle_error(content: bytes, tmp_path: Path) -> None:
    files = component(tmp_path, block())
    files.onnx.write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.onnx: not a readable ONNX graph; export the bundle again"):
        lower(files, tmp_path)


def test_empty_file_is_a_graph_without_standard_operators(tmp_path: Path) -> None:
    files = component(tmp_path, block())
    files.onnx.write_bytes(b"")
    with pytest.raises(BuildError, match="unet: got a graph without the standard ONNX operators; export the bundle again"):
        lower(files, tmp_path)


@pytest.mark.parametrize("location", ["../secret", "other.data"])
def test_weights_outside_the_component_are_refused(location: str, tmp_path: Path) -> None:
    files = component(tmp_path / "in", block())
    (tmp_path / "secret").write_bytes(bytes(10_000))
    model = onnx.load(files.onnx, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    files.onnx.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=r"expected one of \['model\.onnx\.data'\]"):
        lower(files, tmp_path)


@pytest.mark.parametrize("of", ["graph", "function"])
@pytest.mark.parametrize("attribute", ["value", "values"])
def test_external_tensor_in_an_attribute_is_refused(attribute: str, of: str, tmp_path: Path) -> None:
    """Even in the component's own file: exports keep them in the graph."""
    outside = numpy_helper.from_array(np.zeros(2, np.float32), "outside")
    onnx.external_data_helper.set_external_data(outside, "model.onnx.data")
    outside.ClearField("raw_data")
    constant = helper.make_node("Constant", [], ["y"], **{attribute: outside if attribute == "value" else [outside]})
    model = graph([constant], [], [("y", "float32", [2])], infer=False)
    if of == "function":
        model.functions.append(helper.make_function("f", "Two", [], ["y"], [constant], model.opset_import))
        model.graph.node[0].CopyFrom(helper.make_node("Two", [], ["y"], domain="f"))
    files = component(tmp_path, block())
    files.onnx.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=rf"'{attribute}' of a Constant lies in 'model\.onnx\.data'; expected it in the graph"):
        lower(files, tmp_path)


def test_graph_without_standard_operators_is_a_build_error(tmp_path: Path) -> None:
    made = helper.make_graph([], "none", [], [])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("com.microsoft", 1)], ir_version=10)
    with pytest.raises(BuildError, match="unet: got a graph without the standard ONNX operators"):
        lower(component(tmp_path, model), tmp_path)
