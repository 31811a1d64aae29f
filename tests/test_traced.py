"""Graphs that are traced once for all tests: what is taken from the folder is what tracing gives."""

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="traces modules of torch")

import onnx_ir as ir

from sd2rt.export import components
from sd2rt.export.canonical import canonicalize
from sd2rt.export.components import Component
from sd2rt.export.tracing import trace
from tests import traced
from tests.tiny import tiny_pipeline

pytestmark = pytest.mark.torch


def written(model: ir.Model, component: Component) -> bytes:
    canonicalize(model, component)
    return ir.to_proto(model).SerializeToString(deterministic=True)


def test_a_graph_from_the_folder_has_its_own_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = (components.text_encoder(tiny_pipeline("epsilon", seed=seed).text_encoder) for seed in (0, 1))
    fresh = written(traced.take(first, tmp_path), first)
    expected = written(trace(other), other)
    monkeypatch.setattr(traced, "trace", None)
    assert written(traced.take(other, tmp_path), other) == expected != fresh


def test_graphs_of_other_modules_are_others() -> None:
    plain, wider = (components.unet(tiny_pipeline(variant).unet) for variant in ("epsilon", "no_mid"))
    half = components.unet(tiny_pipeline("epsilon").unet.half())
    halves = components.vae_encoder(tiny_pipeline("epsilon").vae), components.vae_decoder(tiny_pipeline("epsilon").vae)
    assert len({traced.digest(component) for component in (plain, wider, half, *halves)}) == 5
    assert traced.digest(components.unet(tiny_pipeline("epsilon", seed=1).unet)) == traced.digest(plain)
