"""Reading a component's graph, and what its form makes of it."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.external_data_helper import ExternalDataInfo, set_external_data, uses_external_data

from sd2rt.engine.errors import BuildError, BundleError
from sd2rt.engine.forms import apply_form
from sd2rt.engine.spec import ComponentFiles, Form, Guidance, PixelForm, StepForm
from sd2rt.runtime.bundle import read_bundle
from sd2rt.toyworld import __file__ as toyworld
from tests.engine import rtx
from tests.engine.graphs import block, component, graph
from tests.engine.step_loop import unet

STEP, PIXELS = StepForm(guidance=Guidance.GUIDED), PixelForm(scaling_factor=0.5)
STEP_OUTPUTS = {"next_registers": "FLOAT", "next_step": "INT64", "denoised": "FLOAT"}


def toyworld_files(name: str) -> ComponentFiles:
    return read_bundle(Path(toyworld).with_name("bundle")).component(name).files


def weights(model: onnx.ModelProto) -> dict[str, tuple[str, int, int]]:
    """Say where each weight lies that is not in the graph."""
    infos = {tensor.name: ExternalDataInfo(tensor) for tensor in model.graph.initializer if uses_external_data(tensor)}
    return {name: (info.location, info.offset, info.length) for name, info in infos.items()}


def outside(location: str = "../secret") -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "outside")
    set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    return tensor


def assert_refused(tmp_path: Path, model: onnx.ModelProto, message: str) -> None:
    """Expect that a component of this graph, with a data file of its own, is refused."""
    files = component(tmp_path, block())
    files.onnx.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=message):
        apply_form(files, None)


def test_without_a_form_the_graph_is_what_it_was(tmp_path: Path) -> None:
    files = component(tmp_path, block())
    assert apply_form(files, None) == onnx.load(files.onnx, load_external_data=False)


@pytest.mark.parametrize(("name", "form"), [("unet", STEP), ("vae_decoder", PIXELS)])
def test_weights_stay_where_they_are(name: str, form: Form) -> None:
    files = toyworld_files(name)
    fused, plain = apply_form(files, form), apply_form(files, None)
    assert weights(fused) == weights(plain)
    assert len(weights(plain)) > 30


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (STEP, "unet: got a graph of sample -> out_sample; expected sample, timestep, encoder_hidden_states -> out_sample: export"),
        (PIXELS, "unet: got a graph of sample -> out_sample; expected latent_sample -> sample: export the bundle again"),
    ],
)
def test_a_form_that_does_not_fit_names_the_component(form: Form, message: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=message):
        apply_form(component(tmp_path, block()), form)


@pytest.mark.parametrize("content", [b"not a graph", b"\x08\x0a\x3a\xff\xff"], ids=["text", "cut off"])
def test_an_unreadable_graph_is_a_bundle_error(content: bytes, tmp_path: Path) -> None:
    files = component(tmp_path, block())
    files.onnx.write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.onnx: not a readable ONNX graph; export the bundle again"):
        apply_form(files, None)


@pytest.mark.parametrize("location", ["../secret", "other.data", "./model.onnx.data", "/etc/passwd", ""])
def test_weights_outside_the_component_are_refused(location: str, tmp_path: Path) -> None:
    model = block()
    model.graph.initializer.append(outside(location))
    assert_refused(tmp_path, model, rf"weight 'outside' lies in '{location}'; expected one of \['model\.onnx\.data'\]")


def test_a_data_file_in_another_folder_is_none_of_the_graphs(tmp_path: Path) -> None:
    """Libraries look for it beside the graph, where another one of its name may lie."""
    own, other = component(tmp_path / "own", block()), component(tmp_path / "other", block())
    files = ComponentFiles(name="unet", onnx=own.onnx, data=other.data, sha256=other.sha256)
    with pytest.raises(BundleError, match=r"lies in 'model\.onnx\.data'; expected one of \[\]"):
        apply_form(files, None)


def test_weights_of_inner_graphs_and_sparse_ones_are_looked_at(tmp_path: Path) -> None:
    branch = helper.make_graph([helper.make_node("Identity", ["outside"], ["y"])], "branch", [], [])
    branch.initializer.append(outside())
    choice = helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=helper.make_graph([], "none", [], []))
    message = r"weight 'outside' lies in '\.\./secret'"
    assert_refused(tmp_path / "branch", graph([choice], [("yes", "bool", [])], [], infer=False), message)
    nested = helper.make_graph([choice], "nested", [], [])
    outer = helper.make_node("If", ["yes"], ["y"], then_branch=nested, else_branch=nested)
    assert_refused(tmp_path / "nested", graph([outer], [("yes", "bool", [])], [], infer=False), message)
    in_function = graph([], [], [], infer=False)
    in_function.functions.append(helper.make_function("f", "Choose", ["yes"], ["y"], [choice], in_function.opset_import))
    assert_refused(tmp_path / "function", in_function, message)
    sparse = graph([], [], [], infer=False)
    sparse.graph.sparse_initializer.add(values=outside(), dims=[2])
    assert_refused(tmp_path / "sparse", sparse, message)


@pytest.mark.parametrize("where", ["graph", "branch", "function"])
@pytest.mark.parametrize("attribute", ["value", "values", "sparse_value"])
def test_external_tensors_in_attributes_are_refused(attribute: str, where: str, tmp_path: Path) -> None:
    """Even in the component's own file: exports keep them in the graph."""
    tensor: Any = outside("model.onnx.data")
    if attribute == "values":
        tensor = [tensor]
    if attribute == "sparse_value":
        tensor = onnx.SparseTensorProto(values=tensor, dims=[2])
    constant = helper.make_node("Constant", [], ["y"], **{attribute: tensor})
    branch = helper.make_graph([constant], "branch", [], [])
    node = helper.make_node("If", ["yes"], ["y"], then_branch=branch) if where == "branch" else constant
    model = graph([] if where == "function" else [node], [("yes", "bool", [])], [("y", "float32", [2])], infer=False)
    if where == "function":
        model.functions.append(helper.make_function("f", "Two", [], ["y"], [constant], model.opset_import))
    assert_refused(
        tmp_path, model, rf"'{attribute}' of a Constant lies in 'model\.onnx\.data'; expected it in the graph: export the bundle again"
    )


@pytest.mark.parametrize("guidance", Guidance)
def test_tensorrt_rtx_parses_toyworlds_step(guidance: Guidance) -> None:
    """In float16, with the weights where the bundle has them."""
    files = toyworld_files("unet")
    inputs, outputs = rtx.parse(apply_form(files, StepForm(guidance=guidance)), files.onnx)
    assert outputs == STEP_OUTPUTS
    floats = {"registers": "FLOAT", "table": "FLOAT", "noise": "FLOAT", **({} if guidance is Guidance.PLAIN else {"guidance": "FLOAT"})}
    assert inputs == {**floats, "step": "INT64", "encoder_hidden_states": "HALF"}


def test_tensorrt_rtx_parses_toyworlds_step_that_keeps_a_part() -> None:
    files = toyworld_files("unet")
    inputs, outputs = rtx.parse(apply_form(files, StepForm(guidance=Guidance.RESCALED, kept=True)), files.onnx)
    assert outputs == STEP_OUTPUTS
    assert {name: inputs.get(name) for name in ("known", "known_noise", "mask")} == dict.fromkeys(("known", "known_noise", "mask"), "FLOAT")


@pytest.mark.parametrize(("extra", "labels"), [(1, False), (3, True), (5, False)])
def test_tensorrt_rtx_parses_the_step_of_other_unets(extra: int, labels: bool, tmp_path: Path) -> None:
    files = component(tmp_path, unet(extra, labels, dtype="float16"), external=False)
    inputs, outputs = rtx.parse(apply_form(files, STEP), files.onnx)
    assert outputs == STEP_OUTPUTS
    assert inputs["extra"] == "FLOAT"
    assert inputs.get("class_labels") == ("INT64" if labels else None)


def test_tensorrt_rtx_parses_toyworlds_pixels() -> None:
    files = toyworld_files("vae_decoder")
    inputs, outputs = rtx.parse(apply_form(files, PIXELS), files.onnx)
    assert (inputs, outputs) == ({"latents": "FLOAT"}, {"pixels": "UINT8", "unit": "FLOAT", "broken": "INT32"})
