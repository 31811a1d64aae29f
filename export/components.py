"""The parts of a pipeline as modules with named tensors: what is traced, with which inputs, under which names.

Names are optimum's, so that a bundle loads there too. `height` and `width` are always latent pixels, `image_height` and
`image_width` those of the picture. Knows neither ONNX nor files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from torch import nn
from transformers import CLIPTextModel

CLIP_PREFIX = "text_model."  # of every published text encoder's parameters, though transformers 5 dropped it from the module
Dims = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """One graph input or output. `dtype` is "float" (the component's precision), "float32" or "int64".

    Random inputs are normal for "float", uniform in [0, high) otherwise.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str = "float"
    high: int = 1000

    def draw(self, dims: Dims, generator: torch.Generator) -> torch.Tensor:
        """Draw a random fp32 (or int64) tensor of this kind with the free axes as in `dims`."""
        shape = [dims[axis] if isinstance(axis, str) else axis for axis in self.shape]
        if self.dtype == "int64":
            return torch.randint(self.high, shape, generator=generator)
        if self.dtype == "float32":
            return torch.rand(shape, generator=generator) * (self.high - 1)
        return torch.randn(shape, generator=generator)

    def numpy_dtype(self, precision: str) -> str:
        """Return numpy's name of the dtype where the component runs in `precision` ("float16" or "float32")."""
        return precision if self.dtype == "float" else self.dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A module ready to be traced: positional inputs in order, outputs likewise; `config` is written beside the graph.

    `prefixes` rewrites the start of parameter names: the first pair whose left side matches is replaced by its right side.
    """

    name: str
    module: nn.Module
    config: Mapping[str, Any]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    factor: int = 1  # image pixels per latent pixel, for components that have both
    prefixes: tuple[tuple[str, str], ...] = ()
    upcast_attention: bool = False

    def dims(self, batch: int, height: int, width: int, sequence: int = 77) -> Dims:
        """Return sizes for the free axes; `height` and `width` in latent pixels."""
        image = {"image_height": height * self.factor, "image_width": width * self.factor}
        return {"batch": batch, "height": height, "width": width, "sequence": sequence, **image}

    def draw_inputs(self, dims: Dims, seed: int) -> tuple[torch.Tensor, ...]:
        """Draw the random inputs of one run, the same for the same seed."""
        generator = torch.Generator().manual_seed(seed)
        return tuple(spec.draw(dims, generator) for spec in self.inputs)


def text_encoder(model: Any) -> Component:
    """input_ids int64 [batch, 77] -> last_hidden_state [batch, 77, C], after the final layer norm."""
    config = model.config
    tokens = config.max_position_embeddings
    return Component(
        name="text_encoder",
        module=_TextEncoder(model).eval(),
        config={**config.to_diff_dict(), "architectures": [CLIPTextModel.__name__]},
        inputs=(TensorInfo(name="input_ids", shape=("batch", tokens), dtype="int64", high=config.vocab_size),),
        outputs=(TensorInfo(name="last_hidden_state", shape=("batch", tokens, config.hidden_size)),),
        prefixes=(("model.text_model.", CLIP_PREFIX), ("model.", CLIP_PREFIX)),
    )


def unet(model: Any) -> Component:
    """sample, timestep float32 [batch], encoder_hidden_states (, class_labels int64 [batch]) -> out_sample."""
    config = model.config
    inputs = [
        TensorInfo(name="sample", shape=("batch", config.in_channels, "height", "width")),
        TensorInfo(name="timestep", shape=("batch",), dtype="float32"),
        TensorInfo(name="encoder_hidden_states", shape=("batch", "sequence", config.cross_attention_dim)),
    ]
    if config.num_class_embeds is not None:
        inputs.append(TensorInfo(name="class_labels", shape=("batch",), dtype="int64", high=config.num_class_embeds))
    return Component(
        name="unet",
        module=_UNet(model).eval(),
        config=model_config(model),
        inputs=tuple(inputs),
        outputs=(TensorInfo(name="out_sample", shape=("batch", config.out_channels, "height", "width")),),
        prefixes=(("model.", ""),),
        upcast_attention=bool(config.upcast_attention),
    )


def vae_decoder(model: Any) -> Component:
    """latent_sample [batch, 4, height, width], already divided by the scaling factor -> sample [batch, 3, H, W] in [-1, 1]."""
    config = model.config
    return Component(
        name="vae_decoder",
        module=_Decoder(model).eval(),
        config=model_config(model),
        inputs=(TensorInfo(name="latent_sample", shape=("batch", config.latent_channels, "height", "width")),),
        outputs=(TensorInfo(name="sample", shape=("batch", config.out_channels, "image_height", "image_width")),),
        factor=latent_factor(config),
    )


def vae_encoder(model: Any) -> Component:
    """sample [batch, 3, H, W] in [-1, 1] -> latent_parameters [batch, 8, height, width]: mean, then log variance (unclamped)."""
    config = model.config
    return Component(
        name="vae_encoder",
        module=_Encoder(model).eval(),
        config=model_config(model),
        inputs=(TensorInfo(name="sample", shape=("batch", config.in_channels, "image_height", "image_width")),),
        outputs=(TensorInfo(name="latent_parameters", shape=("batch", 2 * config.latent_channels, "height", "width")),),
        factor=latent_factor(config),
    )


def latent_factor(vae_config: Mapping[str, Any]) -> int:
    """Return the image pixels per latent pixel: every block of the VAE but the last halves the size."""
    factor: int = 2 ** (len(vae_config["block_out_channels"]) - 1)
    return factor


def model_config(model: Any) -> dict[str, Any]:
    """Return a diffusers model's config as its config.json has it, defaults filled in, without the local path it was loaded from."""
    values = {key: value for key, value in model.config.items() if not key.startswith("_")}
    return {"_class_name": type(model).__name__, "_diffusers_version": diffusers.__version__, **values}


class _TextEncoder(nn.Module):
    """CLIP's text tower without its pooled output, its causal mask as an attribute of attention instead of a tensor."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = getattr(model, "text_model", model)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return the hidden states [B, 77, C] of token ids [B, 77], after the last norm."""
        embeddings = self.model.embeddings
        hidden = embeddings.token_embedding(input_ids) + embeddings.position_embedding.weight  # [B, 77, C]
        hidden = self.model.encoder(inputs_embeds=hidden, attention_mask=None, is_causal=True).last_hidden_state
        normed: torch.Tensor = self.model.final_layer_norm(hidden)
        return normed


class _UNet(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        class_labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the prediction [B, C, h, w] for samples [B, C', h, w] at timesteps [B]."""
        output: torch.Tensor = self.model(sample, timestep, encoder_hidden_states, class_labels, return_dict=False)[0]
        return output


class _Decoder(nn.Module):
    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.post_quant_conv = vae.post_quant_conv
        self.decoder = vae.decoder

    def forward(self, latent_sample: torch.Tensor) -> torch.Tensor:
        """Return samples [B, 3, H, W] of latents [B, C, h, w], unscaled."""
        if self.post_quant_conv is not None:
            latent_sample = self.post_quant_conv(latent_sample)
        sample: torch.Tensor = self.decoder(latent_sample)
        return sample


class _Encoder(nn.Module):
    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.encoder = vae.encoder
        self.quant_conv = vae.quant_conv

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        """Return means and log variances of the latents, [B, 2C, h, w], for samples [B, 3, H, W]."""
        moments: torch.Tensor = self.encoder(sample)
        if self.quant_conv is not None:
            moments = self.quant_conv(moments)
        return moments
