"""The fused step graph of small hand-written UNets against the numpy loop: every guidance and every interface that a UNet has."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from sd2rt.engine.errors import BuildError
from sd2rt.engine.spec import Guidance
from sd2rt.engine.step_graph import fuse_step
from sd2rt.engine.step_table import pack_row, pack_table
from sd2rt.runtime.samplers import SOLVERS
from tests.engine.graphs import block, component
from tests.engine.step_loop import GATE, Evaluator, Shape, difference, run_fused, run_numpy, sessions, table, unet

INTERFACES = {
    "4": Shape(),
    "5": Shape(extra=1),
    "7 and labels": Shape(extra=3, labels=True),
    "9": Shape(extra=5),
    "labels": Shape(labels=True),
    "4, kept": Shape(kept=True),
    "7 and labels, kept": Shape(extra=3, labels=True, kept=True),
}
GUIDED = (Guidance.GUIDED, Guidance.RESCALED)


def values(infos: Any) -> dict[str, tuple[str, tuple[int | str, ...]]]:
    """Describe inputs or outputs: dtype and axes by name."""
    kinds = {info.name: info.type.tensor_type for info in infos}
    axes = {name: tuple(axis.dim_param or axis.dim_value for axis in kind.shape.dim) for name, kind in kinds.items()}
    return {name: (TensorProto.DataType.Name(kind.elem_type), axes[name]) for name, kind in kinds.items()}


@pytest.mark.parametrize("guidance", Guidance)
@pytest.mark.parametrize("shape", INTERFACES.values(), ids=INTERFACES)
def test_paints_as_the_numpy_loop_does_with_every_solver(shape: Shape, guidance: Guidance, tmp_path: Path) -> None:
    step, plain = sessions(component(tmp_path, unet(shape.extra, shape.labels), external=False), guidance, kept=shape.kept)
    for prediction in ("epsilon", "v"):
        tasks = {solver: shape.task(table(solver, prediction, steps=8)) for solver in SOLVERS}
        errors = {solver: difference(run_fused(step, task, guidance), run_numpy(plain, task, guidance)) for solver, task in tasks.items()}
        assert max(errors.values()) < GATE, errors


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("guidance", Guidance)
def test_paints_as_the_numpy_loop_does_with_a_float16_unet(guidance: Guidance, kept: bool) -> None:
    """In true float16 arithmetic: what is cast for the UNet, and only that."""
    model = unet(3, labels=True, dtype="float16")
    task = Shape(extra=3, labels=True, kept=kept, size=(3, 4)).task(table("dpm++ 2m sde", "v", steps=4))
    got = run_fused(Evaluator(fuse_step(model, guidance, kept=kept)), task, guidance)
    assert difference(got, run_numpy(Evaluator(model), task, guidance)) < GATE


def test_timesteps_are_cast_to_what_the_unet_takes(tmp_path: Path) -> None:
    step, plain = sessions(component(tmp_path, unet(timestep="int64"), external=False), Guidance.GUIDED)
    task = Shape().task(table("ddim", "v", steps=8))
    assert difference(run_fused(step, task, Guidance.GUIDED), run_numpy(plain, task, Guidance.GUIDED)) < GATE


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("guidance", Guidance)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_inputs_and_outputs_of_a_step(guidance: Guidance, dtype: str, kept: bool) -> None:
    latents, registers = ("images", 4, "height", "width"), (5, "images", 4, "height", "width")
    graph = fuse_step(unet(3, labels=True, dtype=dtype), guidance, kept=kept).graph
    put_back = {"known": ("FLOAT", latents), "known_noise": ("FLOAT", latents), "mask": ("FLOAT", ("images", 1, "height", "width"))}
    assert values(graph.input) == {
        "registers": ("FLOAT", registers),
        "table": ("FLOAT", (2048, 41)),
        "step": ("INT64", (1,)),
        "extra": ("FLOAT", ("images", 3, "height", "width")),
        "encoder_hidden_states": ({"float16": "FLOAT16", "float32": "FLOAT"}[dtype], ("batch", "sequence", 6)),
        "class_labels": ("INT64", ("batch",)),
        "noise": ("FLOAT", latents),
        **({"guidance": ("FLOAT", (2,))} if guidance in GUIDED else {}),
        **(put_back if kept else {}),
    }
    outputs = {"next_registers": ("FLOAT", registers), "next_step": ("INT64", (1,)), "denoised": ("FLOAT", latents)}
    assert values(graph.output) == outputs


@pytest.mark.parametrize(("extra", "labels"), [(0, False), (1, False), (0, True)])
def test_a_step_takes_extra_channels_and_labels_only_where_the_unet_does(extra: int, labels: bool) -> None:
    inputs = values(fuse_step(unet(extra, labels), Guidance.PLAIN).graph.input)
    assert ("extra" in inputs, "class_labels" in inputs) == (extra > 0, labels)


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("guidance", Guidance)
@pytest.mark.parametrize("opset", [18, 21, 23])
def test_the_model_is_valid_and_as_new_as_the_unet(guidance: Guidance, opset: int, kept: bool) -> None:
    model = fuse_step(unet(5, opset=opset), guidance, kept=kept)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    assert model.ir_version == 10
    used = {name for node in model.graph.node for name in node.input}
    assert [tensor.name for tensor in model.graph.initializer if tensor.name not in used] == []


def test_a_weight_of_0_keeps_even_infinities_out() -> None:
    """As in the numpy loop: here of the model output, which overflows, and of the other registers."""
    model = fuse_step(unet(), Guidance.PLAIN)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    weights = np.array([[2.0, 0.0, 0.0, 3.0], [1.0, 0.0, 0.0, 0.0]])
    registers = np.full((5, 1, 4, 2, 3), np.inf, np.float32)
    registers[0] = 5.0
    feeds = {
        "registers": registers,
        "table": pack_table([pack_row(0.0, 1.0, (1.0, 0.0), weights)]),
        "step": np.zeros(1, np.int64),
        "encoder_hidden_states": np.full((1, 5, 6), np.nan, np.float32),
        "noise": np.full((1, 4, 2, 3), 7.0, np.float32),
    }
    (after,) = session.run(["next_registers"], feeds)
    assert after.reshape(5, -1).tolist() == [[31.0] * 24, [5.0] * 24] + [[0.0] * 24] * 3


def test_what_is_kept_is_back_at_its_noise_level_and_nothing_else_changes() -> None:
    """Register 0 alone, where the mask is 0; the prediction and the other registers are the update's."""
    weights = np.array([[0.0, 0.0, 0.0, 3.0], [1.0, 0.0, 0.0, 0.0]])
    mask = np.zeros((1, 1, 2, 3), np.float32)
    mask[..., 1:], mask[..., 2:] = 0.5, 1.0
    feeds = {
        "registers": np.full((5, 1, 4, 2, 3), 5.0, np.float32),
        "table": pack_table([pack_row(0.0, 1.0, (2.0, 0.0), weights, known_alpha=0.5, known_sigma=0.25)]),
        "step": np.zeros(1, np.int64),
        "encoder_hidden_states": np.zeros((1, 5, 6), np.float32),
        "noise": np.full((1, 4, 2, 3), 7.0, np.float32),
        "known": np.full((1, 4, 2, 3), 10.0, np.float32),
        "known_noise": np.full((1, 4, 2, 3), 4.0, np.float32),
        "mask": mask,
    }
    model = fuse_step(unet(), Guidance.PLAIN, kept=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    after, denoised = session.run(["next_registers", "denoised"], feeds)
    assert after.reshape(5, -1).tolist() == [[6.0, 13.5, 21.0] * 8, [5.0] * 24] + [[0.0] * 24] * 3
    assert np.unique(denoised) == 10.0


def test_functions_of_the_unet_stay(tmp_path: Path) -> None:
    model = unet()
    function = helper.make_function("own", "Bend", ["x"], ["y"], [helper.make_node("Tanh", ["x"], ["y"])], model.opset_import)
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    last = model.graph.node[-1]
    last.op_type, last.domain = "Bend", "own"
    step, _ = sessions(component(tmp_path / "own", model, external=False), Guidance.GUIDED)
    _, plain = sessions(component(tmp_path / "plain", unet(), external=False), Guidance.GUIDED)
    task = Shape().task(table("euler", "epsilon", steps=3))
    assert difference(run_fused(step, task, Guidance.GUIDED), run_numpy(plain, task, Guidance.GUIDED)) < GATE


def test_a_graph_that_is_no_unet_is_refused() -> None:
    expected = (
        "got a graph of sample -> out_sample; expected sample, timestep, encoder_hidden_states -> out_sample: export the bundle again"
    )
    with pytest.raises(BuildError, match=expected):
        fuse_step(block(), Guidance.PLAIN)


def test_an_empty_graph_is_refused() -> None:
    with pytest.raises(BuildError, match="got a graph of nothing -> nothing; expected sample"):
        fuse_step(onnx.ModelProto(), Guidance.PLAIN)


def test_a_graph_of_an_old_opset_is_refused() -> None:
    model = unet()
    model.opset_import[0].version = 17
    with pytest.raises(BuildError, match="got a graph of opset 17; expected at least 18: export the bundle again"):
        fuse_step(model, Guidance.PLAIN)


@pytest.mark.parametrize("axes", [["batch", "channels", "height", "width"], ["batch", 4]], ids=str)
def test_a_graph_of_unknown_channels_is_refused(axes: list[int | str]) -> None:
    model = unet()
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("out_sample", TensorProto.FLOAT, axes))
    with pytest.raises(BuildError, match=r"out_sample: got axes \['batch'.*expected batch, a fixed number of channels, height, width"):
        fuse_step(model, Guidance.PLAIN)


def test_a_unet_that_predicts_more_than_latents_is_refused() -> None:
    model = unet()
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 8
    with pytest.raises(BuildError, match="got a UNet with 4 channels in, 8 out; expected no more out than in"):
        fuse_step(model, Guidance.PLAIN)


def test_a_graph_with_inner_names_of_a_steps_inputs_is_refused() -> None:
    model = unet()
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["noise" if name == "sum" else name for name in names]
    with pytest.raises(BuildError, match=r"got a graph that cannot be merged .*noise.*: export the bundle again"):
        fuse_step(model, Guidance.PLAIN)
