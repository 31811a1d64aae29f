"""`sd2rt verify`, on the embedded model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import sd2rt.runtime.verify
from sd2rt.engine.build import open_engine
from sd2rt.engine.protocol import Engine
from sd2rt.engine.spec import BuildOptions, ComponentFiles
from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.models import find_model
from tests.cli.conftest import MODEL, Command
from tests.fake_gpu import fake_gpu

COMPONENTS = list(read_bundle(find_model(MODEL)).components)


class Damaged:
    """An engine with noise, or NaN, on what it gives."""

    def __init__(self, engine: Engine, noise: float) -> None:
        self.inputs, self.outputs, self.close = engine.inputs, engine.outputs, engine.close
        self.engine, self.noise = engine, noise

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        random = np.random.default_rng(0)
        return {name: array + self.noise * random.standard_normal(array.shape) for name, array in self.engine.run(feeds).items()}


def damage(monkeypatch: pytest.MonkeyPatch, component: str, noise: float) -> None:
    def open_damaged(files: ComponentFiles, options: BuildOptions, notify: Any) -> Engine:
        engine = open_engine(files, options, notify)
        return Damaged(engine, noise) if files.name == component else engine

    monkeypatch.setattr(sd2rt.runtime.verify, "open_engine", open_damaged)


def test_engines_of_the_embedded_model_are_right(sd2rt: Command) -> None:
    done = sd2rt("verify", MODEL, "--target", "cpu")
    assert done.code == 0, done.err
    head, *rows = done.out.splitlines()
    assert head.split()[:2] == ["component", "output"]
    assert [row.split()[0] for row in rows] == COMPONENTS
    assert all(row.endswith("PSNR >= 35 dB  ok") for row in rows)
    assert all(float(row.split()[4]) < 120 for row in rows), "the two sides are the same computation"


def test_as_json(sd2rt: Command) -> None:
    found = json.loads(sd2rt("verify", MODEL, "--target", "cpu", "--size", "64x72", "--batch", "2", "--json").out)
    assert (found["model"], found["target"], found["ok"]) == (MODEL, "cpu", True)
    unet = next(component for component in found["components"] if component["component"] == "unet")
    assert (unet["output"], unet["ok"], unet["not_finite"]) == ("out_sample", True, 0)
    assert 0 < unet["max_relative"] < 0.01
    assert [output["output"] for output in unet["outputs"]] == ["out_sample"]


@pytest.mark.parametrize(("noise", "words"), [(0.3, "0"), (np.nan, "512")])
def test_a_miss_is_told_and_exits_with_1(noise: float, words: str, sd2rt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(monkeypatch, "unet", noise)
    done = sd2rt("verify", MODEL, "--target", "cpu")
    assert done.code == 1
    missed = [row for row in done.out.splitlines() if row.endswith("MISSED")]
    assert [row.split()[0] for row in missed] == ["unet"]
    assert missed[0].split()[5] == words
    as_json = json.loads(sd2rt("verify", MODEL, "--target", "cpu", "--json").out)
    assert (as_json["ok"], [one["ok"] for one in as_json["components"]]) == (False, [name != "unet" for name in COMPONENTS])


def test_a_gpus_engines_are_compared_with_the_cpu_engines_of_their_form(sd2rt: Command, tmp_path: Path) -> None:
    with fake_gpu(tmp_path):
        done = sd2rt("verify", MODEL, "--target", "tensorrt", "--json")
    assert done.code == 0, done.err
    found = {component["component"]: component for component in json.loads(done.out)["components"]}
    assert [output["output"] for output in found["unet"]["outputs"]] == ["next_step", "next_registers", "denoised"]
    assert found["vae_decoder"]["notes"]["precision"] == "as exported"
    assert 60 < found["unet"]["psnr_db"] < 120
    assert {name: output["gate"] for name in found for output in found[name]["outputs"] if output["output"] in ("pixels", "next_step")} == {
        "unet": "error <= 0",
        "vae_decoder": "PSNR >= 30 dB",
        "tiny_vae_decoder": "PSNR >= 30 dB",
    }


def test_steps_that_keep_a_part_are_compared(sd2rt: Command, tmp_path: Path) -> None:
    plain, inpaint = ("verify", MODEL, "--target", "tensorrt", "--json"), ("build", MODEL, "--target", "tensorrt", "--inpaint", "--json")
    with fake_gpu(tmp_path):
        built = json.loads(sd2rt(*inpaint).out)["engines"]
        done = sd2rt(*plain, "--inpaint")
        assert "building the tensorrt engine" not in done.err
        assert "building the tensorrt engine of unet" in sd2rt(*plain).err
    assert [engine["component"] for engine in built] == COMPONENTS
    assert (done.code, json.loads(done.out)["ok"]) == (0, True)


def test_outputs_are_saved_for_polygraphy(sd2rt: Command, tmp_path: Path) -> None:
    comparator = pytest.importorskip("polygraphy.comparator", reason="needs the tensorrt extra")
    out = tmp_path / "outputs"
    assert sd2rt("verify", MODEL, "--target", "cpu", "--save-outputs", str(out)).code == 0
    assert sorted(path.stem for path in out.iterdir()) == sorted(COMPONENTS)
    results = comparator.RunResults.load(str(out / "unet.json"))
    assert list(results.keys()) == ["cpu", "reference"]
    got, expected = (results[name][0]["out_sample"] for name in ("cpu", "reference"))
    assert got.shape == expected.shape == (2, 4, 8, 8)
    assert 0 < np.abs(got - expected).max() < 0.1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--size", "64"), "size: got '64'; expected WIDTHxHEIGHT in pixels, such as 768x512"),
        (("--size", "64x65"), "height: got 65 pixels; expected a multiple of 8"),
        (("--save-outputs", "."), "save-outputs: got . (File exists); expected a folder that can be made"),
        (("--target", "abacus"), "target: got 'abacus'"),
    ],
)
def test_wrong_usage(options: tuple[str, ...], words: str, sd2rt: Command) -> None:
    done = sd2rt("verify", MODEL, *options)
    assert done.code == 2
    assert words in done.err
