import pytest
import torch

from sd2rt.export.modules import CLASSES, empty_module
from sd2rt.export.presets import read_preset
from sd2rt.export.random_weights import fill, open_random
from tests.tiny import tiny_pipeline

pytestmark = pytest.mark.torch


def small_configs() -> dict[str, dict[str, object]]:
    """SD2's configs with a tenth of the width, but the depth estimator's: the resized position embeddings fix its size."""
    preset = {**read_preset("sd2-depth"), **read_preset("sd21")}
    configs = {name: dict(preset[name]) for name in CLASSES}
    configs["depth_estimator"] |= {"num_hidden_layers": 1, "intermediate_size": 96, "fusion_hidden_size": 16}
    configs["unet"] |= {"block_out_channels": [32, 64, 128, 128], "attention_head_dim": [1, 2, 4, 4], "cross_attention_dim": 96}
    configs["vae"] |= {"block_out_channels": [32, 32, 64, 64]}
    configs["text_encoder"] |= {"hidden_size": 96, "intermediate_size": 384, "num_attention_heads": 4}
    return configs


def filled(component: str, seed: str) -> torch.nn.Module:
    module = empty_module(component, small_configs()[component])
    fill(module, seed)
    return module


@pytest.mark.parametrize("component", list(CLASSES))
def test_the_same_seed_gives_the_same_weights(component: str) -> None:
    first, again, other = (filled(component, seed).state_dict() for seed in ("0/x", "0/x", "1/x"))
    assert all(torch.equal(first[name], again[name]) for name in first)
    matrices = [name for name in first if first[name].ndim > 1]
    assert matrices
    assert not any(torch.equal(first[name], other[name]) for name in matrices)


def test_weights_of_a_seed_stay_as_they_are() -> None:
    """Benchmarks name a seed; the numbers behind it must not drift."""
    weight = filled("unet", "0/unet").get_parameter("conv_in.weight").flatten()
    assert weight[:3].tolist() == pytest.approx([0.137139, -0.171915, -0.175191], abs=1e-5)
    assert weight.std().item() == pytest.approx(36**-0.5, rel=0.05)


def test_activations_neither_vanish_nor_explode() -> None:
    unet, vae, text = (filled(name, "0") for name in ("unet", "vae", "text_encoder"))
    noise = torch.Generator().manual_seed(0)
    latents = torch.randn((2, 4, 16, 16), generator=noise)
    with torch.inference_mode():
        hidden = text(torch.randint(49408, (2, 77), generator=noise)).last_hidden_state
        prediction = unet(latents, torch.tensor([1.0, 999.0]), hidden).sample
        image = vae.decode(latents).sample
        moments = vae.encode(torch.randn((2, 3, 64, 64), generator=noise)).latent_dist.parameters
    for values in (hidden, prediction, image, moments):
        assert 0.2 < values.std() < 5
    assert not torch.allclose(prediction[0], prediction[1], atol=0.1)


def test_skipping_initialization_keeps_buffers_and_hooks_off_other_code() -> None:
    module = empty_module("text_encoder", small_configs()["text_encoder"])
    assert module.embeddings.position_ids.flatten().tolist() == list(range(77))
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert not module.training
    assert torch.nn.Linear(64, 64).weight.std() > 0.01


def test_open_random_records_its_seed() -> None:
    checkpoint = open_random("sd21", 5)
    assert (checkpoint.weights_seed, checkpoint.name) == (5, "sd21")
    assert "seed 5" in checkpoint.source
    assert (checkpoint.tokenizer / "tokenizer.json").is_file()


def test_tiny_pipelines_repeat() -> None:
    first, again = tiny_pipeline("upcast"), tiny_pipeline("upcast")
    assert torch.equal(first.unet.conv_in.weight, again.unet.conv_in.weight)


def test_random_depth_is_not_cut_to_zero() -> None:
    """The full estimator, since its last layer's sign decides."""
    model = open_random("sd2-depth", 0).load("depth_estimator")
    with torch.inference_mode():
        depth = model(torch.rand((1, 3, 384, 384), generator=torch.Generator().manual_seed(0)) * 2 - 1).predicted_depth
    assert (depth > 0).float().mean() > 0.99
    assert depth.std() > 0.5
