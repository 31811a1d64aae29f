"""The two cuts of a UNet for DeepCache, on a small graph by hand and on toyworld's models."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import helper

from sd2rt.engine import BuildOptions, open_engine
from sd2rt.engine.deep_graph import cut_deep
from sd2rt.engine.errors import BuildError, InvalidArgument
from sd2rt.engine.forms import apply_form
from sd2rt.engine.spec import ComponentFiles, DeepForm, DeepPart
from sd2rt.runtime.bundle import read_bundle
from sd2rt.toyworld import __file__ as toyworld
from tests.engine.graphs import block, component, graph, relative_error

Arrays = dict[str, npt.NDArray[Any]]
PARTS = (DeepPart.FULL, DeepPart.SHALLOW)
WIDTH = 6  # channels inside the small UNet
IMAGE = ["batch", 4, "height", "width"]


def unet(*, last: str = "Conv", axis: int = 1, skip_first: bool = False, dtype: str = "float32") -> onnx.ModelProto:
    """Return a UNet of one level of 1 x 1 convolutions: in, down, mid, and two layers up that join what came in and down.

    `last` is the operator that makes the map before the last layer; with `skip_first` its Concat reads the skip first.
    """
    rng = np.random.default_rng(0)
    shapes = {"in": (WIDTH, 4), "down": (WIDTH, WIDTH), "mid": (5, WIDTH), "up0": (WIDTH, 5 + WIDTH), "up1": (4, 2 * WIDTH)}
    weights: Arrays = {name: rng.standard_normal((*shape, 1, 1)).astype(dtype) for name, shape in shapes.items()}
    joined = ["came", "map"] if skip_first else ["map", "came"]
    nodes = [
        helper.make_node("Cast", ["timestep"], ["t0"], to=onnx.TensorProto.DataType.Value(onnx_name(dtype))),
        helper.make_node("Unsqueeze", ["t0", "axes"], ["t"]),
        helper.make_node("ReduceMean", ["encoder_hidden_states", "both"], ["c0"], keepdims=1),
        helper.make_node("Unsqueeze", ["c0", "axis_1"], ["c"]),
        helper.make_node("Conv", ["sample", "in"], ["came"]),
        helper.make_node("Conv", ["came", "down"], ["d"]),
        helper.make_node("Mul", ["d", "t"], ["went"]),
        helper.make_node("Conv", ["went", "mid"], ["m0"]),
        helper.make_node("Add", ["m0", "c"], ["m"]),
        helper.make_node("Concat", ["m", "went"], ["j0"], axis=1),
        helper.make_node("Conv", ["j0", "up0"], ["u"]),
        helper.make_node("Add", ["t", "u"], ["s"]),
        helper.make_node(last, ["s", "down"] if last == "Conv" else ["s"], ["map"]),
        helper.make_node("Concat", joined, ["j1"], axis=axis),
        helper.make_node("Conv", ["j1", "up1"], ["out_sample"]),
    ]
    weights |= {"axes": np.array([1, 2, 3]), "both": np.array([1, 2]), "axis_1": np.array([1])}
    inputs = [("sample", dtype, IMAGE), ("timestep", "float32", ["batch"]), ("encoder_hidden_states", dtype, ["batch", "sequence", 8])]
    return graph(nodes, inputs, [("out_sample", dtype, IMAGE)], weights, infer=False)


def onnx_name(dtype: str) -> str:
    return {"float32": "FLOAT", "float16": "FLOAT16"}[dtype]


def feeds(seed: int, dtype: str = "float32") -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        "sample": rng.standard_normal((2, 4, 3, 5)).astype(dtype),
        "timestep": np.array([0.5 + seed, 1.5], np.float32),
        "encoder_hidden_states": rng.standard_normal((2, 7, 8)).astype(dtype),
    }


def run(model: onnx.ModelProto, arrays: Arrays) -> Arrays:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([value.name for value in session.get_outputs()], session.run(None, arrays), strict=True))


def described(value: onnx.ValueInfoProto) -> tuple[str, int, list[str | int]]:
    kind = value.type.tensor_type
    return value.name, kind.elem_type, [axis.dim_param or axis.dim_value for axis in kind.shape.dim]


@pytest.mark.parametrize("skip_first", [False, True])
@pytest.mark.parametrize("axis", [1, -3])
@pytest.mark.parametrize("branch", [1, 2])
def test_shallow_goes_on_where_full_was(branch: int, axis: int, skip_first: bool) -> None:
    model = unet(axis=axis, skip_first=skip_first)
    full, shallow = (cut_deep(model, DeepForm(part=part, branch=branch)) for part in PARTS)
    for made in (full, shallow):
        onnx.checker.check_model(made)
    whole = run(full, feeds(0))
    np.testing.assert_array_equal(whole["out_sample"], run(model, feeds(0))["out_sample"])
    got = run(shallow, feeds(0) | {"deep_features": whole["deep_features"]})
    assert list(got) == ["out_sample"]
    np.testing.assert_allclose(got["out_sample"], whole["out_sample"], rtol=1e-6)
    other = run(shallow, feeds(0) | {"deep_features": run(full, feeds(1))["deep_features"]})["out_sample"]
    assert relative_error(other, whole["out_sample"]) > 0.1


def test_shallow_has_only_what_it_needs() -> None:
    shallow = cut_deep(unet(), DeepForm(part=DeepPart.SHALLOW))
    assert [node.op_type for node in shallow.graph.node] == ["Identity", "Conv", "Concat", "Conv"]
    assert [weight.name for weight in shallow.graph.initializer] == ["in", "up1"]
    assert [value.name for value in shallow.graph.input] == ["sample", "timestep", "encoder_hidden_states", "deep_features"]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("last", ["Conv", "Identity"])
def test_the_map_is_declared(dtype: str, last: str) -> None:
    element = onnx.TensorProto.DataType.Value(onnx_name(dtype))
    full, shallow = (cut_deep(unet(last=last, dtype=dtype), DeepForm(part=part)) for part in PARTS)
    assert described(full.graph.output[-1]) == described(shallow.graph.input[-1])
    assert described(full.graph.output[-1]) == ("deep_features", element, ["batch", WIDTH, "height", "width"])


def test_a_cast_gives_the_map_its_type() -> None:
    model = unet(last="Identity", dtype="float16")
    cast = next(node for node in model.graph.node if "map" in node.output)
    cast.op_type = "Cast"
    cast.attribute.append(helper.make_attribute("to", onnx.TensorProto.FLOAT))
    assert described(cut_deep(model, DeepForm(part=DeepPart.FULL)).graph.output[-1])[1] == onnx.TensorProto.FLOAT


def test_the_graph_itself_stays_as_it_was() -> None:
    model = unet()
    before = model.SerializeToString()
    for part in PARTS:
        cut_deep(model, DeepForm(part=part))
    assert model.SerializeToString() == before


def test_what_a_branch_inside_a_node_reads_comes_along() -> None:
    model = unet()
    inner = helper.make_graph([helper.make_node("Conv", ["j1", "up1"], ["y"])], "inner", [], [helper.make_empty_tensor_value_info("y")])
    choice = helper.make_node("If", ["yes"], ["out_sample"], then_branch=inner, else_branch=inner)
    del model.graph.node[-1]
    model.graph.node.append(choice)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
    shallow = cut_deep(model, DeepForm(part=DeepPart.SHALLOW))
    assert [weight.name for weight in shallow.graph.initializer] == ["in", "up1", "yes"]


def test_a_branch_below_1_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="branch: got 0; expected at least 1"):
        DeepForm(part=DeepPart.FULL, branch=0)


def test_a_branch_beyond_the_layers_is_refused() -> None:
    with pytest.raises(BuildError, match="branch: got 3; expected 1 to 2, the layers of this UNet that join a skip"):
        cut_deep(unet(), DeepForm(part=DeepPart.FULL, branch=3))


@pytest.mark.parametrize("axis", [0, 2])
def test_a_unet_without_skips_is_refused(axis: int) -> None:
    model = unet(axis=axis)
    first = next(node for node in model.graph.node if "j0" in node.output)
    first.attribute[0].i = axis
    with pytest.raises(BuildError, match="got a graph without layers that join their input with a skip; expected a UNet"):
        cut_deep(model, DeepForm(part=DeepPart.FULL))


def test_the_map_may_be_read_by_more_than_one_layer() -> None:
    model = unet()
    model.graph.node[-1].output[0] = "y"
    model.graph.node.append(helper.make_node("ReduceMean", ["map", "axes"], ["level"], keepdims=1))
    model.graph.node.append(helper.make_node("Add", ["y", "level"], ["out_sample"]))
    shallow = cut_deep(model, DeepForm(part=DeepPart.SHALLOW))
    assert [node.op_type for node in shallow.graph.node] == ["Identity", "Conv", "Concat", "Conv", "ReduceMean", "Add"]


def test_a_map_of_unknown_channels_is_refused() -> None:
    model = unet(last="Relu")
    with pytest.raises(BuildError, match="got a map 'map' of unknown channels; expected one that a convolution makes: export"):
        cut_deep(model, DeepForm(part=DeepPart.FULL))


def test_a_component_that_is_no_unet_is_refused(tmp_path: Path) -> None:
    files = component(tmp_path, block())
    with pytest.raises(BuildError, match="unet: got a graph of sample -> out_sample; expected sample, timestep, encoder_hidden_states"):
        apply_form(files, DeepForm(part=DeepPart.FULL))


def toyworld_unet(manifest: str) -> ComponentFiles:
    return read_bundle(Path(toyworld).with_name("bundle") / manifest).component("unet").files


@pytest.mark.parametrize(("manifest", "channels"), [("bundle", 4), ("inpainting", 9), ("depth", 5), ("upscaler", 7)])
def test_toyworlds_engines(manifest: str, channels: int) -> None:
    """The engine of a full step gives what the plain one does, and a map that the shallow one goes on from."""
    rng = np.random.default_rng(0)
    files = toyworld_unet(f"{manifest}.json")
    arrays: Arrays = {
        "sample": rng.standard_normal((2, channels, 8, 16), dtype=np.float32),
        "timestep": np.array([700.0, 20.0], np.float32),
        "encoder_hidden_states": rng.standard_normal((2, 77, 64), dtype=np.float32),
        **({"class_labels": np.array([20, 5])} if manifest == "upscaler" else {}),
    }
    options = [BuildOptions(target="cpu", threads=1, form=form) for form in (None, *(DeepForm(part=part) for part in PARTS))]
    plain, full, shallow = (open_engine(files, option) for option in options)
    expected = plain.run(arrays)["out_sample"]
    whole = full.run(arrays)
    again = shallow.run(arrays | {"deep_features": whole["deep_features"]})["out_sample"]
    assert relative_error(whole["out_sample"], expected) < 1e-5
    assert relative_error(again, expected) < 1e-5


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_map_that_a_convolution_in_int8_makes_is_declared(dtype: str, tmp_path: Path) -> None:
    model = unet(dtype=dtype)
    maker = next(node for node in model.graph.node if list(node.output) == ["map"])
    maker.input[1] = "wide"
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", ["narrow", "scale"], ["wide"], axis=0))
    for name, array in {"narrow": np.ones((WIDTH, WIDTH, 1, 1), np.int8), "scale": np.ones(WIDTH, dtype)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    full = cut_deep(model, DeepForm(part=DeepPart.FULL, branch=1))
    name, kind, shape = described(full.graph.output[1])
    assert (name, kind, shape[1]) == ("deep_features", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), WIDTH)


def test_a_map_of_a_weight_that_is_computed_is_refused() -> None:
    model = unet()
    next(node for node in model.graph.node if list(node.output) == ["map"]).input[1] = "wide"
    model.graph.node.insert(0, helper.make_node("Identity", ["down"], ["wide"]))
    with pytest.raises(BuildError, match="map 'map' of unknown channels"):
        cut_deep(model, DeepForm(part=DeepPart.FULL, branch=1))
