"""`sd2rt doctor`: every check in its good and its bad case, and a self-test that sees what is wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sd2rt.cli import doctor_checks, self_test
from sd2rt.cli.doctor_checks import Check, check_folder, is_older, redact, requirements
from sd2rt.cli.main import sd2rt as root
from sd2rt.engine.errors import EngineCacheError
from sd2rt.engine.gpu import Gpu
from sd2rt.engine.targets import TargetStatus
from tests.cli.conftest import Command, assert_refused
from tests.runtime.bundles import write_bundle


def only(found: Iterator[Check], name: str) -> Check:
    """The one check of that name."""
    [check] = [check for check in found if check.name == name]
    return check


def test_a_sound_machine_passes_and_paints(sd2rt: Command) -> None:
    found = sd2rt("doctor", "--target", "cpu")
    assert found.code == 0, found
    assert "self-test\n  ok       cpu" in found.out
    assert "the picture is right" in found.out
    assert ", 0 failed\n" in found.err


def test_looking_alone_paints_and_builds_nothing(sd2rt: Command, unused_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    found = sd2rt("doctor", "--no-paint", "--json")
    report = json.loads(found.out)
    assert (found.code, report["ok"]) == (0, True)
    assert {check["topic"] for check in report["checks"]} == {"machine", "packages", "targets", "folders", "settings"}
    assert "hf_secret" not in found.out + found.err
    assert not unused_cache.exists()


def test_an_unknown_target_is_wrong_usage(sd2rt: Command) -> None:
    found = sd2rt("doctor", "--target", "tpu")
    assert_refused(found, 2, "target: got 'tpu'; expected auto or one of")
    assert "cpu" in found.err


def test_what_fails_is_told_and_is_the_exit_code(sd2rt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test, "SEED", "none")
    found = sd2rt("doctor", "--target", "cpu")
    assert found.code == 1
    assert "failed   cpu" in found.out
    assert "-> run it again with -v: sd2rt generate 'a red cube' --target cpu" in found.out
    assert ", 1 failed\n" in found.err


# --- the self-test


def fake_run(monkeypatch: pytest.MonkeyPatch, code: int = 0, out: str = "", err: str = "", picture: Any = None) -> None:
    """Have the process that paints leave this."""

    def run(command: list[str], **options: Any) -> SimpleNamespace:
        if picture is not None:
            Image.fromarray(picture).save(command[command.index("--out") + 1])
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    monkeypatch.setattr(self_test.subprocess, "run", run)


def test_a_black_picture_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_run(monkeypatch, out='{"timings": {"total": 1.0}}', picture=np.zeros((64, 64, 3), np.uint8))
    found = self_test.paint_and_check("cpu")
    assert found.state == "failed"
    assert found.detail.startswith("painted something else: ")
    assert "black floor, not gray" in found.detail


@pytest.mark.parametrize(
    ("code", "err", "detail"),
    [
        (1, "building\nsd2rt: target cpu: broken\n", "sd2rt: target cpu: broken"),
        (-11, "", "ended with code -11 and said nothing"),
    ],
)
def test_a_process_that_fails_or_crashes(code: int, err: str, detail: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_run(monkeypatch, code=code, err=err)
    found = self_test.paint_and_check("cpu")
    assert (found.state, found.detail) == ("failed", detail)


def test_a_process_that_does_not_end() -> None:
    found = self_test.paint_and_check("cpu", most_s=0.01)
    assert (found.state, found.detail) == ("failed", "no picture after 0 s")


def test_settings_do_not_touch_the_self_test() -> None:
    kept = self_test.plain_environment({"SD2RT_STEPS": "1", "SD2RT_CACHE": "x", "SD2RT_CONFIG": "y", "PATH": "z", "SD2RT_DEBUG": "1"})
    assert kept == {"SD2RT_CACHE": "x", "SD2RT_CONFIG": os.devnull, "PATH": "z", "SD2RT_DEBUG": ""}


@pytest.mark.parametrize(("variable", "name"), [("SD2RT_CONFIG", "config"), ("SD2RT_MODELS", "models"), ("SD2RT_CACHE", "engines")])
def test_the_home_of_nobody_is_one_check_that_fails(variable: str, name: str, sd2rt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "~nobody-there/x")
    found = sd2rt("doctor", "--no-paint", "--json")
    assert found.code == 1, found
    failed = {check["name"]: check for check in json.loads(found.out)["checks"] if check["state"] == "failed"}
    assert [failed[name]["detail"].partition(":")[0], failed[name]["remedy"]] == [variable, f"mend or unset {variable}"]


# --- packages


def with_versions(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> dict[str, Check]:
    """The checks of packages on a machine with these."""
    monkeypatch.setattr(doctor_checks, "installed_version", lambda name: versions.get(name.replace("-", "_")))
    return {check.name: check for check in doctor_checks.check_packages()}


def test_requirements_are_those_of_the_project() -> None:
    found = requirements()
    assert set(doctor_checks.EXTRAS.values()) <= set(found)
    assert {"onnxruntime", "onnx", "onnx-ir"} == set(found["cpu"])
    assert found["gpu"]["onnxruntime-gpu"]
    assert {"torch", "huggingface-hub"} < set(found["export"])


def test_packages_that_are_there_missing_or_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    found = with_versions(monkeypatch, onnxruntime="1.32.0", onnx="1.23.2", onnx_ir="1.1.0", openvino="2024.1.0")
    assert (found["cpu"].state, found["cpu"].remedy) == ("ok", "")
    assert found["openvino"].state == "warning"
    assert found["openvino"].detail == "openvino 2024.1.0, expected 2026.0 or newer"
    assert found["openvino"].remedy == "pip install -U 'sd2rt[openvino]'"
    assert (found["export"].state, found["export"].remedy) == ("absent", "pip install 'sd2rt[export]'")
    assert found["cuda"].remedy == "pip uninstall onnxruntime, then pip install 'sd2rt[gpu]'"
    assert "onnxruntime" not in found


def test_two_onnx_runtimes_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    found = with_versions(monkeypatch, onnxruntime="1.32.0", onnxruntime_gpu="1.31.0")["onnxruntime"]
    assert (found.state, found.detail) == ("failed", "onnxruntime 1.32.0 and onnxruntime-gpu 1.31.0 overwrite each other's files")
    assert found.remedy.startswith("pip uninstall onnxruntime onnxruntime-gpu, then ")


@pytest.mark.parametrize(
    ("version", "oldest", "older"),
    [
        ("1.9", "1.30", True),
        ("1.30", "1.30", False),
        ("1.30.1", "1.30", False),
        ("2", "1.30", False),
        ("2.13.0+cpu", "2.10", False),
        ("1.29rc1", "1.30", True),
    ],
)
def test_versions(version: str, oldest: str, older: bool) -> None:
    assert is_older(version, oldest) == older


# --- machine and targets


def test_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sd2rt.engine.gpu.find_gpu", lambda: Gpu(name="RTX", capability=(8, 9), driver_version=13010))
    found = only(doctor_checks.check_machine(), "gpu")
    assert (found.state, found.detail) == ("ok", "RTX (sm89), driver for CUDA 13.1")


def test_no_gpu_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sd2rt.engine.gpu.find_gpu", lambda: "no NVIDIA driver")
    found = only(doctor_checks.check_machine(), "gpu")
    assert (found.state, found.detail) == ("absent", "no NVIDIA driver")


@pytest.mark.parametrize(("free", "state"), [(1 << 30, "warning"), (8 << 30, "ok"), (None, "ok")])
def test_memory(free: int | None, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_checks, "free_memory", lambda: free)
    found = only(doctor_checks.check_machine(), "memory")
    assert (found.state, bool(found.remedy)) == (state, state == "warning")


def test_free_memory_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self: "MemTotal: 3 kB")
    assert doctor_checks.free_memory() is None

    def refuse(self: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert doctor_checks.free_memory() is None


def test_no_target_at_all_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    none = TargetStatus(name="cpu", works=False, builds=False, detail="onnxruntime is not installed")
    monkeypatch.setattr("sd2rt.engine.targets.probe_targets", lambda: (none,))
    found = list(doctor_checks.check_targets())
    assert [(check.name, check.state) for check in found] == [("cpu", "absent"), ("any", "failed")]
    assert found[-1].remedy == "pip install 'sd2rt[cpu]'"


# --- folders, models, settings


def test_a_folder_that_is_there_and_one_that_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    found = check_folder("models", tmp_path, "SD2RT_MODELS")
    assert (found.state, found.remedy) == ("ok", "")
    assert f"{tmp_path}: 5 bytes, " in found.detail
    assert "not there yet" in check_folder("models", tmp_path / "new" / "er", "SD2RT_MODELS").detail
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("sd2rt.cli.output.check_writable", refuse)
    found = check_folder("models", tmp_path, "SD2RT_MODELS")
    assert (found.state, found.detail) == ("failed", f"{tmp_path}: Read-only file system")
    assert found.remedy == "set SD2RT_MODELS to a folder of your own"


def test_a_folder_that_others_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise EngineCacheError(f"{folder}: other users can write there")

    monkeypatch.setattr("sd2rt.engine.cache_access.check_owner", refuse)
    assert check_folder("engines", tmp_path, "SD2RT_CACHE", owned=True).state == "failed"
    assert check_folder("engines", tmp_path, "SD2RT_CACHE").state == "ok"


def test_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_checks.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    found = check_folder("models", tmp_path, "SD2RT_MODELS")
    assert (found.state, found.remedy) == ("warning", "free space, or set SD2RT_MODELS to a folder of your own")


def test_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SD2RT_MODELS", str(tmp_path / "models"))
    write_bundle(tmp_path / "models" / "good")
    (write_bundle(tmp_path / "models" / "bad") / "unet" / "model.onnx").unlink()
    found = {check.name: check for check in doctor_checks.check_models()}
    assert found["good"].state == "ok"
    assert (found["bad"].state, found["bad"].remedy) == ("warning", "sd2rt models rm bad")


def test_settings(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("steps = 3\n")
    environment = {
        "SD2RT_CONFIG": str(file),
        "SD2RT_STEPPS": "3",
        "HF_TOKEN": "hf_secret",
        "HTTPS_PROXY": "http://me:word@proxy:1",
        "HOME": "/",
    }
    found = {check.name: check for check in doctor_checks.check_settings(root, environment)}
    assert found["config"].detail == f"{file}: 1 set"
    assert (found["SD2RT_STEPPS"].state, found["SD2RT_STEPPS"].detail) == ("warning", "means nothing to sd2rt")
    assert found["HF_TOKEN"].detail == "set, not shown"
    assert found["HTTPS_PROXY"].detail == "http://(not shown)@proxy:1"
    assert "HOME" not in found


def test_wrong_settings_fail_and_leave_the_doctor_running(tmp_path: Path, sd2rt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.toml").write_text("stepps = 3\n")
    monkeypatch.setenv("SD2RT_CONFIG", str(tmp_path / "c.toml"))
    found = sd2rt("doctor", "--no-paint")
    assert found.code == 1
    assert "line 1: stepps: no such option of the commands that paint; did you mean steps?" in found.out
    assert f"-> mend {tmp_path / 'c.toml'}\n" in found.out


def test_a_wrong_variable_is_what_is_to_be_mended(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("steps = 3\n")
    environment = {"SD2RT_CONFIG": str(tmp_path / "c.toml"), "SD2RT_STEPS": "many"}
    found = only(doctor_checks.check_settings(root, environment), "config")
    assert (found.state, found.remedy) == ("failed", "mend or unset SD2RT_STEPS")
    assert found.detail.startswith("SD2RT_STEPS: got 'many'")


@pytest.mark.parametrize("name", ["HF_TOKEN", "HF_HUB_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_API_KEY", "XDG_secret"])
def test_secrets_are_never_shown(name: str) -> None:
    assert redact(name, "value") == "set, not shown"
    assert redact(name, "") == "empty"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("me:secret@proxy:3128", "(not shown)@proxy:3128"),
        ("http://me:p/w@proxy", "http://(not shown)@proxy"),
        ("http://me:pa@ss@proxy", "http://(not shown)@proxy"),
        ("http://me:pa ss@proxy", "http://(not shown)@proxy"),
        ("HTTP://token@proxy/", "HTTP://(not shown)@proxy/"),
    ],
)
def test_passwords_of_proxies_are_never_shown(value: str, shown: str) -> None:
    assert redact("HTTPS_PROXY", value) == shown


def test_each_thing_is_looked_for_once(sd2rt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    status = TargetStatus(name="cpu", works=True, builds=True, detail="fine")
    monkeypatch.setattr("sd2rt.engine.gpu.find_gpu", lambda: looked.append("gpu") or "none")
    monkeypatch.setattr("sd2rt.engine.targets.probe_targets", lambda: looked.append("targets") or (status,))
    assert sd2rt("doctor", "--no-paint").code == 0
    assert sorted(looked) == ["gpu", "targets"]


def test_other_values_are_shown() -> None:
    assert redact("HF_HOME", "/data") == "/data"
    assert redact("HF_ENDPOINT", "https://hub.example") == "https://hub.example"


def test_nothing_that_could_crash_is_imported(tmp_path: Path) -> None:
    """Looking takes no library of a target: that is what the self-test's own processes are for."""
    code = (
        "import sys; from sd2rt.cli.main import main; main(['doctor', '--no-paint', '-q']);"
        "names = ('onnxruntime', 'openvino', 'tensorrt', 'tensorrt_rtx_bindings', 'torch');"
        "print('loaded', [name for name in names if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded []"
