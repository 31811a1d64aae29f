"""Parameter names in Stability's original (latent-diffusion and OpenCLIP) checkpoints, given diffusers' names.

Facts from the module trees of CompVis/latent-diffusion, Stability-AI/stablediffusion and Stability-AI/generative-models
(openaimodel.py, model.py, FrozenOpenCLIPEmbedder). The modules there differ from diffusers' only in name, but for the VAE's
attention, whose matrices are 1 x 1 kernels, and OpenCLIP's, which keeps q, k and v in one matrix.
"""

import re
from collections.abc import Mapping

# A component's prefixes, of which a file has one: Stability-AI/stablediffusion's, then Stability-AI/generative-models' (SD-Turbo).
PREFIXES = {
    "unet": ("model.diffusion_model.",),
    "vae": ("first_stage_model.",),
    "text_encoder": ("cond_stage_model.model.", "conditioner.embedders.0.model."),
}

UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "class_embedding": "label_emb",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_PARTS = {
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    "mid_block.attentions.0.group_norm": "mid.attn_1.norm",
    "mid_block.attentions.0.to_q": "mid.attn_1.q",
    "mid_block.attentions.0.to_k": "mid.attn_1.k",
    "mid_block.attentions.0.to_v": "mid.attn_1.v",
    "mid_block.attentions.0.to_out.0": "mid.attn_1.proj_out",
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "resnets": "block",
    "downsamplers.0": "downsample",
    "upsamplers.0": "upsample",
}
CLIP_PARTS = {
    "embeddings.token_embedding": "token_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final",
    "encoder.layers": "transformer.resblocks",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn": "attn",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
CLIP_QKV = re.compile(r"\.([qkv])_proj\.(weight|bias)$")


def unet_keys(name: str, layers: int) -> tuple[str, ...]:
    """Return the keys under which a UNet parameter may be stored, of which a file has one; `layers` is layers_per_block.

    Blocks are numbered through: conv_in is input block 0; each down block has `layers` resnets and a downsampler, each up block
    `layers` + 1 resnets, with the upsampler as the last one's second or (after an attention) third module.
    """
    module, kind = name.rsplit(".", 1)
    if module in UNET_ENDS:
        return (f"{UNET_ENDS[module]}.{kind}",)
    found = re.fullmatch(r"(?:(down|up)_blocks\.(\d+)|mid_block)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", module)
    if found is None:
        return ()
    side, block, part, index, inner = found.group(1), int(found.group(2) or 0), found.group(3), int(found.group(4)), found.group(5)
    inner = f"{UNET_RESNET.get(inner, inner) if part == 'resnets' else inner}.{kind}"
    module_number = 1 if part == "attentions" else 0
    if side is None:
        return (f"middle_block.{2 * index + module_number}.{inner}",)
    first = block * (layers + 1)
    if part == "downsamplers":
        return (f"input_blocks.{first + layers + 1}.0.op.{kind}",)
    if part == "upsamplers":
        return tuple(f"output_blocks.{first + layers}.{place}.{inner}" for place in (1, 2))
    number, blocks = (first + index + 1, "input_blocks") if side == "down" else (first + index, "output_blocks")
    return (f"{blocks}.{number}.{module_number}.{inner}",)


def vae_key(name: str, blocks: int) -> str:
    """Return a VAE parameter's key; `blocks` is the number of blocks, which the original decoder counts from the last."""
    name = re.sub(r"decoder\.up_blocks\.(\d+)\.", lambda found: f"decoder.up.{blocks - 1 - int(found.group(1))}.", name)
    return _replace(name.replace("encoder.down_blocks.", "encoder.down."), VAE_PARTS)


def clip_key(name: str) -> tuple[str, int | None]:
    """Return a text encoder parameter's key and, for q, k and v, which third of the stored rows it is (0, 1, 2)."""
    key = _replace(name.removeprefix("text_model."), CLIP_PARTS)
    found = CLIP_QKV.search(key)
    if found is None:
        return key, None
    return f"{key[: found.start()]}.in_proj_{found.group(2)}", "qkv".index(found.group(1))


def _replace(name: str, parts: Mapping[str, str]) -> str:
    """Replace whole dotted parts of a name."""
    for old, new in parts.items():
        name = re.sub(rf"(^|\.){re.escape(old)}(\.|$)", rf"\g<1>{new}\g<2>", name)
    return name
