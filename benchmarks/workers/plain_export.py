"""The contender's graph: a UNet as torch exports it to ONNX, with nothing done to it.

`python -m benchmarks.workers.plain_export FOLDER OPSET OUT.onnx`, FOLDER being a UNet in diffusers' layout.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import diffusers
import torch


class PlainUNet(torch.nn.Module):
    """The UNet with tensors in and one tensor out, as ONNX needs it."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.unet = diffusers.UNet2DConditionModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor) -> torch.Tensor:
        """Return the UNet's prediction."""
        predicted: torch.Tensor = self.unet(sample, timestep, encoder_hidden_states, return_dict=False)[0]
        return predicted


def export(folder: str, opset: int, out: Path) -> None:
    """Export with free batch, height and width."""
    module = PlainUNet(folder)
    config = module.unet.config
    free = torch.export.Dim.DYNAMIC
    inputs = (torch.randn(2, config.in_channels, 16, 24), torch.full((2,), 500.0), torch.randn(2, 77, config.cross_attention_dim))
    torch.onnx.export(
        module,
        inputs,
        out,
        input_names=["sample", "timestep", "encoder_hidden_states"],
        output_names=["out_sample"],
        dynamic_shapes=({0: free, 2: free, 3: free}, {0: free}, {0: free}),
        opset_version=opset,
        dynamo=True,
        external_data=True,
        verbose=False,
    )


if __name__ == "__main__":
    with torch.no_grad():
        export(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
    print(json.dumps({"model": sys.argv[3]}))
