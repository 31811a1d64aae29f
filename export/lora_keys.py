"""The names under which LoRA files keep their tensors, given a component, a layer and a part.

    lora_unet_down_blocks_0_..._attn1_to_q.lora_down.weight, .lora_up.weight, .lora_mid.weight, .alpha    kohya-ss/sd-scripts, LyCORIS
    unet.down_blocks.0....attn1.to_q.lora_A.weight, lora_B                                                diffusers with PEFT
    unet.down_blocks.0....attn1.to_q.lora.down.weight, lora_linear_layer.down.weight                      diffusers from 0.18
    down_blocks.0....attn1.processor.to_q_lora.down.weight                                                diffusers from 0.14

Names without a component are the UNet's. Knows no file and no torch.
"""

import re
from dataclasses import dataclass

COMPONENTS = {"unet": "unet", "te": "text_encoder"}  # by kohya's names
PARTS = {"lora_A": "down", "lora_B": "up"}
TEXT_PROJECTIONS = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out.0": "out_proj"}

KOHYA = re.compile(r"lora_(unet|te)_([^.]+)\.(?:lora_(down|up|mid)\.weight|(alpha))")
DIFFUSERS = re.compile(r"(?:(unet|text_encoder)\.)?(.+?)\.(?:(?:(lora_A|lora_B)|lora(?:_linear_layer)?\.(down|up))\.weight|(alpha))")
PROCESSOR = re.compile(r"(?:(unet|text_encoder)\.)?(.+?)(?:\.processor)?\.(to_(?:q|k|v|out))_lora\.(down|up)\.weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraKey:
    """What a tensor is: `part` "down" [rank, in, ...], "up" [out, rank, ...], "mid" or "alpha" of a layer, named as `flat_name` does."""

    component: str
    layer: str
    part: str


def flat_name(component: str, layer: str) -> str:
    """Return a layer's dotted name as kohya flattens it; the text encoder's without "text_model", which some files have."""
    name = layer.replace(".", "_")
    return name.removeprefix("text_model_") if component == "text_encoder" else name


def parse_key(key: str) -> LoraKey | None:
    """Return what the tensor of that name is, or None where the name follows none of the styles."""
    found = KOHYA.fullmatch(key)
    if found is not None:
        component = COMPONENTS[found.group(1)]
        return LoraKey(component=component, layer=flat_name(component, found.group(2)), part=found.group(3) or found.group(4))
    found = PROCESSOR.fullmatch(key)
    if found is not None:
        component, projection = found.group(1) or "unet", found.group(3).replace("to_out", "to_out.0")
        last = TEXT_PROJECTIONS[projection] if component == "text_encoder" else projection
        return LoraKey(component=component, layer=flat_name(component, f"{found.group(2)}.{last}"), part=found.group(4))
    found = DIFFUSERS.fullmatch(key)
    if found is not None:
        component, layer, peft, part, alpha = found.groups()
        return LoraKey(component=component or "unet", layer=flat_name(component or "unet", layer), part=PARTS.get(peft) or part or alpha)
    return None
