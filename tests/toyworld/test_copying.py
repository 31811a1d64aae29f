"""The upscaler's networks before training: they copy."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")
pytest.importorskip("diffusers", reason="needs the export extra")

from sd2rt.toyworld.copying import encode  # noqa: E402
from sd2rt.toyworld.evaluate_tasks import enlargements  # noqa: E402
from sd2rt.toyworld.networks import make_unet, make_vae  # noqa: E402
from sd2rt.toyworld.windows import crops_at, find_edges  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def pixels() -> "torch.Tensor":
    """Four pictures of 256 pixels in [-1, 1]."""
    images = np.stack([case.large for case in enlargements(4)])
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def test_the_autoencoder_gives_the_means_of_pixels_and_takes_them_for_pixels(pixels: "torch.Tensor") -> None:
    vae = make_vae(4).eval()
    posterior = vae.encode(pixels).latent_dist
    torch.testing.assert_close(posterior.mean, encode(pixels), atol=0.01, rtol=0)
    torch.testing.assert_close(posterior.mean[:, :3], torch.nn.functional.avg_pool2d(pixels, 4), atol=0.005, rtol=0)
    assert posterior.std.max() < 0.002
    nearest = torch.nn.functional.interpolate(posterior.mean[:, :3], scale_factor=4)
    assert (vae.decode(posterior.mean).sample - nearest).square().mean() < 0.005


@torch.no_grad()
def test_the_unet_predicts_the_small_picture(pixels: "torch.Tensor") -> None:
    latents = encode(pixels) * 1.75
    noisy = torch.cat([torch.randn_like(latents), latents[:, :3] / 1.75], 1)
    labels = torch.zeros(4, dtype=torch.long)
    predicted = make_unet("upscaling", 1.75).eval()(noisy, 999, torch.zeros(4, 77, 64), class_labels=labels).sample
    assert (predicted[:, :3] + latents[:, :3]).square().mean() < 0.001


def test_constants_get_no_gradient_and_the_encoder_none_at_all(pixels: "torch.Tensor") -> None:
    vae = make_vae(4)
    vae.decode(encode(pixels[:1])).sample.square().mean().backward()
    norm = vae.decoder.conv_norm_out.weight
    assert (norm.grad[[6, 7]] == 0).all()
    assert norm.grad[:6].abs().max() > 0
    assert all(parameter.grad is None for parameter in vae.encoder.parameters())


def test_crops_are_where_edges_are_and_as_they_were() -> None:
    torch.manual_seed(0)
    images = torch.zeros(64, 3, 64, 64, dtype=torch.uint8)
    images[:, :, 40:, 48:] = 200
    edges = find_edges(images)
    assert edges.any((1, 2)).all()
    assert edges.float().mean() < 0.1
    crops = crops_at(images.float(), edges, 16)
    assert crops.shape == (64, 3, 16, 16)
    assert set(crops.unique().tolist()) == {0.0, 200.0}
    shows = crops.flatten(1).std(1) > 0
    assert shows.float().mean() > 0.7


def test_pictures_without_an_edge_are_cropped_anywhere() -> None:
    images = torch.zeros(8, 3, 32, 32)
    crops = crops_at(images, find_edges(images.byte()), 16)
    assert crops.shape == (8, 3, 16, 16)
