"""The TensorRT backends behind the cache: built for real by TensorRT-RTX, loaded and compared on the fake GPU."""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from sd2rt.engine import gpu, trt
from sd2rt.engine.build import build_engine, engine_fields, open_device_engine, open_engine
from sd2rt.engine.cache import list_engines, verify_engines
from sd2rt.engine.cuda import Driver
from sd2rt.engine.errors import BuildError, BundleError, EngineError, InvalidArgument, MissingDependency, TargetUnavailable
from sd2rt.engine.gpu import Gpu
from sd2rt.engine.spec import BuildOptions, ComponentFiles, Guidance, PixelForm, StepForm, TensorRTOptions
from sd2rt.engine.trt import TensorRTBackend
from sd2rt.engine.trt_build import Job
from tests.engine.fake_cuda import FakeCuda
from tests.engine.fake_tensorrt import GPU, VERSION, FakeTensorRT
from tests.engine.graphs import block, component, sha256

AXES = {"batch": (1, 1, 1), "height": (8, 8, 8), "width": (8, 8, 8)}
SM89 = TensorRTOptions(compute_capabilities=("sm89",))
RTX = BuildOptions(target="tensorrt-rtx", axes=AXES, tensorrt=SM89)
FAKE_GPU = Gpu(name="Fake GPU", capability=(8, 9), driver_version=13000)


@pytest.fixture
def files(tmp_path: Path) -> ComponentFiles:
    return component(tmp_path / "bundle" / "unet", block("float16"))


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "find_gpu", lambda: "no NVIDIA driver")


def test_engine_is_built_once_without_a_gpu(rtx: Any, files: ComponentFiles) -> None:
    said: list[str] = []
    entry = build_engine(files, RTX, said.append)
    assert [text.split(" engine")[0] for text in said] == ["building the tensorrt-rtx", "built the tensorrt-rtx"]
    assert list(entry.manifest.files) == ["engine.plan"]
    assert build_engine(files, RTX, said.append).folder == entry.folder
    assert len(said) == 2
    assert verify_engines()[0].problems == ()


def test_manifest_says_what_was_built_and_names_the_axes(rtx: Any, files: ComponentFiles) -> None:
    manifest = build_engine(files, RTX).manifest
    assert manifest.fields["backend"] == f"tensorrt-rtx {rtx.__version__}"
    assert manifest.fields["axes"] == {name: list(sizes) for name, sizes in AXES.items()}
    assert (manifest.fields["compute_capabilities"], manifest.fields["gpu"]) == (["sm89"], None)
    shape = ["batch", "8", "height", "width"]
    expected = {"tensors": {"sample": shape, "out_sample": shape}, "precision": "as exported", "checked": "no GPU on this machine"}
    assert manifest.notes == expected


def test_single_flipped_bit_is_found(rtx: Any, files: ComponentFiles) -> None:
    plan = build_engine(files, RTX).folder / "engine.plan"
    content = bytearray(plan.read_bytes())
    content[len(content) // 2] ^= 1
    plan.write_bytes(content)
    assert verify_engines()[0].problems[0].startswith("engine.plan has SHA-256")
    said: list[str] = []
    assert build_engine(files, RTX, said.append).folder == plan.parent
    assert said[0].startswith("the cached unet engine is damaged (engine.plan has SHA-256")


def test_failed_build_leaves_nothing(rtx: Any, files: ComponentFiles, cache: Path) -> None:
    with pytest.raises(InvalidArgument, match="expected those of batch, height, width"):
        build_engine(files, replace(RTX, axes={}))
    assert {path.name for path in cache.iterdir()} == {".locks"}


def test_engine_for_more_gpus_and_sizes_stands_in(rtx: Any, files: ComponentFiles) -> None:
    wide = replace(RTX, axes={**AXES, "height": (4, 8, 16)}, tensorrt=TensorRTOptions(compute_capabilities=("sm89", "sm86")))
    entry = build_engine(files, wide)
    assert build_engine(files, RTX).folder == entry.folder
    assert build_engine(files, replace(RTX, tensorrt=TensorRTOptions(compute_capabilities=("sm120",)))).folder != entry.folder
    assert len(list_engines()) == 2


def test_turing_beside_others_is_built_with_a_warning(rtx: Any, files: ComponentFiles) -> None:
    said: list[str] = []
    build_engine(files, replace(RTX, tensorrt=TensorRTOptions(compute_capabilities=("sm75", "sm89"))), said.append)
    assert any("sm75 (Turing)" in text for text in said)


@pytest.mark.parametrize("options", [RTX, replace(RTX, tensorrt=TensorRTOptions())])
def test_engines_are_not_opened_without_a_gpu(options: BuildOptions, rtx: Any, files: ComponentFiles) -> None:
    with pytest.raises(TargetUnavailable, match="target tensorrt-rtx: no NVIDIA driver; tensorrt-rtx needs an NVIDIA GPU"):
        open_engine(files, options)
    with pytest.raises(TargetUnavailable, match="target tensorrt-rtx: no NVIDIA driver"):
        open_device_engine(files, options, Driver(FakeCuda()), 0)


def test_engine_for_this_machine_is_not_built_without_a_gpu(rtx: Any, files: ComponentFiles) -> None:
    with pytest.raises(TargetUnavailable, match="name the GPUs to build for: --compute-capability sm89, or portable"):
        build_engine(files, replace(RTX, tensorrt=TensorRTOptions()))


def test_cpu_has_no_device_engines(files: ComponentFiles) -> None:
    with pytest.raises(InvalidArgument, match="target: got cpu; expected one of tensorrt, tensorrt-rtx, cuda"):
        open_device_engine(files, BuildOptions(target="cpu"), Driver(FakeCuda()), 0)


def test_unreadable_graph_is_the_bundles_fault(rtx: Any, tmp_path: Path) -> None:
    files = component(tmp_path, block("float16"))
    files.onnx.write_bytes(b"\xff" * 100)
    damaged = replace(files, sha256={**files.sha256, files.onnx.name: sha256(files.onnx)})
    with pytest.raises(BundleError, match="not a readable ONNX graph; export the bundle again"):
        build_engine(damaged, RTX)


def test_missing_onnx_names_the_extra(rtx: Any, files: ComponentFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sd2rt.engine.precision", raising=False)
    monkeypatch.setitem(sys.modules, "onnx_ir", None)  # type: ignore[arg-type]  # as Python itself blocks an import
    with pytest.raises(MissingDependency, match=re.escape("building an engine needs onnx_ir: pip install 'sd2rt[tensorrt-rtx]'")):
        build_engine(files, RTX)


@pytest.mark.parametrize(
    "changed",
    [
        replace(RTX, axes={**AXES, "width": (8, 8, 16)}),
        replace(RTX, form=StepForm(guidance=Guidance.PLAIN)),
        replace(RTX, form=StepForm(guidance=Guidance.GUIDED)),
        replace(RTX, form=StepForm(guidance=Guidance.GUIDED, kept=True)),
        replace(RTX, form=PixelForm(scaling_factor=0.5)),
        *(
            replace(RTX, tensorrt=replace(SM89, **change))
            for change in (
                {"compute_capabilities": ("sm86", "sm89")},
                {"optimization_level": 5},
                {"workspace_bytes": 1 << 20},
                {"weight_streaming": True},
                {"low_memory": True},
            )
        ),
    ],
)
def test_everything_that_changes_an_engine_changes_its_key(changed: BuildOptions, rtx: Any, files: ComponentFiles) -> None:
    backend = TensorRTBackend("tensorrt-rtx")
    assert engine_fields(files, changed, backend) != engine_fields(files, RTX, backend)
    json.dumps(engine_fields(files, changed, backend))


def test_order_of_capabilities_and_threads_change_nothing(rtx: Any, files: ComponentFiles) -> None:
    backend = TensorRTBackend("tensorrt-rtx")
    one, other = (TensorRTOptions(compute_capabilities=names) for names in (("sm86", "sm89"), ("sm89", "sm86", "sm89")))
    assert backend.fingerprint(replace(RTX, tensorrt=one)) == backend.fingerprint(replace(RTX, tensorrt=other, threads=3))


@dataclass
class Bench:
    """A machine with a GPU, where plans are fakes that name a graph. The first `wrong` builds give plans with NaN in a weight."""

    folder: Path
    cuda: FakeCuda
    trt: Any
    wrong: int = 0
    built: int = 0
    types: tuple[int, ...] = ()
    timing: Path | None = None

    def build(self, job: Job) -> None:
        model = onnx.load_from_string(job.graph)
        onnx.load_external_data_for_model(model, str(job.weights))
        self.built += 1
        self.timing = job.timing
        self.types = tuple(sorted({tensor.data_type for tensor in model.graph.initializer}))
        if self.built <= self.wrong:
            weight = next(tensor for tensor in model.graph.initializer if tensor.name == "b1")
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.nan, "b1"))
        graph = self.folder / f"{self.built}.onnx"
        onnx.save(model, graph)
        plan = {"graph": str(graph), "axes": dict(job.axes), "scratch": 256, "version": VERSION, "gpu": GPU}
        job.plan.write_text(json.dumps(plan))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    cuda = FakeCuda()
    library = FakeTensorRT(cuda)
    library.__version__ = VERSION  # type: ignore[attr-defined]
    (tmp_path / "plans").mkdir()
    found = Bench(folder=tmp_path / "plans", cuda=cuda, trt=library)
    monkeypatch.setattr(gpu, "find_gpu", lambda: FAKE_GPU)
    monkeypatch.setattr(trt, "open_library", lambda target: library)
    monkeypatch.setattr(trt, "build_in_child", found.build)
    monkeypatch.setattr("sd2rt.engine.cuda.open_driver", lambda: Driver(cuda))
    monkeypatch.setattr("sd2rt.engine.targets._obstacle", lambda name, *, building=False: "" if name in ("tensorrt", "cpu") else "no")
    yield found
    assert cuda.leaks() == {}


PRECISIONS = {0: "as exported", 1: "fp32 attention", 2: "fp32"}
FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
HERE = BuildOptions(target="tensorrt", axes=AXES)


@pytest.mark.parametrize(("wrong", "weights"), [(0, HALF), (1, HALF), (2, FLOAT)])
def test_engine_is_compared_and_built_again_in_higher_precision(wrong: int, weights: int, files: ComponentFiles, bench: Bench) -> None:
    bench.wrong = wrong
    said: list[str] = []
    notes = build_engine(files, HERE, said.append).manifest.notes
    assert (notes["precision"], notes["checked"], notes["output"]) == (PRECISIONS[wrong], "against the cpu engine", "out_sample")
    assert notes["psnr_db"] > 35  # type: ignore[operator]
    assert sum("values not finite in the TensorRT engine" in text for text in said) == wrong
    assert bench.types == (weights,)


def test_engine_that_stays_wrong_is_not_kept(files: ComponentFiles, bench: Bench, cache: Path) -> None:
    bench.wrong = 3
    with pytest.raises(BuildError, match="unet: 512 values not finite in the TensorRT engine, fp32 too; expected PSNR >= 35 dB"):
        build_engine(files, HERE)
    assert [entry.manifest.target for entry in list_engines()] == ["cpu"]  # the reference


def test_component_of_float32_has_one_precision(bench: Bench, tmp_path: Path) -> None:
    bench.wrong = 1
    with pytest.raises(BuildError, match="in the TensorRT engine, as exported too"):
        build_engine(component(tmp_path / "fp32", block("float32")), HERE)
    assert bench.built == 1


def test_built_engine_is_opened_on_the_device(files: ComponentFiles, bench: Bench) -> None:
    feeds = {"sample": np.random.default_rng(0).standard_normal((1, 8, 8, 8))}
    driver = Driver(bench.cuda)
    stream = driver.create_stream()
    engine = open_device_engine(files, HERE, driver, stream)
    assert engine.inputs[0].shape == ("batch", 8, "height", "width")
    engine.close()
    driver.destroy_stream(stream)
    staged, reference = open_engine(files, HERE), open_engine(files, BuildOptions(target="cpu"))
    assert np.abs(staged.run(feeds)["out_sample"] - reference.run(feeds)["out_sample"]).max() < 0.1
    assert bench.built == 1
    staged.close()


@pytest.mark.parametrize(
    "flags",
    [{"optimization_level": 5}, {"optimization_level": 0}, {"workspace_bytes": 1 << 20}, {"weight_streaming": True}, {"low_memory": True}],
)
def test_engine_built_with_flags_is_opened_without_them(flags: dict[str, Any], files: ComponentFiles, bench: Bench) -> None:
    bench.trt.budget = 10
    build_engine(files, replace(HERE, tensorrt=TensorRTOptions(**flags)))
    driver = Driver(bench.cuda)
    stream = driver.create_stream()
    engine = open_device_engine(files, HERE, driver, stream)
    assert engine.capturable is ("weight_streaming" not in flags)
    engine.close()
    driver.destroy_stream(stream)
    assert bench.built == 1


def test_engine_of_another_gpu_is_refused_before_it_is_loaded(files: ComponentFiles, bench: Bench) -> None:
    entry = build_engine(files, HERE)
    other = replace(entry, manifest=replace(entry.manifest, fields={**entry.manifest.fields, "gpu": {"name": "A", "capability": "sm90"}}))
    with pytest.raises(EngineError, match=r"unet: the engine was built for another GPU, A \(sm90\); this one is Fake GPU \(sm89\)"):
        TensorRTBackend("tensorrt").load_device(other, HERE, Driver(bench.cuda), 0)


def test_measurements_are_kept_per_gpu_and_version(files: ComponentFiles, bench: Bench, cache: Path) -> None:
    build_engine(files, HERE)
    assert bench.timing == cache / "timing" / "11-4-Fake-GPU-sm89-13000"
