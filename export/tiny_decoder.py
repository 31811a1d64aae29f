"""The tiny decoder that a bundle may have beside its VAE: TAESD's (Bohan 2023, https://github.com/madebyollin/taesd), some
convolutions in the place of blocks with norms and attention.

Read from a folder in diffusers' layout, an AutoencoderTiny, or from the original's taesd_decoder.safetensors. Its graph takes the
sampler's latents as they are, of unit variance: TAESD learned from those, and a config that names another scaling factor has it
divided out inside.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from sd2rt.engine.errors import ExportError
from sd2rt.export.components import Component, TensorInfo, latent_factor, model_config
from sd2rt.export.folder import load_pretrained, read_config
from sd2rt.export.layout import PICKLE_ADVICE, PICKLES

CLAMP_LAYERS = 1  # of the original's sequence, before its first convolution; diffusers has none there
FIRST = "1.weight"


def open_tiny_decoder(path: Path) -> Component:
    """Read a tiny decoder from a folder or a file. Raises ExportError where it is neither, or something else."""
    if path.suffix in PICKLES and not path.is_dir():
        raise ExportError(f"{path} is a pickle: {PICKLE_ADVICE}")
    return tiny_vae_decoder(_from_folder(path) if path.is_dir() else _from_file(path))


def tiny_vae_decoder(model: Any) -> Component:
    """latent_sample [batch, 4, height, width], the sampler's as they are -> sample [batch, 3, H, W] in [-1, 1]."""
    config = model.config
    factor: int = config.upsampling_scaling_factor ** (len(config.num_decoder_blocks) - 1)
    return Component(
        name="tiny_vae_decoder",
        module=_TinyDecoder(model).eval(),
        config=model_config(model),
        inputs=(TensorInfo(name="latent_sample", shape=("batch", config.latent_channels, "height", "width")),),
        outputs=(TensorInfo(name="sample", shape=("batch", config.out_channels, "image_height", "image_width")),),
        factor=factor,
    )


def require_same_latents(tiny: Component, vae: Mapping[str, Any]) -> None:
    """Raise ExportError where the tiny decoder is for latents of other channels or another size than the VAE's, by its config."""
    kinds = [(tiny.inputs[0].shape[1], tiny.factor), (vae.get("latent_channels", 4), latent_factor(vae))]
    if kinds[0] != kinds[1]:
        got, expected = (f"{channels} latent channels and {factor} pixels per latent" for channels, factor in kinds)
        raise ExportError(f"tiny_vae_decoder: is for {got}, but the model's VAE has {expected}; name the one that was made for it")


def _from_folder(folder: Path) -> Any:
    """Load the module of a diffusers folder in float32."""
    got = read_config(folder / "config.json").get("_class_name")
    if got != AutoencoderTiny.__name__:
        raise ExportError(f"{folder}: got a {got}, expected an {AutoencoderTiny.__name__}")
    return load_pretrained(folder, AutoencoderTiny, "diffusion_pytorch_model")


def _from_file(file: Path) -> Any:
    """Load the original's decoder: one sequence of layers, numbered from the clamp on. Its widths are those of every published one."""
    try:
        stored = load_file(file)
    except (OSError, SafetensorError) as error:
        raise ExportError(f"cannot read {file}: {error}; expected a diffusers folder or taesd_decoder.safetensors") from error
    if FIRST not in stored or any(not key.split(".")[0].isdigit() for key in stored):
        raise ExportError(f"{file}: has no {FIRST} among layers by number; expected taesd_decoder.safetensors, or a diffusers folder")
    model = AutoencoderTiny(latent_channels=stored[FIRST].shape[1])
    renamed = {_diffusers_name(key): tensor.float() for key, tensor in stored.items()}
    try:
        model.decoder.load_state_dict(renamed)
    except RuntimeError as error:
        raise ExportError(f"{file}: does not fit TAESD's decoder: {' '.join(str(error).split())[:200]}") from error
    return model.eval().requires_grad_(False)


def _diffusers_name(key: str) -> str:
    """Return where diffusers' decoder keeps what the original numbers from its clamp on."""
    number, rest = key.split(".", 1)
    return f"layers.{int(number) - CLAMP_LAYERS}.{rest}"


class _TinyDecoder(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder = model.decoder
        self.scaling_factor = model.config.scaling_factor

    def forward(self, latent_sample: torch.Tensor) -> torch.Tensor:
        """Decode the sampler's latents [N, C, h, w], of unit variance, to pixels [N, 3, H, W] in about [-1, 1]."""
        scaled = latent_sample if self.scaling_factor == 1.0 else latent_sample / self.scaling_factor
        sample: torch.Tensor = self.decoder(scaled)
        return sample
