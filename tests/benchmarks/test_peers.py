"""The peers' benchmark without peers: who takes part, how runs fail, what is sent to be judged, and what the tables refuse."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import benchmarks
from benchmarks.machine import ROOT, git
from benchmarks.measure import ContenderFailed, Sample
from benchmarks.peers import painting, report, runner, unet, venvs
from benchmarks.peers.contenders import CONTENDERS, REFERENCE, taking_part
from benchmarks.peers.models import FORMS, bundle_bytes, prepare
from benchmarks.peers.painting import PARTS, Setting, case, folder_name, obstacles
from benchmarks.peers.trial import Trial, alternate_trial, describe

PAINTED = {"load_s": 1.0, "one_prompt": False, "parts": {"1 at a time": {"call_s": [0.2, 0.4], "step_s": [0.01, 0.02]}}}


def sample(said: dict[str, Any] | None = None, others_cores: float = 0.0) -> Sample:
    return Sample(wall_s=2.0, peak_rss_bytes=5_000_000, stdout=json.dumps(said) if said else "out.png\n", others_cores=others_cores)


def test_the_runner_stays_small() -> None:
    """The memory of the process that starts a contender is counted to it."""
    script = "import sys; import benchmarks.__main__; print([name for name in ('numpy', 'torch', 'matplotlib') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_contenders_name_what_there_is() -> None:
    painters = {path.stem for path in (ROOT / "benchmarks" / "workers" / "painters").glob("*.py")}
    steps = (ROOT / "benchmarks" / "workers" / "unet.py").read_text()
    for one in CONTENDERS:
        assert one.venv in venvs.RECIPES
        assert one.form in {"bundle", *FORMS}
        assert one.painter in painters if one.scenarios - {"unet"} else not one.painter
        assert f'"{one.step}": open_' in steps if "unet" in one.scenarios else not one.step or one.painter
    assert len({folder_name(one.name) for one in CONTENDERS}) == len(CONTENDERS)


def test_the_reference_always_takes_part() -> None:
    assert [one.name for one in taking_part("pipeline", ["stable"])] == [REFERENCE, "stable-diffusion.cpp, f16 weights"]
    assert "diffusers, torch.compile fp32" not in {one.name for one in taking_part("cold-start")}
    assert taking_part(None) == CONTENDERS
    with pytest.raises(ValueError, match="contender: got nobody; expected parts of sd2rt, cpu;"):
        taking_part("unet", ["nobody"])


def test_every_scenario_has_parts_and_a_place_in_a_page() -> None:
    assert set(runner.SCENARIOS) == {"install", *PARTS, *(f"unet-{size}" for size in unet.SIZES)}
    assert runner.COMMANDS["peers_unet_x4"] == "peers --scenario unet-x4"


def test_who_fails_is_put_aside_with_the_reason() -> None:
    calls = []

    def break_down() -> Sample:
        calls.append("broken")
        raise ContenderFailed("painter exited with 1: Traceback\nRuntimeError: no kernel\n  note")

    runs = {"fine": lambda: sample(PAINTED), "broken": break_down, "missing": lambda: sample(PAINTED)}
    trial = alternate_trial(runs, 2, first=True, failed={"missing": "cannot be installed: no wheel"})
    assert calls == ["broken"]
    assert trial.failed == {"missing": "cannot be installed: no wheel", "broken": "RuntimeError: no kernel"}
    assert list(trial.first) == ["fine"]
    assert [len(samples) for samples in trial.samples.values()] == [2]
    assert describe(trial, "broken") == {"failed": "RuntimeError: no kernel"}


def test_samples_are_summed_up_without_the_disturbed_ones() -> None:
    slow = {**PAINTED, "parts": {"1 at a time": {"call_s": [9.0], "step_s": [9.0]}}}
    trial = Trial(samples={"one": [sample(PAINTED), sample(slow, others_cores=1.5)]}, first={"one": sample(slow)})
    found = describe(trial, "one")
    assert found["parts"]["1 at a time"]["call_s"] == {"median": pytest.approx(0.3), "min": 0.2, "max": 0.4}
    assert (len(found["samples"]), found["undisturbed"], found["first_run"]["others_cores"]) == (2, 1, 0.0)
    steps = Trial(samples={"one": [sample({"load_s": 3.0, "step_s": [5.0, 7.0]})]})
    assert describe(steps, "one")["step_s"]["median"] == 6.0
    command = describe(Trial(samples={"one": [sample()]}), "one")
    assert command["wall_s"]["median"] == 2.0
    assert "parts" not in command


def test_obstacles_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"diffusers": {"versions": {}}, "sd2rt": {"failed": "no wheel"}, "optimum-onnx": {"versions": {}}}
    monkeypatch.setattr(painting, "details", installed.get)
    forms = {"diffusers": {}, "bundle": {}, "onnx": {"failed": "no exporter"}, "ir": {}}
    found = obstacles([one for one in CONTENDERS if one.venv in (*installed, "optimum-intel")], forms)
    assert found["sd2rt, cpu"] == "cannot be installed: no wheel"
    assert found["optimum-onnx, fp32"] == "its model cannot be made: no exporter"
    assert found["optimum-intel, f32"].startswith("cannot be installed: not installed: python -m benchmarks peers")
    assert REFERENCE not in found


def test_an_installation_is_done_once_and_its_failure_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venvs, "_install", lambda target, recipe: target.mkdir(exist_ok=True) or {"failed": f"no {recipe.requirements[0]}"})
    first = venvs.install("peer", venvs.Recipe(requirements=("a",)), tmp_path)
    assert first["failed"] == "no a"
    monkeypatch.setattr(venvs, "_install", lambda target, recipe: {"seconds": 1.0, "bytes": 2, "versions": {}})
    assert venvs.install("peer", venvs.Recipe(requirements=("a",)), tmp_path) == first
    assert venvs.install("peer", venvs.Recipe(requirements=("b",)), tmp_path)["seconds"] == 1.0
    assert venvs.details("peer", tmp_path) == venvs.install("peer", venvs.Recipe(requirements=("b",)), tmp_path)
    assert len(venvs.install("peer", venvs.Recipe(requirements=("-e", ".")), tmp_path)["pyproject_sha256"]) == 64


def test_disk_counts_each_file_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(100_000))
    once = venvs.disk_bytes(tmp_path)
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    assert 100_000 <= once == venvs.disk_bytes(tmp_path)
    assert venvs.disk_bytes(tmp_path / "a") < once


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Collecting a\nERROR: No matching distribution\nnotice: new pip\n", "ERROR: No matching distribution"),
        ("one\ntwo\n", "two"),
        ("", "no word"),
    ],
)
def test_the_line_that_says_why(words: str, expected: str) -> None:
    assert venvs.last_error(words) == expected


def test_models_are_made_once_and_failures_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "bundle"
    (bundle / "unet").mkdir(parents=True)
    (bundle / "bundle.json").write_text('{"components": {"unet": {}}}')
    for name in ("tokenizer", "scheduler", "upscaler"):
        (bundle / name).mkdir()
    (bundle / "upscaler" / "more").write_bytes(bytes(1_000_000))
    calls = []

    def copy(_bundle: Path, _diffusers: Path, out: Path) -> list[str]:
        calls.append(out.name)
        return [sys.executable, "-c", f"import sys; open({str(out)!r}, 'w').write('x')" if out.name != "ir" else "raise SystemExit('no')"]

    monkeypatch.setattr("benchmarks.peers.models.FORMS", dict.fromkeys(("diffusers", "onnx", "ir"), copy))
    work = tmp_path / "work"
    work.mkdir()
    first = prepare(bundle, work, ["bundle", "onnx", "ir"])
    assert first["bundle"]["bytes"] == bundle_bytes(bundle) < 1_000_000
    assert first["onnx"]["path"] == str(work / "onnx")
    assert first["ir"] == {"failed": "no"}
    assert prepare(bundle, work, ["onnx", "ir"]) == first
    assert calls == ["diffusers", "ir", "onnx", "ir"]
    (bundle / "bundle.json").write_text((bundle / "bundle.json").read_text() + "\n")
    prepare(bundle, work, ["onnx"])  # another bundle: nothing is taken over
    assert calls[4:] == ["diffusers", "onnx"]


def test_a_batch_of_one_prompt_is_held_against_that_prompt(tmp_path: Path) -> None:
    setting = Setting(scenario="offline", bundle=tmp_path, work=tmp_path, rounds=1)
    part = painting.part("2 at a time", 2, 2)
    trial = Trial(samples={REFERENCE: [sample(PAINTED)], "many": [sample(PAINTED)], "one": [sample({**PAINTED, "one_prompt": True})]})
    many, one = (case(setting, name, part, ["a", "b", "c", "d"], trial) for name in ("many", "one"))
    assert (many["captions"], many["same"]) == (["a", "b", "c", "d"], [0, 1, 2, 3])
    assert (one["captions"], one["same"]) == (["a", "a", "c", "c"], [0, 2])
    assert one["reference"] == str(tmp_path / "offline" / "diffusers-eager-fp32" / "2 at a time.npy")
    large = case(setting, "many", painting.part("size 128", 1, 1, side=128), ["a"], trial)
    assert "captions" not in large
    assert "reference" not in case(setting, "many", part, list("abcd"), Trial(samples={"many": trial.samples["many"]}))


def test_ours_starts_by_the_command_line(tmp_path: Path) -> None:
    setting = Setting(scenario="cold-start", bundle=tmp_path, work=tmp_path, rounds=1)
    command = painting.our_command(CONTENDERS[0], setting, "a red cube", tmp_path)
    assert command[:3] == [str(ROOT / ".venv-peers-sd2rt" / "bin" / "sd2rt"), "generate", "a red cube"]
    assert command[command.index("--target") + 1] == "cpu"
    assert command[command.index("--sampler") + 1] == "ddim"


def test_a_step_of_the_upscaler_has_a_noise_level(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text('{"in_channels": 7, "cross_attention_dim": 1024}')
    described = {"native_size": [512, 512], "latent_factor": 4}
    assert unet.step_shape(tmp_path, described, unet.SIZES["x4"])["noise_level"] == unet.NOISE_LEVEL
    base = unet.step_shape(tmp_path, {**described, "latent_factor": 8}, unet.SIZES["768"])
    assert (base["height"], base["width"], base["batch"], "noise_level" in base) == (96, 96, 2, False)


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Scenarios that cost nothing."""
    measured: list[str] = []

    def measure(name: str, request: runner.Request, rounds: int) -> dict[str, Any]:
        measured.append(f"{name} x {rounds}")
        return {"parameters": {}, "contenders": {}}

    scenario = runner.Scenario(rounds=3, minutes=1, measure=measure, report=report.install)
    asked_for = runner.Scenario(rounds=1, minutes=1, measure=measure, report=report.install, by_default=False)
    monkeypatch.setattr(runner, "SCENARIOS", {"install": scenario, "offline": scenario, "unet-768": asked_for})
    return measured


@pytest.mark.skipif(not git("rev-parse", "HEAD"), reason="no repository: results cannot be told from those of another commit")
def test_what_was_cut_off_goes_on(tmp_path: Path, cheap: list[str]) -> None:
    request = runner.Request(bundle=tmp_path, work=tmp_path, results=tmp_path)
    list(runner.run(["install"], request))
    said = list(runner.run([], request))
    assert said[0] == "install: measured at this commit already"
    assert said[-1] == str(tmp_path / "peers_offline.json")
    assert json.loads((tmp_path / "peers_offline.json").read_text())["took_s"] >= 0
    list(runner.run(["install", "unet-768"], runner.Request(bundle=tmp_path, work=tmp_path, results=tmp_path, rounds=1)))
    assert cheap == ["install x 3", "offline x 3", "install x 1", "unet-768 x 1"]


def test_what_some_contenders_did_is_not_all_of_it(tmp_path: Path, cheap: list[str]) -> None:
    some = runner.Request(bundle=tmp_path, work=tmp_path, results=tmp_path, wanted=("sd2rt",))
    list(runner.run(["install"], some))
    assert json.loads((tmp_path / "peers_install.json").read_text())["only"] == ["sd2rt"]
    list(runner.run([], runner.Request(bundle=tmp_path, work=tmp_path, results=tmp_path)))
    assert cheap[:2] == ["install x 3", "install x 3"]
    assert json.loads((tmp_path / "peers_install.json").read_text())["only"] == []


def test_the_command_refuses_unknown_names(tmp_path: Path) -> None:
    arguments = ["peers", "--scenario", "install", "--only", "nobody", "--results", str(tmp_path)]
    refused = CliRunner().invoke(benchmarks, arguments)
    assert refused.exit_code == 1
    assert "contender: got nobody" in refused.output
