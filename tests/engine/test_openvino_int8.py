"""The openvino target on a graph with layers in int8: it computes them as such, and what is float in either precision."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from sd2rt.engine import BuildOptions, build_engine, open_engine
from sd2rt.engine.accuracy import Gate, compare_outputs, worst
from sd2rt.engine.spec import ComponentFiles
from tests.engine.graphs import component
from tests.engine.int8_graphs import CHANNELS, narrowed, network

openvino = pytest.importorskip("openvino", reason="the openvino target needs openvino")
pytest.importorskip("onnxruntime", reason="the reference needs onnxruntime")
from sd2rt.engine import openvino as backend  # noqa: E402

SAMPLE = np.random.default_rng(0).standard_normal((2, CHANNELS, 8, 8)).astype(np.float32)
F32 = BuildOptions(target="openvino", threads=1, precision="f32")
BF16 = replace(F32, precision="bf16")


@pytest.fixture(autouse=True)
def with_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take this CPU for one that computes in bfloat16; OpenVINO does so on any, only slower."""
    monkeypatch.setattr(backend, "has_bf16", lambda: True)


@pytest.fixture
def half(tmp_path: Path) -> ComponentFiles:
    return component(tmp_path / "half", network("float16"))


@pytest.fixture
def narrow(half: ComponentFiles, tmp_path: Path) -> ComponentFiles:
    return component(tmp_path / "narrow", onnx.load(narrowed(half, tmp_path / "written").onnx))


def psnr(files: ComponentFiles, options: BuildOptions, reference: ComponentFiles) -> float:
    expected = open_engine(reference, BuildOptions(target="cpu", threads=1)).run({"sample": SAMPLE})
    return worst(compare_outputs(open_engine(files, options).run({"sample": SAMPLE}), expected)).psnr_db


@pytest.mark.parametrize("options", [F32, BF16], ids=["f32", "bf16"])
def test_outputs_are_nearly_those_of_the_graph_itself(options: BuildOptions, half: ComponentFiles, narrow: ComponentFiles) -> None:
    assert 30 < psnr(narrow, options, half) < 60


@pytest.mark.parametrize("options", [F32, BF16], ids=["f32", "bf16"])
def test_layers_are_computed_in_int8(options: BuildOptions, narrow: ComponentFiles) -> None:
    """What OpenVINO says of the compiled engine: its convolution and products take bytes."""
    model = openvino.Core().read_model(build_engine(narrow, options).folder / "engine.xml")
    model.reshape({"sample": SAMPLE.shape})
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": options.precision})
    kinds = [
        (node.get_rt_info()["layerType"].value, node.get_rt_info()["runtimePrecision"].value)
        for node in compiled.get_runtime_model().get_ops()
    ]
    layers = [precision for layer, precision in kinds if layer in ("Convolution", "FullyConnected")]
    assert len(layers) == 3
    assert set(layers) <= {"u8", "i8"}


def test_ranges_keep_the_precision_of_the_bundle(narrow: ComponentFiles) -> None:
    """In bfloat16 they would be off by more than half a step."""
    text = (build_engine(narrow, BF16).folder / "engine.xml").read_text()
    assert 'element_type="i8"' in text
    assert 'element_type="bf16"' not in text


@pytest.mark.parametrize(("gates", "expected"), [((190, 20), "bf16"), ((20, 190), "f32")], ids=["of int8", "of half precision"])
def test_what_bf16_does_to_it_is_held_to_the_gate_of_int8(
    gates: tuple[int, int], expected: str, narrow: ComponentFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "HALF", Gate(psnr_db=gates[0]))
    monkeypatch.setattr(backend, "INT8", Gate(psnr_db=gates[1]))
    notes = build_engine(narrow, replace(F32, precision="auto", axes={"batch": (2, 2, 2)})).manifest.notes
    assert notes["precision"] == expected
    assert "bf16_psnr_db" in notes
