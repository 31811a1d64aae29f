"""What was tried for target cpu: every variant builds, runs and computes the same; the report says what is kept."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.cpu_settings import KEPT, KEPT_FORMS, VARIANTS, Variant, report
from benchmarks.records import write_record
from benchmarks.unet_step import read_shape
from benchmarks.workers import cpu_engine, cpu_layers
from benchmarks.workers.unet import draw_feeds, open_engine_folder
from sd2rt.engine import lowering

TOYWORLD = Path(__file__).parents[2] / "toyworld" / "bundle"


@pytest.fixture(autouse=True)
def _lowerings_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lower_convolutions", "lower_gates"):
        monkeypatch.setattr(lowering, name, getattr(lowering, name))


def run(folder: Path, variant: Variant) -> Any:
    shape = read_shape(TOYWORLD, json.loads((TOYWORLD / "bundle.json").read_text()))
    return open_engine_folder(folder, variant.load)(draw_feeds(shape))


def test_every_variant_computes_the_same(tmp_path: Path) -> None:
    built: dict[str, Any] = {}
    results: dict[str, Any] = {}
    for name, variant in VARIANTS.items():
        folder = tmp_path / variant.engine
        if variant.engine not in built:
            folder.mkdir()
            built[variant.engine] = variant.build
            cpu_engine.build(TOYWORLD, folder, variant.build)
        assert built[variant.engine] == variant.build
        results[name] = run(folder, variant)
        kept = results[KEPT]
        np.testing.assert_allclose(results[name], kept, atol=1e-4 * kept.std(), err_msg=name)


def test_a_lowering_that_does_not_exist_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match="lower_nothing"):
        cpu_engine.build(TOYWORLD, tmp_path, {"without": ["lower_nothing"]})


def test_every_form_of_a_layer_computes_the_same() -> None:
    names: set[str] = set()
    for layer, (forms, feeds) in cpu_layers.layers(8).items():
        found = cpu_layers.measure(forms, feeds, repeats=1)
        names |= found.keys()
        assert all(form["difference"] < 1e-5 and len(form["run_s"]) == 1 for form in found.values()), layer
        assert len(found.keys() & set(KEPT_FORMS)) == 1, layer
    assert names >= set(KEPT_FORMS)


def test_the_report_compares_with_what_is_kept(tmp_path: Path) -> None:
    times = {"step_s": {"median": 4.0, "min": 3.0, "max": 5.0}, "load_s": {"median": 1.0}, "peak_rss_bytes": {"median": 4e9}}
    slower = {**times, "step_s": {"median": 5.0, "min": 5.0, "max": 5.0}}
    contenders = {name: {**found, "engine_bytes": 3.5e9, "undisturbed": 2} for name, found in ((KEPT, times), ("other", slower))}
    forms = {"plain": {"run_s": [0.02, 0.01, 0.03]}, KEPT_FORMS[0]: {"run_s": [0.01]}}
    content = {
        "parameters": {"shape": {"height": 64, "width": 96, "batch": 2}, "rounds": 2, "steps_per_round": 2, "layer_repeats": 3},
        "contenders": contenders,
        "layers": {"layer": forms},
    }
    text = report(json.loads(write_record(tmp_path, "cpu_settings", content).read_text()))
    assert f"| **{KEPT}** | 4.00 (3.00 to 5.00) | 1.00 | 1.0 | 4.00 | 3.50 |" in text
    assert "| other | 5.00 (5.00 to 5.00) | 1.25 |" in text
    assert "| layer | plain | 20.0 (10.0) | 1.00 |" in text
    assert f"|  | **{KEPT_FORMS[0]}** | 10.0 (10.0) | 0.50 |" in text
    assert "768 x 512 pixels" in text
