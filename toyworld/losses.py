"""What the toyworld networks are trained to do: one loss per network, drawing its own batches on the device."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel

from sd2rt.toyworld.copying import encode
from sd2rt.toyworld.networks import UPSCALER_BETAS
from sd2rt.toyworld.training_set import Data
from sd2rt.toyworld.windows import crops_at, find_edges, masks_of

MAX_NOISE_LEVEL = 350  # the upscaler's, as in Stability's pipeline
EXACTNESS = 0.003
LATENT_NOISE = (0.05, 0.05, 0.05, 0.3)  # at most, on what the upscaler's decoder learns from: about the UNet's errors
TINY_NOISE = 0.1  # at most, on the scaled latents that the tiny decoder learns from


@dataclass(frozen=True, slots=True, kw_only=True)
class Diffusion:
    """Networks and constants of one diffusion model. alpha_bar float32 [1000]; scaling is the latents' factor."""

    unet: UNet2DConditionModel
    text: CLIPTextModel
    vae: AutoencoderKL
    alpha_bar: Tensor
    scaling: float
    text_trains: bool = False

    def v_loss(self, latents: Tensor, ids: Tensor, *, extra: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Mean squared error of the v-prediction (Salimans & Ho 2022) at random times.

        latents [B, 4, h, w]; extra [B, c, h, w] is joined to the input.
        """
        t = torch.randint(0, len(self.alpha_bar), (len(latents),), device=latents.device)
        return self.v_errors(latents, t, ids, extra=extra, labels=labels).mean()

    def v_errors(self, latents: Tensor, t: Tensor, ids: Tensor, *, extra: Tensor | None, labels: Tensor | None) -> Tensor:
        """Mean squared error of each picture's v-prediction, [B], at times t [B]."""
        alpha_bar = self.alpha_bar[t].view(-1, 1, 1, 1)
        noise = torch.randn_like(latents)
        x_t = alpha_bar.sqrt() * latents + (1 - alpha_bar).sqrt() * noise
        v = alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * latents
        with torch.set_grad_enabled(self.text_trains):
            context = self.text(ids).last_hidden_state
        sample = x_t if extra is None else torch.cat([x_t, extra], 1)
        prediction: Tensor = self.unet(sample, t, context, class_labels=labels).sample
        return (prediction - v).square().mean((1, 2, 3))

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Scaled latents drawn from the autoencoder's posterior."""
        latents: Tensor = self.vae.encode(pixels).latent_dist.sample() * self.scaling
        return latents


def alpha_bar(betas: dict[str, float], device: torch.device) -> Tensor:
    """Cumulative products of 1 - beta, float32 [1000], for SD's "scaled_linear" betas."""
    steps = torch.linspace(betas["beta_start"] ** 0.5, betas["beta_end"] ** 0.5, 1000, dtype=torch.float64) ** 2
    products: Tensor = torch.cumprod(1 - steps, 0)
    return products.float().to(device)


def vae_loss(vae: AutoencoderKL, data: Data, batch: int) -> Callable[[], Tensor]:
    """Reconstruction of pixels and of their differences (L1), a squared error, and a small KL term (Rombach et al. 2022, section 3.1)."""

    def loss() -> Tensor:
        x = data.pixels(data.draw(batch))
        posterior = vae.encode(x).latent_dist
        y: Tensor = vae.decode(posterior.sample()).sample
        divergence: Tensor = posterior.kl().mean() / x[0].numel()
        edges: Tensor = F.l1_loss(y.diff(dim=-1), x.diff(dim=-1)) + F.l1_loss(y.diff(dim=-2), x.diff(dim=-2))
        return F.l1_loss(y, x) + 0.5 * edges + 2 * F.mse_loss(y, x) + 1e-3 * divergence

    return loss


def decoder_loss(vae: AutoencoderKL, data: Data, batch: int, crop: int) -> Callable[[], Tensor]:
    """Reconstruction alone, as the upscaler's encoder is set: from latents with a little noise, for crops where there is an edge."""
    edges = find_edges(data.images)

    def loss() -> Tensor:
        index = data.draw(batch)
        x = crops_at(data.pixels(index), edges[index], crop)
        latents = encode(x)
        noise = torch.rand(batch, 1, 1, 1, device=x.device) * torch.tensor(LATENT_NOISE, device=x.device).view(1, 4, 1, 1)
        y: Tensor = vae.decode(latents + noise * torch.randn_like(latents)).sample
        differences: Tensor = F.l1_loss(y.diff(dim=-1), x.diff(dim=-1)) + F.l1_loss(y.diff(dim=-2), x.diff(dim=-2))
        return 20 * F.mse_loss(y, x) + F.l1_loss(y, x) + 0.5 * differences

    return loss


def tiny_decoder_loss(tiny: AutoencoderTiny, vae: AutoencoderKL, data: Data, batch: int) -> Callable[[], Tensor]:
    """Decode as the autoencoder does (TAESD), from scaled latents of pictures with a little noise, as a sampler leaves them."""

    def loss() -> Tensor:
        latents = data.latents(data.draw(batch)) * vae.config.scaling_factor
        latents = latents + TINY_NOISE * torch.rand(batch, 1, 1, 1, device=latents.device) * torch.randn_like(latents)
        with torch.no_grad():
            x = vae.decode(latents / vae.config.scaling_factor).sample.clamp(-1, 1)
        with torch.autocast(x.device.type, torch.bfloat16):  # a third of the time on a CPU
            y: Tensor = tiny.decode(latents).sample.float()
        differences: Tensor = F.l1_loss(y.diff(dim=-1), x.diff(dim=-1)) + F.l1_loss(y.diff(dim=-2), x.diff(dim=-2))
        return F.l1_loss(y, x) + 0.5 * differences + 2 * F.mse_loss(y, x)

    return loss


def text_to_image_loss(model: Diffusion, data: Data, batch: int) -> Callable[[], Tensor]:
    """Predict v for whole pictures."""

    def loss() -> Tensor:
        index = data.draw(batch)
        return model.v_loss(data.latents(index) * model.scaling, data.captions(index))

    return loss


def inpainting_loss(model: Diffusion, data: Data, batch: int) -> Callable[[], Tensor]:
    """Predict v given a mask [B, 1, h, w] and the latents of the picture with the masked part gray, joined in diffusers' order."""

    def loss() -> Tensor:
        index = data.draw(batch)
        pixels = data.pixels(index)
        mask = masks_of(data.boxes[index], pixels.shape[-1])
        latents = data.latents(index) * model.scaling
        extra = torch.cat([F.interpolate(mask, latents.shape[-2:]), model.encode(pixels * (mask < 0.5))], 1)
        return model.v_loss(latents, data.captions(index), extra=extra)

    return loss


def depth_loss(model: Diffusion, data: Data, batch: int) -> Callable[[], Tensor]:
    """Predict v given the scene's inverse depth, resized (bicubic) and scaled to [-1, 1] per picture, as diffusers treats DPT's output."""

    def loss() -> Tensor:
        index = data.draw(batch)
        latents = data.latents(index) * model.scaling
        near = F.interpolate(1 / data.depth[index].float()[:, None], latents.shape[-2:], mode="bicubic", align_corners=False)
        low, high = near.amin((1, 2, 3), keepdim=True), near.amax((1, 2, 3), keepdim=True)
        return model.v_loss(latents, data.captions(index), extra=2 * (near - low) / (high - low) - 1)

    return loss


def upscaling_loss(model: Diffusion, data: Data, batch: int, crop: int) -> Callable[[], Tensor]:
    """Predict v for a crop given the crop at a quarter of its size, noised to a random level that the class label names."""
    levels, edges = alpha_bar(UPSCALER_BETAS, data.images.device), find_edges(data.images)

    def loss() -> Tensor:
        index = data.draw(batch)
        pixels = crops_at(data.pixels(index), edges[index], crop)
        small = F.avg_pool2d(pixels, 4)
        u, v = torch.rand(2, batch, device=pixels.device)
        level = (MAX_NOISE_LEVEL * u**2.5).long()  # mostly little noise, and mostly times at which much of the picture is open
        t = ((1 - v**2) * (len(model.alpha_bar) - 1)).round().long()
        keep = levels[level].view(-1, 1, 1, 1)
        noisy = keep.sqrt() * small + (1 - keep).sqrt() * torch.randn_like(small)
        errors = model.v_errors(encode(pixels) * model.scaling, t, data.captions(index), extra=noisy, labels=level)
        weights = (EXACTNESS + 1 - levels[level]).clamp(max=1) ** -0.5  # the cleaner the picture, the more exact
        return (errors * weights).mean() / 4

    return loss
