"""The toyworld networks: SD2's component classes at a size that a laptop's CPU runs in milliseconds.

Every config field that an SD2 checkpoint sets is set here too: linear projections, a list of head counts, v-prediction, the real CLIP
vocabulary with "!" as padding, and for the upscaler class labels and cross-attention-only blocks.
"""

from typing import Any

from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from sd2rt.toyworld.copying import start_autoencoder, start_unet

CONTEXT = 64  # width of the text embeddings
SD2_BETAS = {"beta_start": 0.00085, "beta_end": 0.012}
UPSCALER_BETAS = {"beta_start": 0.0001, "beta_end": 0.02}


def make_text_encoder() -> CLIPTextModel:
    """Return an untrained CLIP text encoder, 64 wide and 4 layers deep (3.4 M parameters, most of them the vocabulary)."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=CONTEXT,
            intermediate_size=4 * CONTEXT,
            num_hidden_layers=4,
            num_attention_heads=2,
            hidden_act="gelu",
            projection_dim=CONTEXT,
            bos_token_id=49406,
            eos_token_id=49407,
            pad_token_id=0,
        )
    )


def make_vae(factor: int) -> AutoencoderKL:
    """Return an untrained autoencoder with 4 latent channels; `factor` is 8 (pictures) or 4 (the upscaler, see `copying`)."""
    channels = {8: (16, 32, 64, 64), 4: (16, 32, 64)}[factor]
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8 if factor == 8 else 1,
        sample_size=64 if factor == 8 else 256,
    )
    return vae if factor == 8 else start_autoencoder(vae)


def make_tiny_vae() -> AutoencoderTiny:
    """Return an untrained tiny VAE of TAESD's layout, half as wide, for the latents of `make_vae(8)`: its decoder has 0.3 M parameters."""
    widths = (32, 32, 32, 32)
    return AutoencoderTiny(encoder_block_out_channels=widths, decoder_block_out_channels=widths)


def make_unet(task: str, scaling: float = 1.0) -> UNet2DConditionModel:
    """Return an untrained UNet for `task`: text-to-image (4 input channels), inpainting (9), depth-to-image (5) or upscaling (7).

    `scaling` is the factor of the upscaler's latents, see `copying`.
    """
    common: dict[str, Any] = {"out_channels": 4, "layers_per_block": 1, "cross_attention_dim": CONTEXT, "use_linear_projection": True}
    if task == "upscaling":
        unet = UNet2DConditionModel(
            sample_size=64,
            in_channels=7,
            block_out_channels=(32, 64, 64),
            attention_head_dim=2,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            only_cross_attention=[True, True, False],
            num_class_embeds=1000,
            norm_num_groups=1,
            **common,
        )
        return start_unet(unet, scaling)
    large = task == "text-to-image"
    return UNet2DConditionModel(
        sample_size=8,
        in_channels={"text-to-image": 4, "depth-to-image": 5, "inpainting": 9}[task],
        block_out_channels=(64, 128, 128, 64) if large else (32, 64, 64, 64),
        attention_head_dim=[2, 4, 4, 2] if large else [1, 2, 2, 2],
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        **common,
    )
