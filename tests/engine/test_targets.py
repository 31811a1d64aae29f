import re
import subprocess
import sys
from pathlib import Path

import pytest

from sd2rt.engine.errors import InvalidArgument, TargetUnavailable
from sd2rt.engine.targets import TARGETS, probe_targets, resolve_target


def test_every_target_of_the_design_is_listed_in_order_of_preference() -> None:
    assert [status.name for status in probe_targets()] == ["tensorrt", "tensorrt-rtx", "cuda", "openvino", "cpu"]


@pytest.mark.parametrize("name", ["cpu", "auto"])
def test_cpu_works_and_is_what_auto_takes(name: str) -> None:
    status = resolve_target(name)
    assert (status.name, status.works) == ("cpu", True)
    assert re.match(r"onnxruntime \d+\.\d+\.\d+ on .+, \d+ cores$", status.detail)


def test_unknown_target_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidArgument, match="got 'gpu'; expected auto or one of tensorrt, tensorrt-rtx, cuda, openvino, cpu"):
        resolve_target("gpu")


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "cpu"])
def test_target_without_backend_says_so(name: str) -> None:
    with pytest.raises(TargetUnavailable, match=f"target {name}: this version of sd2rt has no backend for it; use cpu"):
        resolve_target(name)


@pytest.mark.parametrize("name", ["cpu", "auto"])
def test_missing_onnxruntime_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # type: ignore[arg-type]  # as Python itself blocks an import
    with pytest.raises(TargetUnavailable, match=re.escape(f"target {name}: onnxruntime is not installed: pip install 'sd2rt[cpu]'")):
        resolve_target(name)


def test_both_onnxruntimes_at_once_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "onnxruntime_gpu-1.30.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.30.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "onnxruntime-gpu 1.30.0 (they overwrite each other's files: uninstall both" in resolve_target("cpu").detail


def test_probing_imports_no_backend() -> None:
    script = "import sys, sd2rt.engine as e; e.probe_targets(); print([m for m in ('onnxruntime', 'onnx', 'onnx_ir') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
