"""Attention logits beyond float16's largest number, in arithmetic that is truly float16: torch's half and ONNX's reference evaluator.

Every matrix product there is rounded to float16, so a logit above 65,504 becomes infinity and the softmax NaN; kernels that keep
float32 inside (onnxruntime's, torch's fused attention) would hide that.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor
from onnx.reference import ReferenceEvaluator

from sd2rt.export import ExportOptions, export
from sd2rt.export.verify import MIN_PSNR_DB, compare
from tests.tiny import TinyVariant, shared_folder, tiny_pipeline
from tests.traced import traced_once

pytestmark = pytest.mark.torch

HALF_MAX = 65504
GAIN = 300  # of queries and keys each
DAMPING = 0.05  # of what self-attention adds: such logits make its softmax a hard choice, which rounding tips now and then


def steep_pipeline() -> Any:
    """Make a small pipeline with `upcast_attention` whose UNet's self-attention has logits beyond float16."""
    pipe = tiny_pipeline(TinyVariant(upcast=True, widths=(32, 32), heads=(1, 1), mid_block=False))
    with torch.no_grad():
        for name, weight in pipe.unet.named_parameters():
            if name.endswith(("attn1.to_q.weight", "attn1.to_k.weight")):
                weight.mul_(GAIN)
            elif name.endswith("attn1.to_out.0.weight"):
                weight.mul_(DAMPING)
    return pipe


def draw_inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw sample [2, 4, 8, 6], timesteps and text states [2, 77, 32] that float16 holds exactly, in float32."""
    generator = torch.Generator().manual_seed(0)
    sample, states = torch.randn((2, 4, 8, 6), generator=generator), torch.randn((2, 77, 32), generator=generator)
    return sample.half().float(), torch.tensor([10.0, 900.0]), states.half().float()


def run_torch(unet: Any, precision: torch.dtype) -> npt.NDArray[Any]:
    """Run the UNet with attention as plain matrix products, which is where diffusers heeds `upcast_attention`."""
    unet.to(precision).set_attn_processor(AttnProcessor())
    sample, timestep, states = draw_inputs()
    with torch.inference_mode():
        output = unet(sample.to(precision), timestep, states.to(precision)).sample
    return np.asarray(output.float().numpy())


def run_reference(graph: onnx.ModelProto) -> npt.NDArray[Any]:
    """Run a float16 UNet with the ONNX reference evaluator: numpy, every operator in its inputs' own type."""
    sample, timestep, states = (tensor.numpy() for tensor in draw_inputs())
    feeds = {"sample": sample.astype(np.float16), "timestep": timestep, "encoder_hidden_states": states.astype(np.float16)}
    with np.errstate(over="ignore", invalid="ignore"):
        output = ReferenceEvaluator(graph).run(["out_sample"], feeds)[0]
    assert output.dtype == np.float16
    return np.asarray(output)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the pipeline in float16; return its UNet's graph."""
    folder = tmp_path_factory.mktemp("steep")
    steep_pipeline().save_pretrained(folder / "checkpoint")
    with traced_once(shared_folder()):
        return export(folder / "checkpoint", folder / "bundle", ExportOptions(dtype="fp16")) / "unet" / "model.onnx"


@pytest.fixture(scope="module")
def expected() -> npt.NDArray[Any]:
    """Give what torch computes in float32."""
    return run_torch(steep_pipeline().unet, torch.float32)


def without_casts_around_attention(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Let every Attention read what the casts before it read, and give its result past the cast behind it."""
    sources = {node.output[0]: node.input[0] for node in graph.graph.node if node.op_type == "Cast"}
    attentions = [node for node in graph.graph.node if node.op_type == "Attention"]
    for node in attentions:
        node.input[:3] = [sources[name] for name in node.input[:3]]
        (back,) = [user for user in graph.graph.node if node.output[0] in user.input]
        assert back.op_type == "Cast"
        node.output[0] = back.output[0]
        graph.graph.node.remove(back)
    assert attentions
    return graph


def test_the_logits_exceed_half_precision() -> None:
    """In float32, so that what the other tests show is overflow and nothing else."""
    unet, largest = steep_pipeline().unet, []

    class Measure(AttnProcessor):
        def __call__(self, attn: Any, hidden_states: torch.Tensor, *arguments: Any, **named: Any) -> Any:
            if not attn.is_cross_attention:
                query, key = attn.to_q(hidden_states), attn.to_k(hidden_states)  # [B, S, D], one head
                assert max(query.abs().max().item(), key.abs().max().item()) < HALF_MAX
                largest.append((attn.scale * query @ key.transpose(1, 2)).abs().max().item())
            return super().__call__(attn, hidden_states, *arguments, **named)

    unet.set_attn_processor(Measure())
    with torch.inference_mode():
        unet(*draw_inputs())
    assert len(largest) == 3
    assert min(largest) > HALF_MAX


@pytest.mark.parametrize("upcast", [True, False])
def test_torch_in_half_precision_needs_the_upcast(upcast: bool, expected: npt.NDArray[Any]) -> None:
    unet = steep_pipeline().unet
    for module in unet.modules():
        if hasattr(module, "upcast_attention"):
            module.upcast_attention = upcast
    got = run_torch(unet, torch.float16)
    assert np.isfinite(got).all() == upcast
    if upcast:
        assert compare(expected, got, "float16").psnr_db > MIN_PSNR_DB


def test_the_export_is_finite_and_right_in_half_precision(exported: Path, expected: npt.NDArray[Any]) -> None:
    got = run_reference(onnx.load(exported))
    assert np.isfinite(got).all()
    assert compare(expected, got, "float16").psnr_db > MIN_PSNR_DB


def test_the_export_without_its_upcast_is_not(exported: Path) -> None:
    assert not np.isfinite(run_reference(without_casts_around_attention(onnx.load(exported)))).all()
