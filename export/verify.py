"""Each written component against torch in float32, on random inputs, at a size other than the one it was traced at."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sd2rt.engine.errors import ExportError, MissingDependency
from sd2rt.export.components import Component

BATCH, HEIGHT, WIDTH, SEQUENCE, SEED = 3, 16, 24, 154, 1  # latent pixels; two prompt chunks
MAX_RELATIVE = 1e-4  # float32: largest error over the reference's spread (largest minus smallest value)
MIN_PSNR_DB = 35.0  # float16: against the reference's spread
PSNR_CAP_DB = 200.0  # equal outputs, since JSON has no infinity

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How far a component is from its reference; `gate` is what it had to reach."""

    reference: str
    inputs: str
    max_abs: float
    max_relative: float
    psnr_db: float
    gate: str

    def as_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Random inputs (float32, int64) and torch's float32 outputs, both by tensor name."""

    feeds: Arrays
    outputs: Arrays


def run_reference(component: Component) -> Reference:
    """Run the component's module, whose parameters must be float32. Raises ExportError where torch itself gives NaN or infinity."""
    inputs = component.draw_inputs(component.dims(BATCH, HEIGHT, WIDTH, SEQUENCE), SEED)
    with torch.inference_mode():
        output = component.module(*inputs).numpy()
    if not np.isfinite(output).all():
        raise ExportError(f"{component.name}: torch gives NaN or infinity in float32; the checkpoint's weights are damaged")
    feeds = {spec.name: tensor.numpy() for spec, tensor in zip(component.inputs, inputs, strict=True)}
    return Reference(feeds=feeds, outputs={component.outputs[0].name: output})


def verify(component: Component, onnx_file: Path, dtype: str, reference: Reference) -> Comparison:
    """Run the written file with onnxruntime and compare. Raises ExportError, which names component, figure and gate, on a miss."""
    feeds = {spec.name: reference.feeds[spec.name].astype(spec.numpy_dtype(dtype)) for spec in component.inputs}
    outputs = run_onnx(onnx_file, feeds)
    name = component.outputs[0].name
    comparison = compare(reference.outputs[name], outputs[name], dtype, _describe(feeds))
    if not np.isfinite(outputs[name]).all():
        raise ExportError(f"{component.name}: the exported graph gives NaN or infinity in {dtype}; use --dtype fp32")
    if dtype == "float32" and comparison.max_relative > MAX_RELATIVE:
        raise ExportError(f"{component.name}: largest error {comparison.max_relative:.1e} of the spread, {comparison.gate}")
    if dtype == "float16" and comparison.psnr_db < MIN_PSNR_DB:
        raise ExportError(f"{component.name}: PSNR {comparison.psnr_db:.1f} dB in float16, {comparison.gate}; use --dtype fp32")
    return comparison


def _describe(feeds: Arrays) -> str:
    """Say how the inputs were made, with their shapes."""
    return f"random, seed {SEED}: " + ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())


def compare(expected: npt.NDArray[Any], got: npt.NDArray[Any], dtype: str, inputs: str = "") -> Comparison:
    """Measure `got` against `expected` (same shape), both relative to the spread of `expected`; `inputs` says what both were given."""
    reference = expected.astype(np.float64)
    error = np.abs(got.astype(np.float64) - reference)
    spread = max(float(np.ptp(reference)), float(np.finfo(np.float32).tiny))
    mean_square = float(np.mean(np.square(error)))
    psnr = 20 * np.log10(spread) - 10 * np.log10(mean_square) if mean_square > 0 else PSNR_CAP_DB
    return Comparison(
        reference="torch float32",
        inputs=inputs,
        max_abs=float(error.max()),
        max_relative=float(error.max()) / spread,
        psnr_db=round(min(float(psnr), PSNR_CAP_DB), 2),
        gate=f"gate max_relative <= {MAX_RELATIVE:g}" if dtype == "float32" else f"gate psnr_db >= {MIN_PSNR_DB:g}",
    )


def run_onnx(onnx_file: Path, feeds: Arrays) -> dict[str, npt.NDArray[Any]]:
    """Run a graph file once on the CPU as it is written, without fusions, and return its outputs by name."""
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "export checks its graphs with onnxruntime, which is not installed: pip install 'sd2rt[export,cpu]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(onnx_file, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))
