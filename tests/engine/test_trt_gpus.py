from pathlib import Path

import pytest

from sd2rt.engine import gpu
from sd2rt.engine.cuda import Driver
from sd2rt.engine.errors import EngineError, InvalidArgument, TargetUnavailable
from sd2rt.engine.gpu import Gpu
from sd2rt.engine.manifest import Field, Manifest
from sd2rt.engine.spec import TensorRTOptions
from sd2rt.engine.store import CacheEntry
from sd2rt.engine.trt_gpus import check_capabilities, check_gpu, describe_machine, runs_on, warn_of_turing
from tests.engine.fake_cuda import FakeCuda

HERE = r"this one is Fake GPU \(sm89\)"


def named(*capabilities: str) -> TensorRTOptions:
    return TensorRTOptions(compute_capabilities=capabilities)


@pytest.mark.parametrize("options", [named(), named("sm75"), named("sm86", "sm121"), named("portable")])
def test_known_capabilities_are_taken(options: TensorRTOptions) -> None:
    check_capabilities("tensorrt-rtx", options)
    with pytest.raises(InvalidArgument, match=r"got .*sm90"):
        check_capabilities("tensorrt-rtx", named(*options.compute_capabilities, "sm90"))


def test_unknown_capability_is_refused_with_the_known_ones() -> None:
    expected = "got 'sm90'; expected some of sm75, sm80, sm86, sm89, sm120, sm121, or portable alone"
    with pytest.raises(InvalidArgument, match=f"compute capability: {expected}"):
        check_capabilities("tensorrt-rtx", named("sm89", "sm90"))


@pytest.mark.parametrize("target", ["tensorrt", "cuda", "cpu"])
def test_only_tensorrt_rtx_builds_for_named_gpus(target: str) -> None:
    check_capabilities(target, named())
    with pytest.raises(InvalidArgument, match=f"got sm86, sm89 for target {target}; expected none: tensorrt-rtx alone builds for named"):
        check_capabilities(target, named("sm86", "sm89"))


@pytest.mark.parametrize(("options", "warned"), [(named("sm75"), False), (named("sm75", "sm89"), True), (named("sm86", "sm89"), False)])
def test_turing_beside_others_is_warned_of(options: TensorRTOptions, warned: bool) -> None:
    said: list[str] = []
    warn_of_turing(options, said.append)
    assert bool(said) is warned


@pytest.mark.parametrize(
    ("capabilities", "capability", "runs"),
    [
        (["sm89"], (8, 9), True),
        (["sm86"], (8, 9), False),
        (["portable"], (8, 0), True),
        (["portable"], (12, 0), True),
        (["portable"], (7, 5), False),
        (["portable"], (9, 0), False),
        (["portable"], (7, 0), False),
        ([], (8, 9), False),
        (None, (8, 9), False),
    ],
)
def test_engine_runs_on_the_gpus_it_names(capabilities: Field, capability: tuple[int, int], runs: bool) -> None:
    assert runs_on(capabilities, Gpu(name="GPU", capability=capability, driver_version=13000)) is runs


def test_machine_is_described_by_what_changes_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "find_gpu", lambda: Gpu(name="RTX 4090", capability=(8, 9), driver_version=13010))
    assert describe_machine("tensorrt") == {"name": "RTX 4090", "capability": "sm89", "driver": 13010}


@pytest.mark.parametrize(
    ("target", "more"), [("tensorrt", "$"), ("tensorrt-rtx", "; name the GPUs to build for: --compute-capability sm89")]
)
def test_engine_for_this_machine_needs_a_gpu(target: str, more: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "find_gpu", lambda: "the NVIDIA driver sees no GPU")
    with pytest.raises(TargetUnavailable, match=f"target {target}: the NVIDIA driver sees no GPU{more}"):
        describe_machine(target)


def test_tensorrt_rtx_builds_for_no_gpu_that_it_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "find_gpu", lambda: Gpu(name="NVIDIA H100", capability=(9, 0), driver_version=13000))
    assert describe_machine("tensorrt")["capability"] == "sm90"
    with pytest.raises(TargetUnavailable, match=r"got NVIDIA H100 \(sm90\), which it does not run on; name the GPUs to build for"):
        describe_machine("tensorrt-rtx")


def entry(**fields: Field) -> CacheEntry:
    manifest = Manifest(key="", component="unet", target="tensorrt", fields=fields, files={}, build_seconds=0.0, created="", sd2rt="")
    return CacheEntry(folder=Path(), manifest=manifest, last_used=0.0)


@pytest.mark.parametrize(
    "fields",
    [
        {"gpu": {"name": "Fake GPU", "capability": "sm89", "driver": 13000}},
        {"gpu": None, "compute_capabilities": ["sm86", "sm89"]},
        {"gpu": None, "compute_capabilities": ["portable"]},
    ],
)
def test_engine_for_this_gpu_is_let_through(fields: dict[str, Field]) -> None:
    driver = Driver(FakeCuda())
    check_gpu(entry(**fields), driver)
    with pytest.raises(EngineError, match=HERE):
        check_gpu(entry(gpu=None, compute_capabilities=["sm75"]), driver)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"gpu": {"name": "NVIDIA H100", "capability": "sm90", "driver": 13000}},
            rf"unet: the engine was built for another GPU, NVIDIA H100 \(sm90\); {HERE}: build it here with sd2rt build",
        ),
        (
            {"gpu": {"name": "Other GPU", "capability": "sm89", "driver": 13000}},
            rf"unet: the engine was built for another GPU, Other GPU \(sm89\); {HERE}",
        ),
        (
            {"gpu": None, "compute_capabilities": ["sm75", "sm86"]},
            rf"unet: the engine was built for other GPUs, sm75, sm86; {HERE}: build it with --compute-capability sm89",
        ),
        ({}, f"unet: the engine was built for other GPUs, none; {HERE}"),
    ],
)
def test_engine_for_another_gpu_is_refused_with_both(fields: dict[str, Field], expected: str) -> None:
    with pytest.raises(EngineError, match=expected):
        check_gpu(entry(**fields), Driver(FakeCuda()))
