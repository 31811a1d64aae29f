"""Plans of tiny graphs, built by TensorRT-RTX without a GPU; and the calls that only show on one, through a fake of the same API."""

import errno
import os
import resource
import stat
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from sd2rt.engine import trt_build
from sd2rt.engine.errors import BuildError, InvalidArgument, TargetUnavailable
from sd2rt.engine.gpu import Gpu, find_gpu
from sd2rt.engine.spec import TensorRTOptions
from sd2rt.engine.trt_build import Job, build_plan
from tests.engine.graphs import block, component, graph

SM89 = TensorRTOptions(compute_capabilities=("sm89",))
AXES = {"batch": (1, 1, 1), "height": (8, 8, 8), "width": (8, 8, 8)}


@pytest.fixture
def job(rtx: Any, tmp_path: Path) -> Job:
    """A convolution block of float16 with its weights in a file of their own."""
    files = component(tmp_path / "unet", block("float16"))
    content = files.onnx.read_bytes()
    axes, plan = AXES, tmp_path / "engine.plan"
    return Job(target="tensorrt-rtx", component="unet", graph=content, weights=files.onnx.parent, plan=plan, axes=axes, options=SM89)


def one_node(node: onnx.NodeProto, dtype: str = "float32", **weights: Any) -> bytes:
    """Serialize a graph of one node from x to y."""
    shape = ["batch", 3]
    return graph([node], [("x", dtype, shape)], [("y", dtype, shape)], weights, infer=False).SerializeToString()


@pytest.mark.parametrize("names", [("sm75",), ("sm80",), ("sm86",), ("sm89",), ("sm120",), ("sm121",), ("sm86", "sm120"), ("portable",)])
def test_plan_is_built_for_every_gpu(names: tuple[str, ...], job: Job) -> None:
    build_plan(replace(job, options=TensorRTOptions(compute_capabilities=names)))
    assert job.plan.stat().st_size > 10_000


def test_sizes_of_a_range_are_taken(job: Job) -> None:
    build_plan(replace(job, axes={"batch": (1, 2, 4), "height": (8, 16, 32), "width": (8, 8, 8)}))
    assert job.plan.stat().st_size > 10_000


def test_weight_streaming_low_memory_and_levels_are_taken(job: Job) -> None:
    options = TensorRTOptions(compute_capabilities=("sm89",), optimization_level=0, weight_streaming=True, low_memory=True)
    build_plan(replace(job, options=options))
    assert job.plan.stat().st_size > 10_000


def test_engine_for_this_machines_gpu_needs_a_driver(job: Job) -> None:
    if isinstance(find_gpu(), Gpu):
        pytest.skip("this machine has an NVIDIA GPU")
    with pytest.raises(TargetUnavailable, match=r"unet: needs an NVIDIA GPU with a driver for CUDA 13 .+cudaError 35"):
        build_plan(replace(job, options=TensorRTOptions()))


def test_operator_that_tensorrt_does_not_have_is_named(job: Job) -> None:
    node = helper.make_node("BitShift", ["x", "x"], ["y"], name="down/shift", direction="LEFT")
    expected = r"unet: TensorRT does not take operator BitShift \(node down/shift\): UNSUPPORTED_NODE .*; export the bundle again, or use"
    with pytest.raises(BuildError, match=expected):
        build_plan(replace(job, graph=one_node(node), axes={"batch": (1, 1, 1)}))


def test_types_that_do_not_fit_name_the_node(job: Job) -> None:
    """A strongly typed network converts nothing by itself."""
    content = one_node(helper.make_node("Add", ["x", "w"], ["y"], name="mix"), w=np.zeros(3, np.float16))
    with pytest.raises(BuildError, match=r"does not take operator Add \(node mix\): INVALID_NODE .*must have same input types"):
        build_plan(replace(job, graph=content, axes={"batch": (1, 1, 1)}))


@pytest.mark.parametrize(("graph", "words"), [(b"garbage" * 9, "Failed to parse the ONNX model"), (None, "Failed to import initializer")])
def test_graph_or_weights_that_cannot_be_read_say_so(graph: bytes | None, words: str, job: Job, tmp_path: Path) -> None:
    damaged = replace(job, weights=tmp_path / "nowhere") if graph is None else replace(job, graph=graph)
    with pytest.raises(BuildError, match=rf"unet: TensorRT cannot read the graph: .*{words}.*export the bundle again"):
        build_plan(damaged)


@pytest.mark.parametrize(
    ("axes", "got"),
    [
        ({"batch": (1, 1, 1), "height": (8, 8, 8)}, "batch, height"),
        ({**AXES, "depth": (1, 1, 1)}, "batch, depth, height, width"),
        ({}, "no axes"),
    ],
)
def test_axes_must_be_those_of_the_inputs(axes: dict[str, tuple[int, int, int]], got: str, job: Job) -> None:
    with pytest.raises(InvalidArgument, match=f"unet: got sizes of {got}; expected those of batch, height, width"):
        build_plan(replace(job, axes=axes))


def test_axis_without_a_name_is_refused(job: Job) -> None:
    model = onnx.load_from_string(job.graph)
    model.graph.input[0].type.tensor_type.shape.dim[2].ClearField("dim_param")
    with pytest.raises(BuildError, match="unet: input sample has an axis of neither size nor name; export the bundle again"):
        build_plan(replace(job, graph=model.SerializeToString()))


def test_graph_that_cannot_be_compiled_gives_tensorrts_reason(job: Job) -> None:
    """Sizes that contradict each other come out only when the engine is built."""
    nodes = [helper.make_node("Add", ["x", "y"], ["z"], name="sum")]
    content = graph(nodes, [("x", "float32", ["a"]), ("y", "float32", ["b"])], [("z", "float32", ["c"])], infer=False)
    with pytest.raises(BuildError, match=r"unet: TensorRT cannot build the engine: .+"):
        build_plan(replace(job, graph=content.SerializeToString(), axes={"a": (3, 3, 3), "b": (4, 4, 4)}))


def test_full_disk_is_told_as_such(job: Job) -> None:
    """A limit on file size stands for the full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            build_plan(job)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG


class FakeTiming:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content + b"+measured"


class FakeConfig:
    """What a build sets, kept; as TensorRT's for this machine's GPU, with a timing cache that refuses what is not its own."""

    def __init__(self) -> None:
        self.limits: dict[str, int] = {}
        self.flags: set[str] = {"tf32"}  # as TensorRT starts
        self.timing: FakeTiming | None = None

    def set_memory_pool_limit(self, pool: str, limit: int) -> None:
        self.limits[pool] = limit

    def set_flag(self, flag: str) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: str) -> None:
        self.flags.remove(flag)

    def add_optimization_profile(self, profile: object) -> int:
        return 0

    def create_timing_cache(self, content: bytes) -> FakeTiming | None:
        return FakeTiming(content) if content in (b"", b"ours", b"another GPU's") else None

    def set_timing_cache(self, timing: FakeTiming, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if timing.content == b"another GPU's":
            return False
        self.timing = timing
        return True


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A TensorRT without inputs to describe: `config` shows what was set, `failure` makes the build fail with these words."""
    seen = SimpleNamespace(config=FakeConfig(), builder=None, failure="", module=None, log=None)

    def make_builder(log: Any) -> Any:
        def build(network: object, config: object, writer: Any) -> bool:
            if seen.failure:
                log.log(2, seen.failure)
                return False
            return bool(writer.write(b"plan"))

        seen.log = log
        seen.builder = SimpleNamespace(
            max_threads=0,
            create_network=lambda flags: SimpleNamespace(num_inputs=0, num_layers=0),
            create_builder_config=lambda: seen.config,
            create_optimization_profile=object,
            build_serialized_network_to_stream=build,
        )
        return seen.builder

    severities = SimpleNamespace(INTERNAL_ERROR=1, ERROR=2, WARNING=3)
    logger = type("ILogger", (), {"Severity": severities})
    module = SimpleNamespace(
        __version__="11.4.0",
        ILogger=logger,
        IStreamWriter=type("IStreamWriter", (), {}),
        Builder=make_builder,
        OnnxParser=lambda network, log: SimpleNamespace(parse=lambda content, path: True),
        MemoryPoolType=SimpleNamespace(WORKSPACE="workspace"),
        BuilderFlag=SimpleNamespace(WEIGHT_STREAMING="weight streaming", TF32="tf32", STRICT_NANS="nan"),
    )
    seen.module = module
    monkeypatch.setattr(trt_build, "open_library", lambda target: module)
    monkeypatch.setattr(trt_build, "open_log", trt_build.open_log.__wrapped__)  # a module of SimpleNamespace cannot be remembered
    return seen


@pytest.fixture
def fake_job(tmp_path: Path) -> Job:
    return Job(target="tensorrt", component="unet", graph=b"", weights=tmp_path, plan=tmp_path / "engine.plan")


def test_tensorrt_names_no_gpu_and_sets_what_is_asked(fake: SimpleNamespace, fake_job: Job) -> None:
    build_plan(replace(fake_job, options=TensorRTOptions(optimization_level=5, workspace_bytes=1 << 30, weight_streaming=True)))
    assert vars(fake.config) == {
        "builder_optimization_level": 5,
        "limits": {"workspace": 1 << 30},
        "flags": {"weight streaming", "nan"},
        "timing": None,
    }
    assert (fake.builder.max_threads, fake_job.plan.read_bytes()) == (0, b"plan")


@pytest.mark.parametrize(("streaming", "required"), [(False, True), (True, False)])
def test_tensorrt_rtx_allocates_nothing_while_it_runs(streaming: bool, required: bool, fake: SimpleNamespace, fake_job: Job) -> None:
    fake.module.BuilderFlag.REQUIRE_USER_ALLOCATION = "user allocation"
    options = TensorRTOptions(weight_streaming=streaming, compute_capabilities=("portable",))
    build_plan(replace(fake_job, target="tensorrt-rtx", options=options))
    assert ("user allocation" in fake.config.flags) is required


def test_flags_that_a_library_does_not_have_are_not_set(fake: SimpleNamespace, fake_job: Job) -> None:
    del fake.module.BuilderFlag.STRICT_NANS
    build_plan(replace(fake_job, target="tensorrt-rtx", options=TensorRTOptions(compute_capabilities=("portable",))))
    assert fake.config.flags == set()


def test_timing_cache_that_does_not_fit_is_not_what_a_failed_build_is_blamed_on(
    fake: SimpleNamespace, fake_job: Job, tmp_path: Path
) -> None:
    fake.config.create_timing_cache = lambda content: fake.log.log(2, "cache of another GPU")
    fake.failure = "no kernel"
    with pytest.raises(BuildError) as caught:
        build_plan(replace(fake_job, timing=tmp_path / "gpu"))
    assert "no kernel" in str(caught.value)
    assert "another GPU" not in str(caught.value)


@pytest.mark.parametrize(("asked", "expected"), [(None, 256 << 20), (1 << 20, 1 << 20), (1 << 40, 256 << 20)])
def test_low_memory_is_one_thread_and_a_small_workspace(asked: int | None, expected: int, fake: SimpleNamespace, fake_job: Job) -> None:
    build_plan(replace(fake_job, options=TensorRTOptions(low_memory=True, workspace_bytes=asked)))
    assert (fake.builder.max_threads, fake.config.limits) == (1, {"workspace": expected})


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, b"+measured"), (b"ours", b"ours+measured"), (b"damaged", b"+measured"), (b"another GPU's", b"+measured")],
)
def test_what_was_measured_is_kept_for_the_next_build(
    before: bytes | None, after: bytes, fake: SimpleNamespace, fake_job: Job, tmp_path: Path
) -> None:
    path = tmp_path / "timing" / "gpu"
    if before is not None:
        path.parent.mkdir()
        path.write_bytes(before)
    build_plan(replace(fake_job, timing=path))
    assert path.read_bytes() == after
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["gpu"]


def test_measurements_that_cannot_be_kept_do_not_spoil_a_build(fake: SimpleNamespace, fake_job: Job, tmp_path: Path) -> None:
    (tmp_path / "timing").touch()
    build_plan(replace(fake_job, timing=tmp_path / "timing" / "gpu"))
    assert fake_job.plan.read_bytes() == b"plan"


def test_build_that_runs_out_of_the_gpus_memory_says_what_to_do(fake: SimpleNamespace, fake_job: Job) -> None:
    fake.failure = "[defaultAllocator.cpp::allocate] Error Code 1: Cuda Runtime (out of memory)"
    with pytest.raises(BuildError, match=r"unet: memory ran out .+\(out of memory\)\); try --low-memory, a smaller --size or --batch"):
        build_plan(fake_job)
