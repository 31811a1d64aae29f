"""Building for the cuda target, and how its sessions are asked for: ONNX Runtime is real where the CPU will do, else a fake session."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from sd2rt.engine import checked_build, gpu
from sd2rt.engine.accuracy import Accuracy, Gate
from sd2rt.engine.errors import BuildError, EngineError, MissingDependency, TargetUnavailable
from sd2rt.engine.gpu import Gpu
from sd2rt.engine.manifest import engine_key
from sd2rt.engine.ort import tensor_spec
from sd2rt.engine.ort_binding import OrtDeviceEngine, Place
from sd2rt.engine.ort_cuda import build, build_at, fingerprint, load, load_device, open_device, open_session, preload, provider_options
from sd2rt.engine.precision import AS_EXPORTED, FP32, FP32_ATTENTION
from sd2rt.engine.spec import BuildOptions, Guidance, PixelForm, StepForm
from tests.engine.graphs import block, component, graph
from tests.engine.ort_engines import built
from tests.engine.test_lower_casts import upcast

CUDA = BuildOptions(target="cuda")
RIGHT = Accuracy(output="out_sample", max_abs=0.01, max_relative=0.001, psnr_db=70.0, not_finite=0, gate=Gate(psnr_db=35.0))
STREAM = 94_000
NO_CAPTURE = "This session cannot use the graph capture feature as requested by the user"
HAS_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


@dataclass
class Tensor:
    """As onnxruntime.NodeArg."""

    name: str
    type: str
    shape: list[int | str]


@dataclass
class FakeSession:
    """A session on a GPU that notes what is bound to it and how it is run."""

    provider: str
    asked: dict[str, Any]
    bound: list[tuple[Any, ...]] = field(default_factory=list)
    runs: list[tuple[Any, Any]] = field(default_factory=list)

    def get_providers(self) -> list[str]:
        return [self.provider, "CPUExecutionProvider"]

    def get_inputs(self) -> list[Tensor]:
        return [Tensor("x", "tensor(float16)", ["batch", 4])]

    def get_outputs(self) -> list[Tensor]:
        return [Tensor("y", "tensor(uint8)", ["batch"])]

    def io_binding(self) -> "FakeSession":
        return self

    def bind_input(self, *what: Any) -> None:
        self.bound.append(what)

    def bind_output(self, *what: Any) -> None:
        self.bound.append(what)

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        self.runs.append((binding, options))


@dataclass
class Factory:
    """Stands for onnxruntime.InferenceSession: fails with `failures` in turn, then makes a session that says it is on `provider`."""

    provider: str = "CUDAExecutionProvider"
    failures: list[str] = field(default_factory=list)
    sessions: list[FakeSession] = field(default_factory=list)

    def __call__(self, path: Path, settings: Any, **asked: Any) -> FakeSession:
        if self.failures:
            raise RuntimeError(self.failures.pop(0))
        self.sessions.append(FakeSession(self.provider, {"path": path, **asked}))
        return self.sessions[-1]


def on_gpu(folder: Path, factory: Factory) -> tuple[OrtDeviceEngine, FakeSession]:
    engine = open_device(built(component(folder / "in", block()), CUDA, folder / "out"), CUDA, Place(stream=STREAM), make=factory)
    return engine, factory.sessions[-1]


def recordings(session: FakeSession) -> list[str]:
    return [options.get_run_config_entry("gpu_graph_id") for _, options in session.runs]


def test_an_engine_is_the_lowered_graph_with_its_weights_in_half_precision(tmp_path: Path) -> None:
    files = component(tmp_path / "in", block("float16"))
    entry = built(files, CUDA, tmp_path / "out")
    assert {path.name for path in entry.folder.iterdir()} == {"lowered.onnx", "lowered.bin"}
    assert "GroupNormalization" not in {node.op_type for node in onnx.load(entry.folder / "lowered.onnx").graph.node}
    assert (entry.folder / "lowered.bin").stat().st_size <= files.data[0].stat().st_size


def test_sizes_make_no_other_engine_but_forms_do() -> None:
    sized = BuildOptions(target="cuda", axes={"batch": (2, 2, 2)})
    steps = [StepForm(guidance=guidance, kept=kept) for guidance in Guidance for kept in (False, True)]
    forms = [None, *steps, PixelForm(scaling_factor=0.5), PixelForm(scaling_factor=0.25)]
    keys = {engine_key(fingerprint(BuildOptions(target="cuda", form=form))) for form in forms}
    assert len(keys) == len(forms)
    assert fingerprint(sized) == fingerprint(CUDA)
    assert str(fingerprint(CUDA)["backend"]).endswith(onnxruntime.__version__)


def test_building_without_onnx_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sd2rt.engine.precision", None)
    with pytest.raises(MissingDependency, match=r"building an engine needs sd2rt\.engine\.precision: pip install 'sd2rt\[gpu\]'"):
        build(component(tmp_path, block()), CUDA, tmp_path, lambda message: None)


@pytest.mark.parametrize(
    ("precision", "attention", "around"),
    [(AS_EXPORTED, "float16", "float16"), (FP32_ATTENTION, "float32", "float16"), (FP32, "float32", "float32")],
)
def test_an_engine_can_be_built_again_in_a_higher_precision(precision: str, attention: str, around: str, tmp_path: Path) -> None:
    """Inputs and outputs keep their types; attention loses its Transposes in every precision."""
    files = component(tmp_path / "in", downcast())
    entry = built(files, CUDA, tmp_path / "out")
    build_at(files, CUDA, entry.folder, precision)
    assert {path.name for path in entry.folder.iterdir()} == {"lowered.onnx", "lowered.bin"}
    assert types_of(entry.folder / "lowered.onnx", "MultiHeadAttention") == {attention}
    assert types_of(entry.folder / "lowered.onnx", "MatMul") == {around}
    engine = open_device(entry, CUDA, Place(device="cpu"))
    assert {spec.dtype for spec in (*engine.inputs, *engine.outputs)} == {"float16"}


def downcast() -> onnx.ModelProto:
    """Return an attention in float16 between matrix products."""
    model = upcast()
    for node in model.graph.node:
        if node.op_type == "Cast":
            node.attribute[0].i = onnx.TensorProto.FLOAT16
    del model.graph.value_info[:]
    return model


def types_of(path: Path, op_type: str) -> set[str]:
    """Return the types that the nodes of an operator give, with none of them widened: every value is asked for as an output."""
    model = onnx.load(path)
    names = [node.output[0] for node in model.graph.node if node.op_type == op_type]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    return {tensor_spec("", tensor).dtype for tensor in session.get_outputs()}


def test_graph_that_onnxruntime_refuses_is_a_build_error(tmp_path: Path) -> None:
    """Already where it is built, which may be on another machine than the one it is for."""
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest", nearest_mode="sideways")
    shapes = {"scales": np.array([1, 2], np.float32)}
    model = graph([node], [("x", "float32", [1, 4])], [("y", "float32", [1, 8])], shapes, infer=False)
    with pytest.raises(BuildError, match=r"unet: onnxruntime.* \d+\.\d+\.\d+ cannot use the graph: .*sideways"):
        build(component(tmp_path, model), CUDA, tmp_path, lambda message: None)


def test_provider_options() -> None:
    assert provider_options(Place(index=1, stream=STREAM), record=True) == {
        "device_id": "1",
        "user_compute_stream": "94000",
        "enable_cuda_graph": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
        "enable_skip_layer_norm_strict_mode": "1",
    }


def test_session_of_arrays_has_its_own_stream_and_is_not_recorded() -> None:
    options = provider_options(Place(), record=False)
    assert options["enable_cuda_graph"] == "0"
    assert "user_compute_stream" not in options


def test_session_is_asked_for_on_the_gpu_alone(tmp_path: Path) -> None:
    _, session = on_gpu(tmp_path, Factory())
    assert session.asked == {
        "path": tmp_path / "out" / "lowered.onnx",
        "providers": [("CUDAExecutionProvider", provider_options(Place(stream=STREAM), record=True))],
        "enable_fallback": 0,
    }


def test_device_memory_is_bound_by_address_and_launches_wait_for_nothing(tmp_path: Path) -> None:
    engine, session = on_gpu(tmp_path, Factory())
    engine.bind({"batch": 3}, {"x": 4096, "y": 8192}, 0)
    assert session.bound == [("x", "cuda", 0, np.float16, (3, 4), 4096), ("y", "cuda", 0, np.uint8, (3,), 8192)]
    engine.enqueue(STREAM)
    ((_, options),) = session.runs
    assert options.get_run_config_entry("disable_synchronize_execution_providers") == "1"


def test_every_binding_has_a_recording_of_its_own_up_to_a_limit(tmp_path: Path) -> None:
    engine, session = on_gpu(tmp_path, Factory())
    for address in [4096, 5120, 4096, *range(6144, 6144 + 15 * 256, 256)]:
        engine.bind({"batch": 3}, {"x": address, "y": 64}, 0)
        engine.enqueue(STREAM)
    assert recordings(session) == ["0", "1", "0", *map(str, range(2, 16)), "-1"]


def test_graph_that_cannot_be_recorded_is_launched_as_it_is(tmp_path: Path) -> None:
    engine, session = on_gpu(tmp_path, Factory(failures=[NO_CAPTURE]))
    assert session.asked["providers"] == [("CUDAExecutionProvider", provider_options(Place(stream=STREAM), record=False))]
    engine.bind({"batch": 3}, {"x": 4096, "y": 8192}, 0)
    engine.enqueue(STREAM)
    with pytest.raises(RuntimeError, match="gpu_graph_id"):
        recordings(session)


@pytest.mark.parametrize("failures", [["CUDA failure 2: out of memory"], [NO_CAPTURE, "CUDA failure 2: out of memory"]])
def test_engine_that_onnxruntime_refuses_is_an_engine_error(failures: list[str], tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="unet: ONNX Runtime cannot load the engine: out of memory; close other programs"):
        on_gpu(tmp_path, Factory(failures=failures))


def test_session_on_the_cpu_is_refused(tmp_path: Path) -> None:
    """ONNX Runtime makes one, with a warning, when a library is missing."""
    entry = built(component(tmp_path / "in", block()), CUDA, tmp_path / "out")
    message = (
        r"target cuda: .* CUDA or cuDNN \(Failed to load libcudnn\.so\.9\) and would run unet on the CPU: .*pip install 'sd2rt\[gpu\]'"
    )
    with pytest.raises(TargetUnavailable, match=message):
        open_session(entry, CUDA, Place(), record=False, make=Factory("CPUExecutionProvider"), trouble="Failed to load libcudnn.so.9")


def test_damaged_engine_is_an_engine_error(tmp_path: Path) -> None:
    entry = built(component(tmp_path / "in", block()), CUDA, tmp_path / "out")
    (entry.folder / "lowered.onnx").write_bytes(b"not a graph")
    with pytest.raises(EngineError, match="unet: ONNX Runtime cannot load the engine"):
        open_device(entry, CUDA, Place(device="cpu"))


@pytest.mark.skipif(HAS_CUDA, reason="this ONNX Runtime has CUDA kernels")
@pytest.mark.parametrize("open_engine", [load, lambda entry, options: load_device(entry, options, None, STREAM)])  # type: ignore[arg-type]
def test_onnxruntime_without_cuda_says_what_to_install(open_engine: Callable[..., Any], tmp_path: Path) -> None:
    entry = built(component(tmp_path / "in", block()), CUDA, tmp_path / "out")
    message = (
        r"target cuda: onnxruntime \d.+ has no CUDA kernels: uninstall onnxruntime and onnxruntime-gpu, then pip install 'sd2rt\[gpu\]'"
    )
    with pytest.raises(TargetUnavailable, match=message):
        open_engine(entry, CUDA)


def test_what_is_wrong_with_cudas_libraries_is_not_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libcudnn.so.9: no such file\nPlease follow"))
    assert preload() == "Failed to load libcudnn.so.9: no such file"
    assert capsys.readouterr().out == ""


def test_engines_are_compared_where_there_is_a_gpu_and_built_again_until_they_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = component(tmp_path / "bundle", block("float16"))
    options = BuildOptions(target="cuda", axes=dict.fromkeys(("batch", "height", "width"), (2, 2, 2)))
    answers = iter([replace(RIGHT, not_finite=3), RIGHT])
    monkeypatch.setattr(gpu, "find_gpu", lambda: Gpu(name="NVIDIA L40", capability=(8, 9), driver_version=13000))
    monkeypatch.setattr(checked_build, "compare_if_it_runs", lambda target, compare: next(answers))
    (tmp_path / "engine").mkdir()
    told: list[str] = []
    notes = build(files, options, tmp_path / "engine", told.append)
    assert told == ["unet: 3 values not finite in the cuda engine (as exported); building it again: fp32 attention"]
    assert (notes["precision"], notes["checked"]) == ("fp32 attention", "against the cpu engine")


@pytest.mark.parametrize("here", [True, False])
def test_what_cannot_be_compared_is_noted(here: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Gpu(name="NVIDIA L40", capability=(8, 9), driver_version=13000) if here else "no driver"
    monkeypatch.setattr(gpu, "find_gpu", lambda: found)
    (tmp_path / "engine").mkdir()
    notes = build(component(tmp_path / "bundle", block("float16")), BuildOptions(target="cuda"), tmp_path / "engine", print)
    assert notes == {
        "precision": "as exported",
        "checked": "built for any size: nothing to compare at" if here else "no GPU on this machine",
    }
