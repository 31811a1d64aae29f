import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sd2rt.engine import gpu, targets, trt_library
from sd2rt.engine.errors import InvalidArgument, TargetUnavailable
from sd2rt.engine.gpu import Gpu
from sd2rt.engine.targets import TargetStatus, choose_target, probe_targets, resolve_target

RTX_4090 = Gpu(name="NVIDIA GeForce RTX 4090", capability=(8, 9), driver_version=13010)
H100 = Gpu(name="NVIDIA H100", capability=(9, 0), driver_version=13000)
NO_DRIVER = "no NVIDIA driver (libcuda.so.1) was found"
DRIVER = "a driver for CUDA 13 (580 or newer on Linux)"
Install = Callable[..., None]
Machine = Callable[[Gpu | str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Give a function that puts a package beside the installed ones: files of five kB, and a distribution of a name and version."""
    monkeypatch.syspath_prepend(tmp_path)

    def put(package: str, *files: str, distribution: str = "", version: str = "") -> None:
        monkeypatch.delitem(sys.modules, package, raising=False)
        (tmp_path / package).mkdir(exist_ok=True)
        for name in ("__init__.py", *files):
            (tmp_path / package / name).write_bytes(b" " * 5000)
        if distribution:
            info = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")

    return put


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Give a function that says which GPU the driver's library finds, or why none."""
    return lambda found: monkeypatch.setattr(gpu, "find_gpu", lambda: found)


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from a machine without GPU, TensorRT and OpenVINO: what is really installed here must not matter."""
    monkeypatch.setattr(gpu, "find_gpu", lambda: NO_DRIVER)
    monkeypatch.setattr(trt_library, "LD_CACHE", Path("/nonexistent"))
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    for name in ("tensorrt", "tensorrt_libs", "tensorrt_rtx_libs", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]  # as Python itself blocks an import


def status(name: str) -> TargetStatus:
    return next(found for found in probe_targets() if found.name == name)


def put_tensorrt(install: Install, version: str = "11.4.0.106") -> None:
    install("tensorrt", distribution="tensorrt", version=version)
    install("tensorrt_libs", "libnvinfer.so.11")


def put_onnxruntime_gpu(install: Install, tmp_path: Path) -> None:
    install("onnxruntime", distribution="onnxruntime-gpu", version="1.32.0")
    (tmp_path / "onnxruntime" / "capi").mkdir()
    (tmp_path / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so").touch()


def test_every_target_of_the_design_is_listed_in_order_of_preference() -> None:
    assert [found.name for found in probe_targets()] == ["tensorrt", "tensorrt-rtx", "cuda", "openvino", "cpu"]


@pytest.mark.parametrize("name", ["cpu", "auto"])
def test_cpu_works_and_is_what_auto_takes(name: str) -> None:
    found = resolve_target(name)
    assert (found.name, found.works, found.builds) == ("cpu", True, True)
    assert re.match(r"onnxruntime \d+\.\d+\.\d+ on .+, \d+ cores$", found.detail)


def test_unknown_target_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidArgument, match="got 'gpu'; expected auto or one of tensorrt, tensorrt-rtx, cuda, openvino, cpu"):
        resolve_target("gpu")


def test_missing_openvino_names_the_extra() -> None:
    with pytest.raises(TargetUnavailable, match=re.escape("target openvino: openvino is not installed: pip install 'sd2rt[openvino]'")):
        resolve_target("openvino")


def test_auto_takes_openvino_for_large_models_and_says_so(install: Install) -> None:
    install("openvino", distribution="openvino", version="2026.4.1")
    assert choose_target("auto") == "openvino"
    assert choose_target("auto", model_bytes=2_500_000_000) == "openvino"
    assert choose_target("auto", model_bytes=33_000_000) == "cpu"
    assert choose_target("openvino", model_bytes=33_000_000) == "openvino"
    assert re.match(r"openvino .*2026\.4\.1.* on .+, \d+ cores; auto takes it for models above 200 MiB", status("openvino").detail)


def test_auto_takes_openvino_for_small_models_where_there_is_nothing_else(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("openvino", distribution="openvino", version="2026.4.1")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # type: ignore[arg-type]
    assert choose_target("auto", model_bytes=33_000_000) == "openvino"


@pytest.mark.parametrize("size", [None, 33_000_000])
def test_without_any_target_auto_names_the_extra_of_the_cpu(size: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # type: ignore[arg-type]
    with pytest.raises(TargetUnavailable, match=re.escape("target auto: onnxruntime is not installed: pip install 'sd2rt[cpu]'")):
        choose_target("auto", model_bytes=size)


@pytest.mark.parametrize("name", ["cpu", "auto"])
def test_missing_onnxruntime_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # type: ignore[arg-type]  # as Python itself blocks an import
    with pytest.raises(TargetUnavailable, match=re.escape(f"target {name}: onnxruntime is not installed: pip install 'sd2rt[cpu]'")):
        resolve_target(name)


def test_both_onnxruntimes_at_once_are_reported(install: Install) -> None:
    install("other", distribution="onnxruntime-gpu", version="1.30.0")
    assert "onnxruntime-gpu 1.30.0 (they overwrite each other's files: uninstall both" in resolve_target("cpu").detail


@pytest.mark.parametrize("building", [False, True])
def test_tensorrt_without_its_package_names_package_and_driver(building: bool) -> None:
    expected = (
        f"target tensorrt: the package tensorrt is not installed: pip install 'sd2rt[tensorrt]'; running needs an NVIDIA GPU with {DRIVER}"
    )
    with pytest.raises(TargetUnavailable, match=f"^{re.escape(expected)}$"):
        choose_target("tensorrt", building=building)


def test_tensorrt_without_its_libraries_names_the_library(install: Install, machine: Machine) -> None:
    install("tensorrt", distribution="tensorrt", version="11.4.0.106")
    machine(RTX_4090)
    assert status("tensorrt").detail.startswith("the library libnvinfer.so.11 was not found: pip install 'sd2rt[tensorrt]'")


@pytest.mark.parametrize("where", ["system", "path"])
def test_libraries_that_the_system_knows_are_found(
    where: str, install: Install, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("tensorrt", distribution="tensorrt", version="11.4.0.106")
    machine(RTX_4090)
    if where == "system":
        (tmp_path / "ld.so.cache").write_bytes(b"\0libnvinfer.so.11\0/opt/lib/libnvinfer.so.11\0")
        monkeypatch.setattr(trt_library, "LD_CACHE", tmp_path / "ld.so.cache")
    else:
        (tmp_path / "libnvinfer.so.11.4").write_bytes(b" " * 5000)
        monkeypatch.setenv("LD_LIBRARY_PATH", f"/nonexistent::{tmp_path}")
    assert status("tensorrt").works


def test_tensorrt_without_a_gpu_says_which_driver_it_needs(install: Install) -> None:
    put_tensorrt(install)
    found = status("tensorrt")
    assert (found.works, found.builds) == (False, False)
    assert found.detail == f"{NO_DRIVER}; tensorrt needs an NVIDIA GPU with {DRIVER}"


def test_tensorrt_10_is_too_old(install: Install, machine: Machine) -> None:
    put_tensorrt(install, "10.13.3.9")
    machine(RTX_4090)
    assert "got tensorrt 10.13.3.9; expected 11.0 or newer: pip install -U 'sd2rt[tensorrt]'" in status("tensorrt").detail


def test_driver_of_cuda_12_is_too_old(install: Install, machine: Machine) -> None:
    put_tensorrt(install)
    machine(Gpu(name="NVIDIA GeForce RTX 4090", capability=(8, 9), driver_version=12080))
    assert status("tensorrt").detail == f"got a driver for CUDA 12.8; expected {DRIVER}: update it"


@pytest.mark.parametrize("name", ["tensorrt", "cuda"])
def test_gpus_before_turing_leave_auto_to_the_cpu(name: str, install: Install, machine: Machine, tmp_path: Path) -> None:
    put_tensorrt(install)
    put_onnxruntime_gpu(install, tmp_path)
    machine(Gpu(name="Tesla V100", capability=(7, 0), driver_version=13000))
    assert not status(name).works
    assert "got Tesla V100 (sm70); expected sm75 or newer, as CUDA 13 does: use cpu" in status(name).detail
    assert choose_target("auto") == "cpu"


def test_missing_cuda_bindings_name_the_extra(install: Install, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    put_tensorrt(install)
    machine(RTX_4090)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)  # type: ignore[arg-type]
    assert status("tensorrt").detail == "cuda-bindings is not installed: pip install 'sd2rt[tensorrt]'"


def test_tensorrt_with_all_it_needs_is_what_auto_takes(install: Install, machine: Machine) -> None:
    put_tensorrt(install)
    machine(RTX_4090)
    assert resolve_target("auto").detail == "tensorrt 11.4.0.106 on NVIDIA GeForce RTX 4090 (sm89), driver for CUDA 13.1"


def test_tensorrt_rtx_without_a_gpu_builds_but_does_not_run(install: Install) -> None:
    install("tensorrt_rtx_bindings", distribution="tensorrt-rtx-cu13-bindings", version="1.7.1.116")
    install("tensorrt_rtx_libs", "libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1")
    found = status("tensorrt-rtx")
    assert (found.works, found.builds) == (False, True)
    assert found.detail.startswith(f"builds engines for other machines (sd2rt build), runs none: {NO_DRIVER}; tensorrt-rtx needs")
    assert choose_target("tensorrt-rtx", building=True) == "tensorrt-rtx"
    assert choose_target("auto", building=True) == "cpu"
    with pytest.raises(TargetUnavailable, match="target tensorrt-rtx: no NVIDIA driver"):
        choose_target("tensorrt-rtx")


def test_tensorrt_rtx_without_its_package_neither_builds_nor_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", None)  # type: ignore[arg-type]
    found = status("tensorrt-rtx")
    assert (found.works, found.builds) == (False, False)
    assert "the package tensorrt_rtx_bindings is not installed: pip install 'sd2rt[tensorrt-rtx]'" in found.detail


def test_tensorrt_rtx_does_not_run_on_gpus_of_data_centres_but_builds_there(install: Install, machine: Machine) -> None:
    install("tensorrt_rtx_bindings", distribution="tensorrt-rtx-cu13-bindings", version="1.7.1.116")
    install("tensorrt_rtx_libs", "libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1")
    machine(H100)
    assert choose_target("auto") == "cpu"
    found = status("tensorrt-rtx")
    assert (found.works, found.builds) == (False, True)
    assert "got NVIDIA H100 (sm90); TensorRT-RTX runs on sm75, sm80, sm86, sm89, sm120, sm121 alone: use tensorrt or cuda" in found.detail
    assert choose_target("tensorrt-rtx", building=True) == "tensorrt-rtx"
    machine(RTX_4090)
    assert choose_target("auto") == "tensorrt-rtx"


def test_cuda_needs_onnxruntime_gpu(machine: Machine) -> None:
    machine(RTX_4090)
    assert "onnxruntime-gpu is not installed: uninstall onnxruntime, then pip install 'sd2rt[gpu]'" in status("cuda").detail


def test_cuda_with_all_it_needs_is_what_auto_takes(
    install: Install, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_onnxruntime_gpu(install, tmp_path)
    assert (status("cuda").works, status("cuda").builds) == (False, True)
    machine(H100)
    assert choose_target("auto") == "cuda"
    assert status("cuda").detail.endswith("on NVIDIA H100 (sm90), driver for CUDA 13.0")


def test_probing_imports_no_backend() -> None:
    libraries = ("onnxruntime", "openvino", "onnx", "onnx_ir", "tensorrt", "tensorrt_rtx_bindings", "cuda.bindings")
    script = f"import sys, sd2rt.engine as e; e.probe_targets(); print([m for m in {libraries} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_choosing_looks_up_no_version_where_there_is_no_gpu() -> None:
    script = "import sys, sd2rt.engine.targets as t; print(t.choose_target('auto', model_bytes=0), 'importlib.metadata' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "cpu False\n"


def test_known_gpus_are_those_of_the_library(rtx: Any) -> None:
    assert set(targets.RTX_CAPABILITIES) == {name.lower() for name in rtx.ComputeCapability.__members__} - {"none", "current"}
