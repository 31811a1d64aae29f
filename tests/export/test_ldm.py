"""The name tables against an independent converter: diffusers' own, which goes the other way."""

import pytest
import torch
from diffusers.loaders import single_file_utils as oracle

from sd2rt.export import ldm
from tests.tiny import TinyVariant, tiny_pipeline

pytestmark = pytest.mark.torch

SHAPES = {
    "two blocks": TinyVariant(widths=(32, 64), heads=(2, 4)),
    "four blocks, two layers": TinyVariant(widths=(16, 32, 32, 32), heads=(1, 2, 2, 2), layers=2, vae_widths=(8, 8, 16)),
    "class labels": TinyVariant(widths=(32, 64), heads=(2, 4), classes=10, layers=3),
    "no attention in the first block": TinyVariant(widths=(32, 32, 64), heads=(4, 4, 4), only_cross_attention=(True, True, False)),
}


def original_layout(pipe: object, text_prefix: str = "cond_stage_model.model.") -> dict[str, torch.Tensor]:
    """Rename a pipeline's weights to Stability's keys: VAE attention as 1 x 1 kernels, OpenCLIP's q, k and v stacked."""
    found: dict[str, torch.Tensor] = {}
    layers, blocks = pipe.unet.config.layers_per_block, len(pipe.vae.config.block_out_channels)  # type: ignore[attr-defined]
    unet = pipe.unet.state_dict()  # type: ignore[attr-defined]
    for name, tensor in unet.items():
        attended = f"{name.split('.upsamplers')[0]}.attentions.0.norm.weight" in unet
        keys = ldm.unet_keys(name, layers)
        found["model.diffusion_model." + keys[-1 if attended else 0]] = tensor
    for name, tensor in pipe.vae.state_dict().items():  # type: ignore[attr-defined]
        kernel = "attentions" in name and tensor.ndim == 2
        found["first_stage_model." + ldm.vae_key(name, blocks)] = tensor[:, :, None, None] if kernel else tensor
    stacked: dict[str, dict[int, torch.Tensor]] = {}
    for name, tensor in pipe.text_encoder.state_dict().items():  # type: ignore[attr-defined]
        key, third = ldm.clip_key(name)
        if third is None:
            found[text_prefix + key] = tensor
        else:
            stacked.setdefault(text_prefix + key, {})[third] = tensor
    return found | {key: torch.cat([parts[i] for i in range(3)]) for key, parts in stacked.items()}


def assert_same(converted: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert converted.keys() == expected.keys()
    assert all(torch.equal(converted[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_diffusers_finds_every_weight_where_we_put_it(shape: TinyVariant) -> None:
    pipe = tiny_pipeline(shape)
    original = original_layout(pipe)
    assert_same(oracle.convert_ldm_unet_checkpoint(original, pipe.unet.config), pipe.unet.state_dict())
    assert_same(oracle.convert_ldm_vae_checkpoint(original, pipe.vae.config), pipe.vae.state_dict())
    text = oracle.convert_open_clip_checkpoint(pipe.text_encoder, original)
    assert_same({name.removeprefix("text_model."): tensor for name, tensor in text.items()}, pipe.text_encoder.state_dict())


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight", "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"),
        ("down_blocks.2.downsamplers.0.conv.bias", "input_blocks.9.0.op.bias"),
        ("mid_block.attentions.0.proj_in.weight", "middle_block.1.proj_in.weight"),
        ("mid_block.resnets.1.conv2.weight", "middle_block.2.out_layers.3.weight"),
        ("up_blocks.3.resnets.2.conv_shortcut.weight", "output_blocks.11.0.skip_connection.weight"),
    ],
)
def test_keys_of_the_published_unets(name: str, key: str) -> None:
    assert ldm.unet_keys(name, 2) == (key,)


@pytest.mark.parametrize("name", ["add_embedding.linear_1.weight", "encoder_hid_proj.weight"])
def test_parameters_that_stability_has_not_have_no_key(name: str) -> None:
    assert ldm.unet_keys(name, 2) == ()


def test_names_with_and_without_the_clip_prefix_are_one() -> None:
    name = "encoder.layers.3.self_attn.k_proj.bias"
    assert ldm.clip_key(name) == ldm.clip_key(f"text_model.{name}") == ("transformer.resblocks.3.attn.in_proj_bias", 1)
