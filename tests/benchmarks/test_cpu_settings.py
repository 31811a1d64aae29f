"""What was tried for target cpu: every variant builds, runs and computes the same; the report says what is kept."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from benchmarks.cpu_settings import KEPT, VARIANTS, Variant, report
from benchmarks.records import write_record
from benchmarks.unet_step import read_shape
from benchmarks.workers import cpu_engine, cpu_layers
from benchmarks.workers.unet import draw_feeds, open_engine_folder
from sd2rt.engine import lower_winograd, lowering, ort
from sd2rt.engine.ort import GRAPH_NAME
from tests.runtime.bundles import write_bundle

TOYWORLD = Path(__file__).parents[2] / "toyworld" / "bundle"


@pytest.fixture(autouse=True)
def _few_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Toyworld's convolutions have fewer than Winograd's form is worth."""
    monkeypatch.setattr(lower_winograd, "CHANNELS", 64)


def build(folder: Path, options: Mapping[str, Any]) -> None:
    """Build as a process of its own does: no lowering stays left out."""
    folder.mkdir()
    with pytest.MonkeyPatch.context() as lowerings:
        lowerings.setattr(lowering, "lower_convolutions", lowering.lower_convolutions)
        cpu_engine.build(TOYWORLD, folder, options)


def run(folder: Path, variant: Variant) -> Any:
    shape = read_shape(TOYWORLD, json.loads((TOYWORLD / "bundle.json").read_text()))
    return open_engine_folder(folder, variant.load)(draw_feeds(shape))


def winograd_layers(graph: onnx.ModelProto) -> int:
    """Count the convolutions in six groups, of which each layer in that form has one."""
    return sum(attribute.name == "group" and attribute.i == 6 for node in graph.graph.node for attribute in node.attribute)


def test_every_variant_computes_the_same(tmp_path: Path) -> None:
    folders: dict[str, Path] = {}
    results: dict[str, Any] = {}
    for name, variant in VARIANTS.items():
        options = json.dumps(variant.build)
        if options not in folders:
            folders[options] = tmp_path / str(len(folders))
            build(folders[options], variant.build)
            graph = onnx.load(folders[options] / GRAPH_NAME, load_external_data=False)
            assert (winograd_layers(graph) > 0) == ("Winograd" not in name), name
        results[name] = run(folders[options], variant)
        kept = results[KEPT]
        np.testing.assert_allclose(results[name], kept, atol=1e-4 * kept.std(), err_msg=name)
    assert len(folders) == 4


def test_an_engine_is_found_again_by_all_that_it_is_made_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Path] = []

    def note(bundle: Path, folder: Path, options: Mapping[str, Any]) -> None:
        (folder / "engine").write_text("finished")
        built.append(folder)

    monkeypatch.setattr(cpu_engine, "build", note)
    work = tmp_path / "work"
    first = cpu_engine.obtain(TOYWORLD, work, {})
    assert (first / "engine").read_text() == "finished"
    assert cpu_engine.obtain(TOYWORLD, work, {}) == first
    assert len(built) == 1
    others = [cpu_engine.obtain(TOYWORLD, work, {"prepacked": True}), cpu_engine.obtain(write_bundle(tmp_path / "other"), work, {})]
    monkeypatch.setattr(ort, "LOWERING", ort.LOWERING + 1)
    others.append(cpu_engine.obtain(TOYWORLD, work, {}))
    assert (len({first, *others}), len(built)) == (4, 4)
    assert {*work.iterdir()} == {first, *others}


def test_a_build_that_fails_leaves_no_engine(tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match="lower_nothing"):
        cpu_engine.obtain(TOYWORLD, tmp_path, {"without": ["lower_nothing"]})
    assert not [*tmp_path.iterdir()]


def test_a_lowering_that_does_not_exist_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match="lower_nothing"):
        cpu_engine.build(TOYWORLD, tmp_path, {"without": ["lower_nothing"]})


def test_every_form_of_a_layer_computes_the_same() -> None:
    for name, layer in cpu_layers.layers(8).items():
        found = cpu_layers.measure(layer, repeats=1)
        assert found["kept"] in found["forms"], name
        assert all(form["difference"] < 1e-5 and len(form["run_s"]) == 1 for form in found["forms"].values()), name


def test_convolutions_of_large_pictures_alone_are_kept_as_winograds() -> None:
    kept = {name: layer.kept for name, layer in cpu_layers.layers(8).items() if name.startswith("Conv, ")}
    winograd = "Winograd F(4,3) along the height"
    assert [*kept.values()] == [winograd, winograd, winograd, "Conv"]
    assert [*kept][-1] == "Conv, 2 x 2 of 1280"


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_kept_convolution_is_what_the_engine_makes_of_it_in_a_unet(scale: int) -> None:
    """There pictures have been made smaller by a Conv with strides."""
    channels = 64
    weights = {name: cpu_layers.draw(*shape) for name, shape in (("start", (channels, 4, 1, 1)), ("w", (channels, channels, 3, 3)))}
    nodes = [
        helper.make_node("Conv", ["x", "start"], ["small"], strides=[scale, scale]),
        helper.make_node("Conv", ["small", "w", "b"], ["y"], pads=[1, 1, 1, 1]),
    ]
    unet = cpu_layers.model(nodes, {"x": (2, 4, 8, 8)}, ["y"], {**weights, "b": cpu_layers.draw(channels)})
    layer = cpu_layers.convolution(8 // scale, channels, scale)
    in_unet = winograd_layers(cpu_layers.lowered(unet, lower_winograd.lower_convolutions))
    assert in_unet == winograd_layers(layer.forms[layer.kept]) == (scale <= 2)


def test_the_report_compares_with_what_is_kept(tmp_path: Path) -> None:
    times = {"step_s": {"median": 4.0, "min": 3.0, "max": 5.0}, "load_s": {"median": 1.0}, "peak_rss_bytes": {"median": 4e9}}
    slower = {**times, "step_s": {"median": 5.0, "min": 5.0, "max": 5.0}}
    contenders = {
        name: {**found, "engine_bytes": 3.5e9, "undisturbed": 2, "against_kept": {"max_abs_by_spread": 3e-5}}
        for name, found in ((KEPT, times), ("other", slower))
    }
    forms = {"plain": {"run_s": [0.02, 0.01, 0.03], "difference": 0.0}, "fused": {"run_s": [0.01], "difference": 2e-6}}
    content = {
        "parameters": {"shape": {"height": 64, "width": 96, "batch": 2}, "rounds": 2, "steps_per_round": 2, "layer_repeats": 3},
        "contenders": contenders,
        "layers": {"layer": {"kept": "fused", "forms": forms}},
    }
    text = report(json.loads(write_record(tmp_path, "cpu_settings", content).read_text()))
    assert f"| **{KEPT}** | 4.00 (3.00 to 5.00) | 1.00 | 1.0 | 4.00 | 3.50 | reference |" in text
    assert "| other | 5.00 (5.00 to 5.00) | 1.25 | 1.0 | 4.00 | 3.50 | 3e-05 |" in text
    assert "| layer | plain | 20.0 (10.0) | 1.00 | reference |" in text
    assert "|  | **fused** | 10.0 (10.0) | 0.50 | 2e-06 |" in text
    assert "768 x 512 pixels" in text
