"""When an engine is compared, with what, and what follows from it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sd2rt.engine import checked_build, gpu, targets
from sd2rt.engine.accuracy import Accuracy, Gate
from sd2rt.engine.build import open_engine
from sd2rt.engine.checked_build import build_checked, choose_check, compare_with_reference, unpublished
from sd2rt.engine.errors import BuildError, TargetUnavailable
from sd2rt.engine.gpu import Gpu
from sd2rt.engine.manifest import Field, engine_key
from sd2rt.engine.spec import BuildOptions, ComponentFiles
from tests.engine.graphs import block, component

RTX_4090 = Gpu(name="NVIDIA GeForce RTX 4090", capability=(8, 9), driver_version=13010)
PRECISIONS = ("as exported", "fp32 attention", "fp32")
GOOD = Accuracy(output="out", max_abs=0.01, max_relative=0.001, psnr_db=71.25, not_finite=0, gate=Gate(psnr_db=35.0))
NAN = replace(GOOD, not_finite=12)
POOR = replace(GOOD, psnr_db=20.0)


def sequence(found: Sequence[Accuracy]) -> Callable[[], Accuracy]:
    results = iter(found)
    return lambda: next(results)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([GOOD], []),
        ([NAN, GOOD], ["unet: 12 values not finite in the TensorRT engine (as exported); building it again: fp32 attention"]),
        (
            [NAN, POOR, GOOD],
            [
                "unet: 12 values not finite in the TensorRT engine (as exported); building it again: fp32 attention",
                "unet: PSNR 20.0 dB in the TensorRT engine (fp32 attention); building it again: fp32",
            ],
        ),
    ],
)
def test_engine_is_built_again_in_higher_precision_until_it_is_right(found: list[Accuracy], said: list[str]) -> None:
    told: list[str] = []
    tried: list[str] = []
    notes = build_checked("unet", PRECISIONS, tried.append, sequence(found), told.append)
    assert tried == list(PRECISIONS[: len(found)])
    assert told == said
    figures = {"output": "out", "psnr_db": 71.25, "max_abs": 0.01, "not_finite": 0}
    assert notes == {"precision": tried[-1], "checked": "against the cpu engine", **figures}


@pytest.mark.parametrize("precisions", [PRECISIONS, PRECISIONS[:1]])
def test_engine_that_no_precision_makes_right_is_refused(precisions: Sequence[str]) -> None:
    tried: list[str] = []
    expected = (
        rf"unet: PSNR 20\.0 dB in the TensorRT engine, {precisions[-1]} too; expected PSNR >= 35 dB against the cpu engine: use --target"
    )
    with pytest.raises(BuildError, match=expected):
        build_checked("unet", precisions, tried.append, lambda: POOR, print)
    assert tried == list(precisions)


def test_what_cannot_be_checked_is_taken_as_exported_and_said_so() -> None:
    tried: list[str] = []
    notes = build_checked("unet", PRECISIONS, tried.append, "no GPU on this machine", print)
    assert (tried, notes) == (["as exported"], {"precision": "as exported", "checked": "no GPU on this machine"})


def test_check_that_cannot_be_done_after_all_ends_the_build_as_well() -> None:
    tried: list[str] = []
    results: list[Accuracy | str] = [NAN, "the driver is too old"]
    notes = build_checked("unet", PRECISIONS, tried.append, lambda: results.pop(0), print)
    assert (tried, notes) == (list(PRECISIONS[:2]), {"precision": "fp32 attention", "checked": "the driver is too old"})


@pytest.fixture
def files(tmp_path: Path) -> ComponentFiles:
    return component(tmp_path / "unet", block())


OPTIONS = BuildOptions(target="tensorrt-rtx", axes={"batch": (1, 2, 4), "height": (4, 6, 8), "width": (4, 4, 4)})


def choice(files: ComponentFiles, **fields: Field) -> object:
    entry = unpublished(Path(), files, {"target": "tensorrt-rtx", "gpu": None, "compute_capabilities": [], **fields}, {})
    return choose_check(entry, files, OPTIONS, lambda: open_engine(files, BuildOptions(target="cpu")), print)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"compute_capabilities": ["sm86", "sm120"]}, "not for this machine's GPU, NVIDIA GeForce RTX 4090 (sm89)"),
        ({"compute_capabilities": ["sm86", "sm89"]}, None),
        ({"compute_capabilities": ["portable"]}, None),
        ({"compute_capabilities": []}, "not for this machine's GPU, NVIDIA GeForce RTX 4090 (sm89)"),
        ({"gpu": {"name": RTX_4090.name, "capability": "sm89", "driver": 13010}}, None),
    ],
)
def test_engines_that_run_here_are_checked(
    fields: dict[str, Field], reason: str | None, files: ComponentFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "find_gpu", lambda: RTX_4090)
    check = choice(files, **fields)
    assert check == reason if reason else callable(check)


def test_portable_engine_is_not_checked_on_a_gpu_outside_tensorrt_rtxs_list(files: ComponentFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "find_gpu", lambda: Gpu(name="NVIDIA H100", capability=(9, 0), driver_version=13000))
    assert choice(files, compute_capabilities=["portable"]) == "not for this machine's GPU, NVIDIA H100 (sm90)"


def test_engine_for_named_gpus_need_not_run_where_it_is_built(files: ComponentFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "find_gpu", lambda: replace(RTX_4090, driver_version=12080))
    monkeypatch.setattr(targets, "_tensorrt_obstacle", lambda name: "")
    check = choice(files, compute_capabilities=["sm89"])
    assert callable(check)
    assert check().startswith("target tensorrt-rtx: got a driver for CUDA 12.8; expected a driver for CUDA 13")


@pytest.mark.parametrize("named", [True, False])
def test_only_engines_for_named_gpus_may_fail_to_load(named: bool, files: ComponentFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> Any:
        raise TargetUnavailable("the NVIDIA driver runs CUDA 13.0; cuda-bindings needs 13.4")

    monkeypatch.setattr(gpu, "find_gpu", lambda: RTX_4090)
    monkeypatch.setattr(checked_build, "choose_target", lambda target: target)
    fields: dict[str, Field] = {"compute_capabilities": ["sm89"], "gpu": None} if named else {"gpu": {"name": RTX_4090.name}}
    entry = unpublished(Path(), files, {"target": "tensorrt-rtx", **fields}, {})
    check = choose_check(entry, files, OPTIONS, load, print)
    assert callable(check)
    if named:
        assert check() == "the NVIDIA driver runs CUDA 13.0; cuda-bindings needs 13.4"
    else:
        with pytest.raises(TargetUnavailable, match="cuda-bindings needs"):
            check()


def test_without_a_gpu_nothing_is_checked(files: ComponentFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "find_gpu", lambda: "no driver")
    assert choice(files, compute_capabilities=["sm89"]) == "no GPU on this machine"


def test_without_onnx_runtime_nothing_is_checked_and_that_is_said(
    files: ComponentFiles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "find_gpu", lambda: RTX_4090)
    monkeypatch.setattr(checked_build, "find_spec", lambda name: None)
    assert choice(files, compute_capabilities=["sm89"]) == "no ONNX Runtime to compare with"
    assert "unet: cannot be compared with the cpu engine: onnxruntime is not installed: pip install 'sd2rt[cpu]'" in capsys.readouterr().out


class Twisted:
    """An engine whose outputs are another's, changed."""

    def __init__(self, engine: Any, twist: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> None:
        self.engine, self.twist = engine, twist
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self.shape: tuple[int, ...] = ()
        self.closed = False

    def run(self, feeds: Any) -> Any:
        self.shape = feeds["sample"].shape
        return {name: self.twist(array) for name, array in self.engine.run(feeds).items()}

    def close(self) -> None:
        self.closed = True
        self.engine.close()


@pytest.mark.parametrize(
    ("twist", "passes"),
    [
        (lambda array: array * 1.001, True),
        (lambda array: array * 1.5, False),
        (lambda array: np.where(array == array.max(), np.nan, array), False),
    ],
    ids=["close", "far", "nan"],
)
def test_comparison_is_with_the_cpu_engine_at_the_usual_sizes(twist: Any, passes: bool, files: ComponentFiles) -> None:
    engine = Twisted(open_engine(files, BuildOptions(target="cpu")), twist)
    found = compare_with_reference(files, OPTIONS, lambda: engine, print)
    assert (found.passes, engine.shape, engine.closed) == (passes, (2, 8, 6, 4), True)


def test_unpublished_engine_has_the_key_that_it_will_have(files: ComponentFiles, tmp_path: Path) -> None:
    fields = {"target": "tensorrt", "files": dict(files.sha256)}
    entry = unpublished(tmp_path, files, fields, {"tensors": {}})
    assert (entry.folder, entry.manifest.key, entry.manifest.notes) == (tmp_path, engine_key(fields), {"tensors": {}})
