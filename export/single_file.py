"""Checkpoints as one `.safetensors` file in Stability's original layout, with configs that ship with us."""

import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from sd2rt.engine.errors import ExportError
from sd2rt.export import ldm
from sd2rt.export.checkpoint import SCHEDULERS, Checkpoint
from sd2rt.export.clip import shared_tokenizer
from sd2rt.export.modules import empty_module
from sd2rt.export.options import PRESETS
from sd2rt.export.presets import read_preset

CROSS_ATTENTION_KEY = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
UPSCALER_ATTENTION_KEY = CROSS_ATTENTION_KEY.replace("blocks.1.1", "blocks.4.1")  # its first block has no attention
CONV_IN_KEY = "model.diffusion_model.input_blocks.0.0.weight"
SD2_CONTEXT, TEXT_TO_IMAGE_CHANNELS = 1024, 4
PRESETS_BY_CHANNELS = {7: "x4-upscaler", 9: "sd2-inpainting"}  # UNet inputs that one published SD2 model alone has
# Stability's own file names, which users keep: 512-base-ema, 768-v-ema, v2-1_512-ema-pruned, v2-1_768-nonema-pruned, sd_turbo.
FILE_NAMES = (
    (r"^512-base-ema", "sd2-base"),
    (r"^768-v-ema", "sd2"),
    (r"^v2-1_512-", "sd21-base"),
    (r"^v2-1_768-", "sd21"),
    (r"^sd_turbo", "sd-turbo"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a safetensors file says without reading weights: shapes by key, and its free-form metadata."""

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]


def open_single_file(file: Path, preset: str | None) -> Checkpoint:
    """Read the header and choose the configs: those of `preset`, or what the file tells.

    Raises ExportError where the file is no SD2 checkpoint of this layout, or where it does not tell its prediction type and size
    and no preset was given.
    """
    header = read_header(file)
    name = preset or detect_preset(header, file.name)
    return from_configs(file, read_preset(name), name)


def from_configs(file: Path, configs: Mapping[str, Any], preset: str) -> Checkpoint:
    """Return the checkpoint in `file` with these configs (as a preset holds them)."""
    return Checkpoint(
        source=f"{file} with the configs of preset {preset}",
        name=file.stem,
        model_index=configs["model_index"],
        configs={name: configs[name] for name in ldm.PREFIXES},
        schedulers={name: configs[name] for name in SCHEDULERS if name in configs},
        tokenizer=shared_tokenizer(),
        load=lambda component: load_component(file, component, configs[component]),
    )


def read_header(file: Path) -> Header:
    """Raises ExportError where `file` is no safetensors file."""
    try:
        with safe_open(file, framework="pt") as tensors:
            shapes = {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118  no mapping
            return Header(shapes=shapes, metadata=tensors.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise ExportError(f"cannot read {file}: {error}") from error


def detect_preset(header: Header, file_name: str) -> str:
    """Tell the preset from shapes, Stability's metadata (modelspec), marker tensors, or the published files' names.

    Prediction type and native size leave no trace in the shapes, so where nothing names them this raises ExportError.
    """
    context = header.shapes.get(CROSS_ATTENTION_KEY, header.shapes.get(UPSCALER_ATTENTION_KEY))
    if context is None or CONV_IN_KEY not in header.shapes:
        raise ExportError(f"{file_name} is not in Stability's original layout: it has no {CROSS_ATTENTION_KEY}")
    channels = header.shapes[CONV_IN_KEY][1]
    if context[-1] != SD2_CONTEXT or channels not in (TEXT_TO_IMAGE_CHANNELS, *PRESETS_BY_CHANNELS):
        raise ExportError(
            f"{file_name}: text width {context[-1]} and {channels} UNet channels; single files are read for SD2 text-to-image, inpainting "
            f"and upscaling models ({SD2_CONTEXT}; 4, 9 and 7); export from a diffusers folder instead"
        )
    if channels in PRESETS_BY_CHANNELS:
        return PRESETS_BY_CHANNELS[channels]
    architecture = header.metadata.get("modelspec.architecture", "")
    prediction = header.metadata.get("modelspec.prediction_type", "")
    by_name = next((preset for pattern, preset in FILE_NAMES if re.search(pattern, file_name)), None)
    if prediction == "v" or "768-v" in architecture or "v_pred" in header.shapes:
        return "sd21"
    if by_name == "sd-turbo":  # whose metadata says epsilon too
        return by_name
    if prediction == "epsilon" or architecture.startswith("stable-diffusion-v2-512"):
        return "sd21-base"
    if by_name is not None:
        return by_name
    raise ExportError(f"{file_name} does not tell its prediction type and size: name a preset (--preset), one of {', '.join(PRESETS)}")


def load_component(file: Path, component: str, config: Mapping[str, Any]) -> Any:
    """Build a component and fill it from the file, one tensor after the other. Raises ExportError for missing or misshapen weights."""
    module = empty_module(component, config)
    with ExitStack() as stack, torch.no_grad():
        tensors = stack.enter_context(safe_open(file, framework="pt"))
        keys = set(tensors.keys())
        for name, parameter in module.named_parameters():
            candidates, third = _keys(component, name, config)
            key = next((key for key in candidates if key in keys), None)
            if key is None:
                raise ExportError(f"{file}: the weight for {component} {name} is missing; is the preset right?")
            tensor = tensors.get_tensor(key)
            if third is not None:
                tensor = tensor.chunk(3)[third]
            if tensor.numel() != parameter.numel() or tensor.shape[0] != parameter.shape[0]:
                raise ExportError(f"{file}: {key} has shape {tuple(tensor.shape)}, expected {tuple(parameter.shape)}; is the preset right?")
            parameter.copy_(tensor.reshape(parameter.shape))  # 1 x 1 kernels of the original are matrices in diffusers
    return module


def _keys(component: str, name: str, config: Mapping[str, Any]) -> tuple[tuple[str, ...], int | None]:
    """Return the keys a parameter may have in the file, and which third of the stored tensor it is (None: all of it)."""
    third = None
    if component == "unet":
        keys = ldm.unet_keys(name, config["layers_per_block"])
    elif component == "vae":
        keys = (ldm.vae_key(name, len(config["block_out_channels"])),)
    else:
        key, third = ldm.clip_key(name)
        keys = (key,)
    return tuple(prefix + key for prefix in ldm.PREFIXES[component] for key in keys), third
