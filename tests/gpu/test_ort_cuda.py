"""The cuda target on a GPU: ONNX Runtime's CUDA kernels against its CPU kernels, recorded launches, and numbers at the edge."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from sd2rt.engine import open_engine
from sd2rt.engine.accuracy import check_engine, fixed_feeds
from sd2rt.engine.cuda import Driver, find_gpu, open_driver
from sd2rt.engine.device_buffers import DeviceBuffers
from sd2rt.engine.device_loop import DeviceLoop, LoopEngines
from sd2rt.engine.ort_binding import OrtDeviceEngine, Place
from sd2rt.engine.ort_cuda import load, open_device, preload
from sd2rt.engine.spec import BuildOptions, ComponentFiles, Form, Guidance, PixelForm, StepForm
from sd2rt.runtime.bundle import read_bundle
from tests.engine.device_rig import SCALING, SEQUENCE, axes_of, files, make_job, numpy_trajectory
from tests.engine.graphs import component, relative_error
from tests.engine.ort_engines import built
from tests.engine.step_loop import Shape, difference
from tests.engine.test_lower_casts import CHANNELS, upcast
from tests.engine.test_lower_group_norm import normalization

pytestmark = pytest.mark.gpu

TOYWORLD = Path(__file__).parents[2] / "toyworld" / "bundle"
AXES = {"images": 1, "batch": 2, "height": 16, "width": 24, "sequence": 77, "image_height": 128, "image_width": 192}
LAUNCHES = 100
FORMS: list[tuple[str, Form]] = [
    *((name, None) for name in ("text_encoder", "unet", "vae_decoder", "vae_encoder")),
    ("unet", StepForm(guidance=Guidance.GUIDED)),
    ("unet", StepForm(guidance=Guidance.RESCALED)),
    ("unet", StepForm(guidance=Guidance.GUIDED, kept=True)),
    ("vae_decoder", PixelForm(scaling_factor=0.18215)),
]
Arrays = dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module", autouse=True)
def gpu() -> None:
    found = find_gpu()
    if isinstance(found, str):
        pytest.skip(found)
    preload()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SD2RT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def held() -> Iterator[DeviceBuffers]:
    """A driver, a stream and memory on the GPU."""
    driver = open_driver()
    stream = driver.create_stream()
    buffers = DeviceBuffers(driver, stream)
    yield buffers
    driver.synchronize(stream)
    buffers.close()
    driver.destroy_stream(stream)


def opened(
    component_files: ComponentFiles, form: Form, folder: Path, stream: int, axes: Mapping[str, int]
) -> tuple[OrtDeviceEngine, list[dict[str, Any]]]:
    """Load an engine of fixed sizes; return it with what every session made for it was asked for."""
    asked: list[dict[str, Any]] = []

    def make(*arguments: Any, **named: Any) -> onnxruntime.InferenceSession:
        asked.append(named)
        return onnxruntime.InferenceSession(*arguments, **named)

    options = BuildOptions(target="cuda", form=form, axes={name: (size, size, size) for name, size in axes.items()})
    return open_device(built(component_files, options, folder), options, Place(stream=stream), make=make), asked


class Launcher:
    """An engine bound to memory of its own."""

    def __init__(self, held: DeviceBuffers, engine: OrtDeviceEngine, axes: Mapping[str, int]) -> None:
        self._driver, self._stream, self._engine = held.driver, held.stream, engine
        self._tensors = {spec.name: held.tensor(spec, axes) for spec in (*engine.inputs, *engine.outputs)}
        engine.bind(axes, {name: tensor.address for name, tensor in self._tensors.items()}, 0)

    def upload(self, feeds: Arrays) -> None:
        for spec in self._engine.inputs:
            array = np.ascontiguousarray(feeds[spec.name].astype(spec.dtype))
            self._driver.upload(self._tensors[spec.name].address, array, self._stream)
        self._driver.synchronize(self._stream)

    def launch(self) -> None:
        self._engine.enqueue(self._stream)

    def results(self) -> Arrays:
        found = {spec.name: np.empty(self._tensors[spec.name].shape, spec.dtype) for spec in self._engine.outputs}
        for name, array in found.items():
            self._driver.download(array, self._tensors[name].address, self._stream)
        self._driver.synchronize(self._stream)
        return found


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_components_pass_their_gate_against_the_cpu(name: str, form: Form, tmp_path: Path) -> None:
    component_files = read_bundle(TOYWORLD).component(name).files
    reference = open_engine(component_files, BuildOptions(target="cpu", form=form))
    options = BuildOptions(target="cuda", form=form)
    engine = load(built(component_files, options, tmp_path / "built"), options)
    found = check_engine(engine, reference, fixed_feeds(engine.inputs, AXES))
    assert found.passes, found


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_every_launch_is_right_from_the_first_and_all_graphs_are_recorded(
    name: str, form: Form, held: DeviceBuffers, tmp_path: Path
) -> None:
    component_files = read_bundle(TOYWORLD).component(name).files
    reference = open_engine(component_files, BuildOptions(target="cpu", form=form))
    engine, asked = opened(component_files, form, tmp_path / "built", held.stream, AXES)
    assert [provider[1]["enable_cuda_graph"] for ask in asked for provider in ask["providers"]] == ["1"]  # none without
    launcher = Launcher(held, engine, AXES)
    for seed in range(3):
        feeds = fixed_feeds(reference.inputs, AXES, seed)
        launcher.upload(feeds)
        launcher.launch()
        got, expected = launcher.results(), reference.run(feeds)
        for output, array in expected.items():
            if array.dtype == np.float32:
                assert relative_error(got[output], array) < 0.1, (seed, output)
    engine.close()


def test_launches_do_not_wait(held: DeviceBuffers, tmp_path: Path) -> None:
    form = StepForm(guidance=Guidance.GUIDED)
    engine, _ = opened(read_bundle(TOYWORLD).component("unet").files, form, tmp_path / "built", held.stream, AXES)
    launcher = Launcher(held, engine, AXES)
    launcher.upload(fixed_feeds(engine.inputs, AXES))
    launcher.launch()  # records
    done = held.event()
    for _ in range(LAUNCHES):
        launcher.launch()
    held.driver.record(done, held.stream)
    assert not held.driver.is_done(done)
    engine.close()


@pytest.mark.parametrize("level", [0.0, 10.1, -100.3, 1234.0, 30000.0])
def test_groups_without_any_variance_give_the_bias(level: float, held: DeviceBuffers, tmp_path: Path) -> None:
    model, axes = normalization(20, 2, "float16"), {"batch": 2, "height": 64, "width": 64}
    bias = onnx.numpy_helper.to_array(model.graph.initializer[1])
    engine, _ = opened(component(tmp_path / "in", model), None, tmp_path / "built", held.stream, axes)
    launcher = Launcher(held, engine, axes)
    launcher.upload({"x": np.full((2, 20, 64, 64), level)})
    launcher.launch()
    (result,) = launcher.results().values()
    np.testing.assert_allclose(result, np.broadcast_to(bias[:, None, None], result.shape), atol=2e-3)
    engine.close()


def test_upcast_attention_is_finite_beyond_the_range_of_half_precision(held: DeviceBuffers, tmp_path: Path) -> None:
    model, axes = upcast(), {"batch": 1, "tokens": 320}  # long enough for the fused float32 kernel
    x = np.full((1, 320, CHANNELS), 100, np.float16) * np.sign(np.random.default_rng(0).standard_normal((1, 320, CHANNELS)))
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"x": x.astype(np.float16)}
    )
    engine, _ = opened(component(tmp_path / "in", model), None, tmp_path / "built", held.stream, axes)
    launcher = Launcher(held, engine, axes)
    launcher.upload({"x": x})
    launcher.launch()
    (result,) = launcher.results().values()
    assert np.isfinite(result).all()
    assert relative_error(result, expected) < 5e-2
    engine.close()


@pytest.mark.parametrize("guidance", Guidance)
def test_device_loop_equals_the_numpy_loop(guidance: Guidance, tmp_path: Path) -> None:
    """In float32, so that only the order of sums differs."""
    shape = Shape(sequence=SEQUENCE)
    axes, one = axes_of(shape, guidance), {"images": 1, "batch": 1}
    task, work = make_job("euler_a", guidance=guidance, shape=shape)
    driver: Driver = open_driver()
    stream = driver.create_stream()
    parts: dict[str, tuple[str, Form, dict[str, int]]] = {
        "text_encoder": ("text_encoder", None, axes),
        "step": ("unet", StepForm(guidance=guidance), axes),
        "decoder": ("vae_decoder", PixelForm(scaling_factor=SCALING), {**axes, **one}),
    }
    loaded = {role: opened(files(name), form, tmp_path / name, stream, sizes)[0] for role, (name, form, sizes) in parts.items()}
    expected = numpy_trajectory(task, guidance)
    with DeviceLoop(driver, stream, LoopEngines(**loaded), axes) as loop:
        for _ in range(2):
            loop.start(work)
            assert difference([(loop.latents(), loop.denoised()) for _ in loop.steps()], expected) < 1e-4
            assert loop.decode().finite
    for engine in loaded.values():
        engine.close()
    driver.destroy_stream(stream)
