"""What the toyworld networks are trained on: pictures, what is known of them and their latents, all on the device."""

from dataclasses import dataclass, replace

import torch
from diffusers import AutoencoderKL
from torch import Tensor

EMPTY_CAPTIONS = 0.1  # part of the captions left out, for classifier-free guidance


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A training set on the device.

    images uint8 [N, 3, S, S]; depth float16 [N, S, S]; boxes int64 [N, 2, 4]; ids int32 [N, V, 77]; empty int32 [77].
    mean and std, float32 [N, 4, h, w], are the images' latents once there is an autoencoder (see `with_latents`).
    """

    images: Tensor
    depth: Tensor
    boxes: Tensor
    ids: Tensor
    empty: Tensor
    mean: Tensor | None = None
    std: Tensor | None = None

    @torch.no_grad()
    def with_latents(self, vae: AutoencoderKL, batch: int = 256) -> "Data":
        """The same set with the latents of all images, before scaling."""
        posteriors = [vae.encode(part.float() / 127.5 - 1).latent_dist for part in torch.split(self.images, batch)]
        return replace(self, mean=torch.cat([p.mean for p in posteriors]), std=torch.cat([p.std for p in posteriors]))

    def latents(self, index: Tensor) -> Tensor:
        """Latents [B, 4, h, w] drawn from the posterior, before scaling."""
        if self.mean is None or self.std is None:
            raise ValueError("this set has no latents yet: call with_latents first")
        mean, std = self.mean[index], self.std[index]
        return mean + std * torch.randn_like(mean)

    def draw(self, batch: int) -> Tensor:
        """Indices [batch] of a random batch."""
        return torch.randint(0, len(self.images), (batch,), device=self.images.device)

    def pixels(self, index: Tensor) -> Tensor:
        """Images [B, 3, S, S] in [-1, 1]."""
        return self.images[index].float() / 127.5 - 1

    def captions(self, index: Tensor) -> Tensor:
        """Token ids [B, 77]: a random wording of each caption, sometimes the empty one."""
        wording = torch.randint(0, self.ids.shape[1], index.shape, device=index.device)
        drop = torch.rand(index.shape, device=index.device) < EMPTY_CAPTIONS
        return torch.where(drop[:, None], self.empty, self.ids[index, wording])
