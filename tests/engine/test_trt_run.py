"""Plans loaded and run, against the fake of both libraries: what they are given, and what becomes of their errors."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sd2rt.engine.cuda import Driver
from sd2rt.engine.errors import EngineError, InvalidArgument
from sd2rt.engine.spec import Guidance, StepForm, TensorSpec
from sd2rt.engine.store import CacheEntry
from sd2rt.engine.trt_jit import kernel_file
from sd2rt.engine.trt_run import PLAN_NAME, TensorRTEngine, load_plan
from tests.engine.device_rig import RANGES, files, streamed
from tests.engine.fake_cuda import FakeCuda
from tests.engine.fake_tensorrt import FakeKernels, FakeTensorRT, write_plan

AXES = {"batch": 2, "height": 4, "width": 6, "image_height": 8, "image_width": 12}
PICTURE = {name: RANGES[name] for name in ("batch", "height", "width")}


@pytest.fixture
def entry(tmp_path: Path) -> CacheEntry:
    """Return the decoder's plan, in a cache."""
    return write_plan(tmp_path / "engines" / ("a" * 64), files("vae_decoder"), None, PICTURE)


class Gpu:
    """A fake GPU and its stream."""

    def __init__(self, rtx: bool = False) -> None:
        self.cuda = FakeCuda()
        self.driver = Driver(self.cuda)
        self.stream = self.driver.create_stream()
        self.trt = FakeTensorRT(self.cuda, rtx=rtx)

    def load(self, entry: CacheEntry) -> TensorRTEngine:
        return load_plan(self.trt, entry, self.driver, self.stream)


@pytest.fixture(params=[False, True], ids=["tensorrt", "tensorrt-rtx"])
def gpu(request: pytest.FixtureRequest) -> Gpu:
    return Gpu(rtx=request.param)


def test_specs_have_the_graph_s_names(gpu: Gpu, entry: CacheEntry) -> None:
    engine = gpu.load(entry)
    assert engine.inputs == (TensorSpec(name="latent_sample", dtype="float32", shape=("batch", 4, "height", "width")),)
    assert engine.outputs == (TensorSpec(name="sample", dtype="float32", shape=("batch", 3, "image_height", "image_width")),)
    assert engine.scratch_bytes == 4096


def test_a_step_engine_s_specs(gpu: Gpu, tmp_path: Path) -> None:
    engine = gpu.load(write_plan(tmp_path, files("unet"), StepForm(guidance=Guidance.GUIDED), RANGES))
    specs = {spec.name: (spec.dtype, spec.shape) for spec in (*engine.inputs, *engine.outputs)}
    assert specs["registers"] == specs["next_registers"] == ("float32", (5, "images", 4, "height", "width"))
    assert specs["step"] == specs["next_step"] == ("int64", (1,))
    assert specs["encoder_hidden_states"] == ("float32", ("batch", "sequence", 6))
    assert specs["guidance"] == ("float32", (2,))


def test_a_bound_engine_runs_on_its_memory(gpu: Gpu, entry: CacheEntry) -> None:
    engine, cuda = gpu.load(entry), gpu.cuda
    given, taken = gpu.driver.allocate(2 * 4 * 4 * 6 * 4), gpu.driver.allocate(2 * 3 * 8 * 12 * 4)
    scratch = gpu.driver.allocate(engine.scratch_bytes)
    engine.bind(AXES, {"latent_sample": given, "sample": taken}, scratch)
    cuda.array(given, (2, 4, 4, 6), "float32")[...] = 0
    engine.enqueue(gpu.stream)
    result = cuda.array(taken, (2, 3, 8, 12), "float32")
    assert np.isnan(result).all()  # not done yet
    gpu.driver.synchronize(gpu.stream)
    np.testing.assert_array_equal(result, np.zeros_like(result))
    engine.close()
    engine.close()
    for call in (lambda: engine.enqueue(gpu.stream), lambda: engine.bind(AXES, {"latent_sample": 1, "sample": 2}, 3)):
        with pytest.raises(EngineError, match="vae_decoder: the engine is closed; open it again"):
            call()


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"height": 17}, "vae_decoder: got height 17; expected 2 to 16, as its engine was built for"),
        ({"batch": 0}, "vae_decoder: got batch 0; expected 1 to 6"),
        ({"image_height": 10}, "vae_decoder: got image_height 10; expected 8, as sample has"),
    ],
)
def test_sizes_that_it_was_not_built_for_are_refused(gpu: Gpu, entry: CacheEntry, axes: dict[str, int], message: str) -> None:
    engine = gpu.load(entry)
    with pytest.raises(InvalidArgument, match=message):
        engine.bind({**AXES, **axes}, {"latent_sample": 256, "sample": 512}, 0)


def test_missing_addresses_and_axes_are_refused(gpu: Gpu, entry: CacheEntry) -> None:
    engine = gpu.load(entry)
    with pytest.raises(InvalidArgument, match="vae_decoder: got no address of sample; expected one for every input and output"):
        engine.bind(AXES, {"latent_sample": 256}, 0)
    with pytest.raises(InvalidArgument, match="latent_sample: got no size of axis 'width'"):
        engine.bind({"batch": 1, "height": 4}, {"latent_sample": 256, "sample": 512}, 0)


def test_sizes_of_outputs_are_found(gpu: Gpu, entry: CacheEntry) -> None:
    assert gpu.load(entry).complete({"batch": 1, "height": 4, "width": 6})["image_width"] == 12


def test_a_launch_that_fails_quotes_tensorrt(gpu: Gpu, entry: CacheEntry) -> None:
    engine = gpu.load(entry)
    gpu.trt.launch_error = "Cask convolution execution\nfailed"
    with pytest.raises(EngineError, match="vae_decoder: TensorRT failed: Cask convolution execution failed"):
        engine.enqueue(gpu.stream)
    gpu.trt.launch_error = "another time, another reason"
    with pytest.raises(EngineError, match="vae_decoder: TensorRT failed: another time, another reason"):
        engine.enqueue(gpu.stream)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "10.9"}, "vae_decoder: the engine was built by another version of TensorRT .*Version tag does not match: 10.9.*prune"),
        ({"gpu": "SM75"}, "vae_decoder: the engine was built for another GPU|vae_decoder: TensorRT cannot load .*UNSUPPORTED_CC"),
    ],
)
def test_plans_of_others_are_refused(gpu: Gpu, tmp_path: Path, change: dict[str, str], message: str) -> None:
    entry = write_plan(tmp_path, files("vae_decoder"), None, PICTURE, **change)
    with pytest.raises(EngineError, match=message):
        gpu.load(entry)


def test_damaged_and_missing_plans_are_refused(gpu: Gpu, entry: CacheEntry) -> None:
    plan = entry.folder / PLAN_NAME
    plan.write_bytes(b"garbage")
    with pytest.raises(EngineError, match="Magic tag does not match"):
        gpu.load(entry)
    plan.write_bytes(b"")
    with pytest.raises(EngineError, match=r"vae_decoder: the engine's plan cannot be read .*build it again"):
        gpu.load(entry)
    plan.unlink()
    with pytest.raises(EngineError, match=r"vae_decoder: the engine's plan cannot be read .*build it again"):
        gpu.load(entry)


def test_too_little_memory_for_the_weights_or_a_context_is_told(gpu: Gpu, entry: CacheEntry) -> None:
    gpu.trt.no_context = "Requested amount of GPU memory could not be allocated: OutOfMemory"
    with pytest.raises(EngineError, match=r"vae_decoder: the GPU has not enough free memory .*smaller --size"):
        gpu.load(entry)


def test_a_manifest_of_another_graph_is_refused(gpu: Gpu, entry: CacheEntry) -> None:
    manifest = replace(entry.manifest, notes={"tensors": {"latent_sample": ["batch", "4"]}})
    with pytest.raises(EngineError, match=r"vae_decoder: got latent_sample of FLOAT .*expected one of FLOAT, HALF"):
        gpu.load(replace(entry, manifest=manifest))


def test_weights_are_streamed_only_when_built_for_and_needed(gpu: Gpu, entry: CacheEntry) -> None:
    for budget, streaming, capturable in ((10, True, False), (10, False, True), (2000, True, True)):
        gpu.trt.budget = budget
        engine = gpu.load(streamed(entry, streaming))
        assert engine.capturable is capturable
        assert engine._open().engine.weight_streaming_budget_v2 == (budget if streaming else 0)


def test_tensorrt_rtx_is_asked_whether_a_stream_can_be_captured(entry: CacheEntry) -> None:
    gpu = Gpu(rtx=True)
    engine = gpu.load(entry)
    assert engine.capturable
    gpu.trt.capturable = False
    assert not engine.capturable


def test_kernels_are_compiled_once_and_kept_for_this_user(entry: CacheEntry, tmp_path: Path) -> None:
    gpu = Gpu(rtx=True)
    gpu.load(entry)
    file = kernel_file(entry, gpu.driver)
    assert file.parent == tmp_path / "engines" / "jit"
    assert file.name.startswith(entry.manifest.key)
    assert file.read_bytes() == FakeKernels.KERNELS
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    gpu.load(entry)
    assert gpu.trt.compiled == 1


def test_kernels_of_another_gpu_or_driver_lie_elsewhere(entry: CacheEntry) -> None:
    gpu = Gpu(rtx=True)
    places = {kernel_file(entry, gpu.driver)}
    for name, value in (("name", "Other"), ("capability", (12, 0)), ("driver_version", 13020)):
        other = Driver(FakeCuda())
        setattr(other, name, value)
        places.add(kernel_file(entry, other))
    assert len(places) == 4


def test_kernels_that_do_not_suit_are_replaced(entry: CacheEntry) -> None:
    gpu = Gpu(rtx=True)
    gpu.load(entry)
    file = kernel_file(entry, gpu.driver)
    file.write_bytes(b"of another driver")
    gpu.load(entry)
    assert gpu.trt.compiled == 2
    assert file.read_bytes() == FakeKernels.KERNELS


def test_kernels_that_others_could_have_put_there_are_not_loaded(entry: CacheEntry) -> None:
    gpu = Gpu(rtx=True)
    gpu.load(entry)
    file = kernel_file(entry, gpu.driver)
    for path, mode in ((file, 0o622), (file.parent, 0o777)):
        path.chmod(mode)
        gpu.load(entry)
        path.chmod(0o600 if path is file else 0o700)
    assert gpu.trt.compiled == 3


def test_where_kernels_cannot_be_kept_they_are_compiled_again(entry: CacheEntry) -> None:
    gpu = Gpu(rtx=True)
    (entry.folder.parent / "jit").write_text("in the way")
    gpu.load(entry)
    gpu.load(entry)
    assert gpu.trt.compiled == 2


def test_kernels_compiled_later_are_kept_when_the_engine_is_closed(entry: CacheEntry) -> None:
    gpu = Gpu(rtx=True)
    engine = gpu.load(entry)
    kernels = engine._open().kernels
    assert kernels is not None
    kernels._cache.content = b"kernels, and more"
    engine.close()
    assert kernel_file(entry, gpu.driver).read_bytes() == b"kernels, and more"


def test_no_kernels_are_no_file(entry: CacheEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(rtx=True)
    monkeypatch.setattr(FakeKernels, "serialize", lambda self: None)
    gpu.load(entry).close()
    assert not kernel_file(entry, gpu.driver).exists()


def test_a_file_half_written_is_never_seen(entry: CacheEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(rtx=True)

    def full(self: Path, target: Path) -> Path:
        raise OSError("no space")

    monkeypatch.setattr(Path, "replace", full)
    gpu.load(entry)
    assert list((entry.folder.parent / "jit").iterdir()) == []
