"""The fused step graph driven row by row in ONNX Runtime's CPU kernels, and the numpy loop over the same UNet to compare it with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper
from onnx.reference import ReferenceEvaluator

from sd2rt.engine.spec import ComponentFiles, Guidance, StepForm
from sd2rt.engine.step_table import REGISTERS
from sd2rt.runtime.denoise import denoise
from sd2rt.runtime.evaluations import Shortcuts, plan_evaluations
from sd2rt.runtime.guidance import GuidedModel
from sd2rt.runtime.samplers import SOLVERS, make_table
from sd2rt.runtime.schedule import Schedule
from sd2rt.runtime.start import Kept
from sd2rt.runtime.table import Table
from sd2rt.runtime.work import pack_steps
from tests.engine.graphs import Value, graph
from tests.engine.written import write_form

Floats = npt.NDArray[np.float32]
Trajectory = list[tuple[Floats, Floats]]  # (register 0 after the row, clean latents that the row predicted)
DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}
DTYPES_BY_NUMBER = {1: "tensor(float)", 7: "tensor(int64)", 10: "tensor(float16)"}
Sessions = tuple[onnxruntime.InferenceSession, onnxruntime.InferenceSession]
WIDTH = 6
SD2 = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
WITHOUT_SIGMAS = ("ddim", "ddpm", "pndm", "lcm")
SAMPLERS = [
    f"{solver} {kind}".strip() for solver in SOLVERS for kind in ("", "karras", "exponential") if not (kind and solver in WITHOUT_SIGMAS)
]
GATE = 1e-5  # of a trajectory's largest magnitude


def table(sampler: str, prediction: str, steps: int) -> Table:
    """Make a sampler's table on SD2's schedule; `prediction` is "epsilon", "v" or "sample"."""
    prediction_type = {"v": "v_prediction"}.get(prediction, prediction)
    return make_table(sampler, Schedule.from_config({**SD2, "prediction_type": prediction_type}), steps)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What both loops are given. `extra` and `labels` are for UNets that take them, `kept` for steps that do; states are [images, S, D]."""

    table: Table
    latents: Floats  # unit noise
    noise: Sequence[Floats]
    positive: Floats
    negative: Floats
    scale: float = 4.0
    rescale: float = 0.7
    extra: Floats | None = None
    labels: npt.NDArray[np.int64] | None = None
    kept: Kept | None = None

    def put_back(self) -> dict[str, Floats]:
        """Return the inputs of a step that keeps a part of the picture."""
        return {} if self.kept is None else {"known": self.kept.clean, "known_noise": self.kept.noise, "mask": self.kept.mask}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a task, not square, with several images: what is swapped or broadcast by mistake shows."""

    images: int = 2
    channels: int = 4
    extra: int = 0
    labels: bool = False
    kept: bool = False
    size: tuple[int, int] = (8, 6)
    sequence: int = 5
    width: int = WIDTH
    seed: int = 0

    def task(self, table: Table) -> Task:
        """Draw a task's arrays."""
        rng = np.random.default_rng(self.seed)

        def normals(*shape: int) -> Floats:
            return rng.standard_normal(shape, dtype=np.float32)

        latents = (self.images, self.channels, *self.size)
        return Task(
            table=table,
            latents=normals(*latents),
            noise=[normals(*latents) for _ in table.rows],
            positive=normals(self.images, self.sequence, self.width),
            negative=normals(self.images, self.sequence, self.width),
            extra=normals(self.images, self.extra, *self.size) if self.extra else None,
            labels=rng.integers(0, 10, self.images) if self.labels else None,
            kept=Kept(mask=rng.random((self.images, 1, *self.size), np.float32), clean=normals(*latents), noise=normals(*latents))
            if self.kept
            else None,
        )


def unet(extra: int = 0, labels: bool = False, dtype: str = "float32", timestep: str = "float32", opset: int = 23) -> onnx.ModelProto:
    """Return a graph with a UNet's inputs and outputs whose prediction depends on all of them: tanh(conv(sample) + text + time)."""
    rng = np.random.default_rng(extra)
    weights: dict[str, npt.NDArray[Any]] = {
        "kernel": (rng.standard_normal((4, 4 + extra, 3, 3)) * 0.2).astype(dtype),
        "mix": (rng.standard_normal((WIDTH, 4)) * 0.3).astype(dtype),
        "classes": (rng.standard_normal((10, 4)) * 0.5).astype(dtype),
        "sequence": np.array([1]),
        "column": np.array([0, 4, 1, 1]),
        "scalar": np.array([-1, 1, 1, 1]),
        "slow": np.array(1e-3, np.float32),
    }
    steps = [
        ("Conv", ["sample", "kernel"], "seen", {"pads": [1, 1, 1, 1]}),
        ("ReduceMean", ["encoder_hidden_states", "sequence"], "mean", {"keepdims": 0}),
        ("MatMul", ["mean", "mix"], "text", {}),
        *([("Gather", ["classes", "class_labels"], "label", {}), ("Add", ["text", "label"], "told", {})] if labels else []),
        ("Reshape", ["told" if labels else "text", "column"], "condition", {}),
        ("Cast", ["timestep"], "t", {"to": onnx.TensorProto.FLOAT}),
        ("Mul", ["t", "slow"], "slowed", {}),
        ("Cos", ["slowed"], "wave", {}),
        ("Cast", ["wave"], "typed", {"to": helper.np_dtype_to_tensor_dtype(np.dtype(dtype))}),
        ("Reshape", ["typed", "scalar"], "time", {}),
        ("Add", ["seen", "condition"], "sum", {}),
        ("Add", ["sum", "time"], "all", {}),
        ("Tanh", ["all"], "out_sample", {}),
    ]
    inputs: list[Value] = [
        ("sample", dtype, ["batch", 4 + extra, "height", "width"]),
        ("timestep", timestep, ["batch"]),
        ("encoder_hidden_states", dtype, ["batch", "sequence", WIDTH]),
        *([("class_labels", "int64", ["batch"])] if labels else []),
    ]
    if not labels:
        del weights["classes"]
    nodes = [helper.make_node(kind, names, [result], **attributes) for kind, names, result, attributes in steps]
    return graph(nodes, inputs, [("out_sample", dtype, ["batch", 4, "height", "width"])], weights, opset=opset)


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Load a graph on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class Evaluator:
    """ONNX's reference evaluator with the methods of a session, for true float16 arithmetic: ONNX Runtime's CPU kernels use float32."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._evaluator = ReferenceEvaluator(model)
        self._types = {value.name: DTYPES_BY_NUMBER[value.type.tensor_type.elem_type] for value in model.graph.input}

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=name, type=kind) for name, kind in self._types.items()]

    def get_outputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=name) for name in self._evaluator.output_names]

    def run(self, names: None, feeds: dict[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        return self._evaluator.run(names, feeds)


def sessions(files: ComponentFiles, guidance: Guidance, *, kept: bool = False) -> Sessions:
    """Load a component's UNet, fused and as it is."""
    with TemporaryDirectory() as folder:
        return open_session(write_form(files, StepForm(guidance=guidance, kept=kept), Path(folder))), open_session(files.onnx)


def run_fused(session: onnxruntime.InferenceSession | Evaluator, task: Task, guidance: Guidance) -> Trajectory:
    """Run the fused graph on what it gave, as the device loop does. Memory that a row has no use for holds NaN."""
    rows = task.table.rows
    garbage = np.full_like(task.latents, np.nan)
    registers = np.zeros((REGISTERS, *task.latents.shape), np.float32)
    registers[task.table.registers :] = np.nan
    registers[0] = task.latents * np.float32(task.table.init_scale)
    copies = 1 if guidance is Guidance.PLAIN else 2
    states = task.positive if copies == 1 else np.concatenate([task.negative, task.positive])
    feeds = {
        "registers": registers,
        "table": pack_steps(task.table),
        "step": np.zeros(1, np.int64),
        "encoder_hidden_states": states,
        "guidance": np.array([task.scale, task.rescale], np.float32),
        "extra": task.extra,
        "class_labels": None if task.labels is None else np.tile(task.labels, copies),
        **task.put_back(),
    }
    draws = iter(task.noise)
    done: Trajectory = []
    for index, row in enumerate(rows):
        assert feeds["step"] == [index]
        feeds["noise"] = next(draws) if row.uses_noise else garbage
        typed = {value.name: feeds[value.name].astype(DTYPES[value.type]) for value in session.get_inputs()}
        results = dict(zip([value.name for value in session.get_outputs()], session.run(None, typed), strict=True))
        feeds["registers"], feeds["step"] = results["next_registers"], results["next_step"]
        done.append((feeds["registers"][0], results["denoised"]))
    return done


def run_numpy(session: onnxruntime.InferenceSession | Evaluator, task: Task, guidance: Guidance) -> Trajectory:
    """Run the numpy loop over the UNet as it was."""
    types = {value.name: DTYPES[value.type] for value in session.get_inputs()}

    def unet(sample: Floats, timesteps: Floats, states: Floats, shallow: bool) -> Floats:
        copies = len(sample) // len(task.latents)
        extra = [] if task.extra is None else [np.tile(task.extra, (copies, 1, 1, 1))]
        feeds = {"sample": np.concatenate([sample, *extra], axis=1), "timestep": timesteps, "encoder_hidden_states": states}
        if task.labels is not None:
            feeds["class_labels"] = np.tile(task.labels, copies)
        (result,) = session.run(None, {name: feeds[name].astype(dtype) for name, dtype in types.items()})
        return np.asarray(result, np.float32)

    rescale = task.rescale if guidance is Guidance.RESCALED else 0.0
    evaluations = plan_evaluations(len(task.table.rows), guided=guidance is not Guidance.PLAIN, shortcuts=Shortcuts())
    model = GuidedModel(unet, (task.positive, task.negative), evaluations, task.scale, rescale)
    draws, keep = iter(task.noise), None if task.kept is None else task.kept.apply
    return [(step.latents, step.denoised) for step in denoise(task.table, model, task.latents, lambda: next(draws), keep=keep)]


def difference(got: Trajectory, expected: Trajectory) -> float:
    """Return the largest difference in a trajectory, relative to the largest magnitude of what was expected at its row."""
    assert len(got) == len(expected)
    pairs = [pair for rows in zip(got, expected, strict=True) for pair in zip(*rows, strict=True)]
    for value, wanted in pairs:
        assert value.shape == wanted.shape
        assert np.isfinite(wanted).all()
    return float(max(np.abs(value - wanted).max() / np.abs(wanted).max() for value, wanted in pairs))
