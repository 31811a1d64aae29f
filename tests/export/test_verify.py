from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

from sd2rt.engine.errors import ExportError, MissingDependency
from sd2rt.export.components import Component, TensorInfo
from sd2rt.export.verify import PSNR_CAP_DB, Reference, compare, run_onnx, run_reference, verify

pytestmark = pytest.mark.torch


class Scale(torch.nn.Module):
    """x -> scale * x, as torch computes it."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(scale))

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        return self.scale * sample


def component(scale: float = 1.0) -> Component:
    sample = TensorInfo(name="sample", shape=("batch", 4, "height", "width"))
    result = TensorInfo(name="out_sample", shape=("batch", 4, "height", "width"))
    return Component(name="toy", module=Scale(scale), config={}, inputs=(sample,), outputs=(result,))


def graph(folder: Path, scale: float, dtype: str) -> Path:
    """Write the one-node graph x -> x * scale."""
    kind = ir.DataType.FLOAT if dtype == "float32" else ir.DataType.FLOAT16
    sample = ir.Value(name="sample", type=ir.TensorType(kind), shape=ir.Shape(("batch", 4, "height", "width")))
    tensor = ir.tensor(np.array(scale, dtype), name="scale")
    factor = ir.Value(name="scale", type=ir.TensorType(kind), shape=ir.Shape(()), const_value=tensor)
    node = ir.node("Mul", [sample, factor])
    node.outputs[0].name, node.outputs[0].type = "out_sample", ir.TensorType(kind)
    model = ir.Graph([sample], [node.outputs[0]], nodes=[node], initializers=[factor], opset_imports={"": 23}, name="toy")
    ir.save(ir.Model(model, ir_version=10), folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize(("dtype", "scale"), [("float32", 1.0), ("float32", 1.00001), ("float16", 1.0), ("float16", 1.03)])
def test_close_enough_passes_with_its_figures(tmp_path: Path, dtype: str, scale: float) -> None:
    reference = run_reference(component())
    result = verify(component(), graph(tmp_path, scale, dtype), dtype, reference)
    assert result.psnr_db > 35
    assert result.max_abs == pytest.approx(abs(scale - 1) * abs(reference.feeds["sample"]).max(), abs=2e-3)
    assert result.inputs == "random, seed 1: sample [3, 4, 16, 24]"


@pytest.mark.parametrize(
    ("dtype", "scale", "words"),
    [
        ("float32", 1.001, r"toy: largest error .*, gate max_relative <= 0\.0001"),
        ("float16", 1.2, r"toy: PSNR \d+\.\d dB in float16, gate psnr_db >= 35; use --dtype fp32"),
        ("float16", 65504.0, "toy: the exported graph gives NaN or infinity in float16"),
        ("float32", float("nan"), "toy: the exported graph gives NaN or infinity in float32"),
    ],
)
def test_a_miss_names_component_figure_and_gate(tmp_path: Path, dtype: str, scale: float, words: str) -> None:
    with pytest.raises(ExportError, match=words):
        verify(component(), graph(tmp_path, scale, dtype), dtype, run_reference(component()))


def test_a_reference_that_is_not_finite_blames_the_checkpoint() -> None:
    with pytest.raises(ExportError, match="toy: torch gives NaN or infinity in float32"):
        run_reference(component(float("inf")))


def test_reference_runs_at_another_size_than_tracing() -> None:
    reference = run_reference(component())
    assert isinstance(reference, Reference)
    assert reference.feeds["sample"].shape == (3, 4, 16, 24)


def test_figures_are_relative_to_the_spread() -> None:
    expected = np.linspace(-1, 3, 400).reshape(4, 100)  # spread 4
    result = compare(expected, expected + 0.04, "float16")
    assert result.max_abs == pytest.approx(0.04)
    assert result.max_relative == pytest.approx(0.01)
    assert result.psnr_db == pytest.approx(40.0)
    assert compare(expected, expected, "float32").psnr_db == PSNR_CAP_DB
    assert compare(np.zeros(3), np.zeros(3), "float32").max_relative == 0


def test_without_onnxruntime_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingDependency, match=r"sd2rt\[export,cpu\]"):
        run_onnx(tmp_path / "model.onnx", {})
