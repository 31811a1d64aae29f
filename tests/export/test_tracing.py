import logging

import pytest
import torch

from sd2rt.engine.errors import ExportError
from sd2rt.export.components import Component, TensorInfo
from sd2rt.export.tracing import trace

pytestmark = pytest.mark.torch


class Branching(torch.nn.Module):
    """Takes another path for positive sums, which no graph can."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layer(sample) if sample.sum() > 0 else sample
        return result


def component(module: torch.nn.Module) -> Component:
    tensors = (TensorInfo(name="sample", shape=("batch", "height", 4)),)
    return Component(
        name="branching", module=module.eval(), config={}, inputs=tensors, outputs=(TensorInfo(name="out", shape=("batch", "height", 4)),)
    )


def test_what_torch_cannot_trace_is_one_clear_line() -> None:
    with pytest.raises(ExportError, match=r"branching: torch could not trace the module: .+") as caught:
        trace(component(Branching()))
    assert "\n" not in str(caught.value)


def test_tracing_leaves_loggers_as_they_were() -> None:
    level = logging.getLogger("torch.onnx").level
    model = trace(component(torch.nn.Linear(4, 4)))
    assert model.opset_imports[""] == 23
    assert logging.getLogger("torch.onnx").level == level
