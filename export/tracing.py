"""From a torch module to an ONNX graph whose initializers still carry the parameters' names.

The result is torch's raw translation at opset 23, with dynamic batch, height and width; `canonical` makes it fit to keep.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator

import onnx_ir as ir
import torch

from sd2rt.engine.errors import ExportError
from sd2rt.export.components import Component

OPSET = 23


def trace(component: Component) -> ir.Model:
    """Trace the component's module in the precision its parameters have.

    The example's latent size is odd on purpose: diffusers' UNet then upsamples to the size of its skip connections instead of by
    two, and the graph takes every latent size, not only multiples of eight. Raises ExportError where torch cannot trace it.
    """
    dims = component.dims(batch=2, height=9, width=15)
    precision = next(component.module.parameters()).dtype
    example = tuple(
        tensor.to(precision) if spec.dtype == "float" else tensor
        for spec, tensor in zip(component.inputs, component.draw_inputs(dims, seed=0), strict=True)
    )
    dynamic = torch.export.Dim.DYNAMIC
    axes = tuple({i: dynamic for i, axis in enumerate(spec.shape) if isinstance(axis, str)} for spec in component.inputs)
    try:
        with _quiet(), torch.no_grad():
            program = torch.export.export(component.module, example, dynamic_shapes=axes, strict=False)
            onnx_program = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=[spec.name for spec in component.inputs],
                output_names=[spec.name for spec in component.outputs],
                optimize=False,
                verbose=False,
            )
    except RuntimeError as error:  # what both exporters' errors derive from
        raise ExportError(f"{component.name}: torch could not trace the module: {str(error).strip().splitlines()[0]}") from error
    assert onnx_program is not None  # dynamo=True always returns one
    return onnx_program.model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's notes for its own developers off the user's terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch.utils._sympy", "torch.onnx._internal.exporter")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
