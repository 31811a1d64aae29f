"""Checkpoints in diffusers' layout: a folder with model_index.json and one folder per component."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sd2rt.engine.errors import ExportError
from sd2rt.export.checkpoint import SCHEDULERS, Checkpoint
from sd2rt.export.depth_estimator import UNREAD, image_processor
from sd2rt.export.layout import ALWAYS, PICKLE_ADVICE, PICKLES, WEIGHT_STEMS, has_weights
from sd2rt.export.modules import CLASSES

# UNet options that ask for inputs beside latents, timestep, text and class labels.
EXTRA_INPUTS = ("addition_embed_type", "class_embed_type", "encoder_hid_dim", "encoder_hid_dim_type", "time_cond_proj_dim")


def open_folder(folder: Path, source: str | None = None, name: str | None = None) -> Checkpoint:
    """Read the configs of a diffusers folder. Raises ExportError where one is missing, broken, or not of SD2's architecture."""
    model_index = read_config(folder / "model_index.json")
    names = [name for name in SCHEDULERS if name in model_index]
    schedulers = {name: read_config(folder / name / "scheduler_config.json") for name in names}
    if "scheduler" not in schedulers:
        raise ExportError(f"{folder / 'model_index.json'} names no scheduler; expected a Stable Diffusion pipeline")
    has_depth = any(model_index.get("depth_estimator") or ())
    configs = {key: read_config(folder / key / "config.json") for key in CLASSES if key in ALWAYS or has_depth}
    for key, config in configs.items():
        _check_architecture(folder, key, config)
        weights_variant(folder / key, WEIGHT_STEMS[key])
    _check_inputs(folder, model_index, configs["unet"])

    return Checkpoint(
        source=source or str(folder),
        name=name or folder.resolve().name,
        model_index=model_index,
        configs=configs,
        schedulers=schedulers,
        tokenizer=folder / "tokenizer",
        load=lambda component: _load(folder, component),
        image_processor=_image_processor(folder, configs["depth_estimator"]) if has_depth else None,
    )


def read_config(file: Path) -> Mapping[str, Any]:
    """Read a JSON object. Raises ExportError where there is none."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"cannot read {file}: {error}; expected a folder in diffusers' layout") from error
    if not isinstance(config, dict):
        raise ExportError(f"{file} holds no JSON object; expected a folder in diffusers' layout")
    return config


def weights_variant(folder: Path, stem: str) -> str | None:
    """Return None where full-precision safetensors are in `folder`, "fp16" where only half-precision ones are.

    Raises ExportError where there are only pickles, or nothing.
    """
    if has_weights(folder, stem):
        return None
    if has_weights(folder, stem, ".fp16"):
        return "fp16"
    pickles = sorted(file.name for file in folder.glob("*") if file.suffix in PICKLES)
    if pickles:
        raise ExportError(f"{folder / pickles[0]} is a pickle: {PICKLE_ADVICE}")
    raise ExportError(f"no {stem}.safetensors in {folder}")


def _check_architecture(folder: Path, component: str, config: Mapping[str, Any]) -> None:
    got = config.get("_class_name") or (config.get("architectures") or [CLASSES[component].__name__])[0]
    if got != CLASSES[component].__name__:
        raise ExportError(f"{folder / component}: got a {got}, expected a {CLASSES[component].__name__}")


def _image_processor(folder: Path, depth_estimator: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read what prepares pictures for the depth estimator. Raises ExportError where it is missing, or the estimator is no DPT-hybrid."""
    if not depth_estimator.get("is_hybrid"):
        raise ExportError(f"{folder / 'depth_estimator'}: got a DPT without a convolutional backbone, expected DPT-hybrid as in SD2")
    return image_processor(read_config(folder / "feature_extractor" / "preprocessor_config.json"), depth_estimator)


def _check_inputs(folder: Path, model_index: Mapping[str, Any], unet: Mapping[str, Any]) -> None:
    """Refuse models with inputs that SD2's UNet has not: SDXL's second text encoder and sizes, unCLIP's image embeddings."""
    if any(model_index.get("text_encoder_2") or ()):
        raise ExportError(f"{folder}: got a {model_index.get('_class_name')} with two text encoders (SDXL), expected one as in SD2")
    for option in EXTRA_INPUTS:
        if unet.get(option) is not None:
            raise ExportError(
                f"{folder / 'unet'}: {option} is {unet[option]!r}, expected null; UNets with more inputs than SD2's "
                "(SDXL, unCLIP, full LCM) are not exported"
            )


def _load(folder: Path, component: str) -> Any:
    return load_pretrained(folder / component, CLASSES[component], WEIGHT_STEMS[component])


def load_pretrained(folder: Path, model_class: Any, stem: str) -> Any:
    """Load a module of diffusers' or transformers' in float32 and evaluation mode. Raises ExportError where weights are missing."""
    variant = weights_variant(folder, stem)
    try:
        module, report = model_class.from_pretrained(
            folder,
            variant=variant,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            torch_dtype=torch.float32,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ExportError(f"cannot load {folder}: {str(error).splitlines()[0]}") from error
    missing = sorted(key for key in report["missing_keys"] if "position_ids" not in key and not key.startswith(UNREAD))
    if missing:
        raise ExportError(f"{folder}: {len(missing)} weights are missing, the first is {missing[0]}")
    return module.eval().requires_grad_(False)
