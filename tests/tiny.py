"""Small random diffusers pipelines with SD2's architecture, for export and parity tests.

    pipe = tiny_pipeline("v")                    # diffusers' pipeline of the variant's task, fp32, eval mode, on the CPU
    pipe = tiny_pipeline("v", folder=tmp_path)   # the same, also saved there as a diffusers folder
    folder = tiny_checkpoint("v")                # that folder, written once and shared
    bundle = tiny_bundle("v", "fp32")            # the bundle exported from it, likewise
    model = tiny_vae(folder=tmp_path)            # a tiny VAE for its latents, which a bundle may have the decoder of

Every variant has real CLIP token ids (77 tokens, 49,408 words), so that prompts and conditioning are exercised in full; widths,
heads, layers and projections differ between variants. Weights are drawn with gains that keep activations near unit variance, and
norms and biases are random too: with default initialisation a swapped bias or a dropped norm weight would go unseen.
"""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import onnxscript
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionDepth2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionUpscalePipeline,
    UNet2DConditionModel,
)
from filelock import FileLock
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, DPTForDepthEstimation
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil

import sd2rt.export
from sd2rt.export import ExportOptions, export
from sd2rt.export.clip import shared_tokenizer
from sd2rt.toyworld.pipelines import small_estimator_config
from tests import traced
from tests.traced import traced_once

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
LOW_RES_BETAS = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
DEPTH_SIZE = 64  # pixels
SCHEDULERS = {
    "ddim": (DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}),
    "pndm": (PNDMScheduler, {"skip_prk_steps": True, "set_alpha_to_one": False, "steps_offset": 1}),
    "euler": (EulerDiscreteScheduler, {"timestep_spacing": "trailing", "steps_offset": 1}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyVariant:
    """Shape of one small pipeline; one entry of `widths` per UNet block, of `vae_widths` per VAE block."""

    prediction: str = "epsilon"
    scheduler: str = "ddim"
    widths: tuple[int, ...] = (32, 64, 64, 64)
    heads: tuple[int, ...] = (2, 4, 4, 4)
    layers: int = 1
    linear: bool = True
    upcast: bool | None = False
    mid_block: bool = True
    groups: int = 8
    in_channels: int = 4  # 4, or with what its task adds: 5 depth to image, 7 upscaling, 9 inpainting
    classes: int | None = None
    only_cross_attention: tuple[bool, ...] | None = None  # one per block; then the first and last block have no attention instead
    sample_size: int = 8  # latent pixels
    text_width: int = 32
    text_heads: int = 2
    text_layers: int = 2
    vae_widths: tuple[int, ...] = (8, 8, 16, 16)
    scaling_factor: float = 0.18215


VARIANTS = {
    "epsilon": TinyVariant(scheduler="pndm", widths=(32, 64), heads=(2, 4)),
    "v": TinyVariant(prediction="v_prediction", widths=(24, 48, 72), heads=(3, 4, 6), text_heads=4, sample_size=12),
    "conv": TinyVariant(linear=False, widths=(32, 64), heads=(4, 2), text_width=40, text_heads=5, text_layers=3),
    "upcast": TinyVariant(prediction="v_prediction", upcast=True, widths=(32, 64), heads=(1, 2), sample_size=6),
    "no_mid": TinyVariant(mid_block=False, widths=(40, 56), heads=(5, 7), vae_widths=(8, 16, 24), scaling_factor=0.5),
    "turbo": TinyVariant(scheduler="euler", upcast=None, widths=(32, 48), heads=(2, 3), layers=2),
    "inpaint": TinyVariant(in_channels=9, widths=(32, 64), heads=(2, 4)),
    "depth": TinyVariant(in_channels=5, scheduler="pndm", widths=(32, 64), heads=(2, 4)),
    "upscale": TinyVariant(
        in_channels=7,
        classes=1000,
        only_cross_attention=(True, True, False),
        prediction="v_prediction",
        widths=(32, 32, 64),
        heads=(4, 4, 4),
        vae_widths=(8, 8, 16),
        scaling_factor=0.08333,
    ),
}
TEXT_TO_IMAGE = ("epsilon", "v", "conv", "upcast", "no_mid", "turbo")


def tiny_pipeline(variant: str | TinyVariant = "epsilon", *, seed: int = 0, folder: Path | None = None) -> Any:
    """Make the variant's pipeline in fp32, of its task's class, the same weights for the same seed; save it to `folder` if given."""
    shape = VARIANTS[variant] if isinstance(variant, str) else variant
    pipe = _pipeline(shape)
    generator = torch.Generator().manual_seed(seed)
    for module in (pipe.text_encoder, pipe.unet, pipe.vae):
        randomize(module, generator)
        module.eval()
    if shape.in_channels == 5:
        randomize(pipe.depth_estimator.eval(), generator)
        pipe.depth_estimator.head.head[-2].bias.data.fill_(3.0)  # before a ReLU: depth is not zero everywhere
    pipe.set_progress_bar_config(disable=True)
    if folder is not None:
        pipe.save_pretrained(folder)
    return pipe


def tiny_checkpoint(variant: str) -> Path:
    """Save the variant's pipeline once and return its diffusers folder: read it, never write there."""
    folder = shared_folder() / f"{variant}-diffusers"
    with FileLock(f"{folder}.lock"):
        if not (folder / "model_index.json").is_file():
            tiny_pipeline(variant, folder=folder)
    return folder


def tiny_vae(*, width: int = 16, folder: Path | None = None, **config: Any) -> Any:
    """Make a random tiny VAE of TAESD's layout for latents of 4 channels, 8 pixels each; save it to `folder` if given."""
    widths = (width,) * 4
    model = AutoencoderTiny(encoder_block_out_channels=widths, decoder_block_out_channels=widths, **config)
    randomize(model, torch.Generator().manual_seed(0))
    if folder is not None:
        model.save_pretrained(folder)
    return model.eval()


def tiny_bundle(variant: str, dtype: str = "fp32", *, with_tiny_vae: bool = False) -> Path:
    """Export the variant once, with the decoder of `tiny_vae()` if asked, and return the bundle's folder: read it, never write there."""
    bundle = shared_folder() / f"{variant}-{dtype}{'-tiny' if with_tiny_vae else ''}"
    with FileLock(f"{bundle}.lock"):
        if not (bundle / "bundle.json").is_file():
            tiny = bundle.with_name(f"{bundle.name}-vae") if with_tiny_vae else None
            if tiny is not None:
                tiny_vae(folder=tiny)
            with traced_once(shared_folder()):
                export(tiny_checkpoint(variant), bundle, ExportOptions(dtype=dtype, name=f"tiny-{variant}", tiny_vae=tiny))
    return bundle


def shared_folder() -> Path:
    """Return a folder for all test processes and runs, since tracing takes 10 to 20 s of CPU time.

    Its name is made from the exporter's sources, this file and the libraries' versions: any change of them makes a new one.
    """
    root = Path(tempfile.gettempdir()) / f"sd2rt-tests-{os.getuid()}" / SOURCES
    root.mkdir(parents=True, exist_ok=True)
    return root


def _sources_digest() -> str:
    sources = [Path(__file__), Path(traced.__file__), *sorted(Path(sd2rt.export.__file__).parent.glob("*.py"))]
    versions = f"{torch.__version__} {diffusers.__version__} {transformers.__version__} {onnxscript.__version__}"
    return hashlib.sha256(versions.encode() + b"".join(file.read_bytes() for file in sources)).hexdigest()[:16]


SOURCES = _sources_digest()  # now, while this process imports them: a later edit is not what it runs


def randomize(module: torch.nn.Module, generator: torch.Generator) -> None:
    """Draw matrices and kernels from N(0, 1 / fan_in), norm weights from N(1, 0.2^2), biases from N(0, 0.1^2), in place."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                fan_in = 1 if "embedding.weight" in name else parameter[0].numel()
                parameter.copy_(noise * fan_in**-0.5)
            else:
                parameter.copy_(1 + 0.2 * noise if name.endswith("weight") else 0.1 * noise)


def _pipeline(shape: TinyVariant) -> Any:
    parts = {
        "vae": _vae(shape),
        "text_encoder": _text_encoder(shape),
        "tokenizer": CLIPTokenizer.from_pretrained(shared_tokenizer()),
        "unet": _unet(shape),
        "scheduler": _scheduler(shape),
    }
    if shape.in_channels == 5:
        return StableDiffusionDepth2ImgPipeline(**parts, depth_estimator=_depth_estimator(), feature_extractor=_image_processor())
    if shape.in_channels == 7:
        return StableDiffusionUpscalePipeline(**parts, low_res_scheduler=DDPMScheduler(**LOW_RES_BETAS), max_noise_level=350)
    inpainting = shape.in_channels == 9
    pipeline_class = StableDiffusionInpaintPipeline if inpainting else StableDiffusionPipeline
    return pipeline_class(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def _depth_estimator() -> Any:
    """Make a DPT-hybrid for 64 x 64 pictures: SD2's, with fewer layers and channels."""
    return DPTForDepthEstimation(small_estimator_config(DEPTH_SIZE, depths=(1, 2, 1)))


def _image_processor() -> Any:
    """Make SD2's DPT preprocessing at the small estimator's size; transformers' other kind of it would need torchvision."""
    size = {"height": DEPTH_SIZE, "width": DEPTH_SIZE}
    return DPTImageProcessorPil(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3, resample=2)


def _unet(shape: TinyVariant) -> Any:
    depth = len(shape.widths)
    plain_first = shape.only_cross_attention is not None
    down = ["CrossAttnDownBlock2D"] * depth
    down[0 if plain_first else -1] = "DownBlock2D"
    return UNet2DConditionModel(
        sample_size=shape.sample_size,
        in_channels=shape.in_channels,
        out_channels=4,
        block_out_channels=shape.widths,
        layers_per_block=shape.layers,
        down_block_types=tuple(down),
        up_block_types=tuple(name.replace("Down", "Up") for name in reversed(down)),
        only_cross_attention=shape.only_cross_attention or False,
        mid_block_type="UNetMidBlock2DCrossAttn" if shape.mid_block else None,
        attention_head_dim=shape.heads,
        cross_attention_dim=shape.text_width,
        norm_num_groups=shape.groups,
        use_linear_projection=shape.linear,
        upcast_attention=shape.upcast,
        num_class_embeds=shape.classes,
    )


def _vae(shape: TinyVariant) -> Any:
    depth = len(shape.vae_widths)
    return AutoencoderKL(
        block_out_channels=shape.vae_widths,
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=shape.sample_size * 2 ** (depth - 1),
        scaling_factor=shape.scaling_factor,
    )


def _text_encoder(shape: TinyVariant) -> Any:
    return CLIPTextModel(
        CLIPTextConfig(
            hidden_size=shape.text_width,
            intermediate_size=4 * shape.text_width,
            num_hidden_layers=shape.text_layers,
            num_attention_heads=shape.text_heads,
            hidden_act="gelu",
            projection_dim=shape.text_width,
            bos_token_id=49406,
            eos_token_id=49407,
            pad_token_id=0,
        )
    )


def _scheduler(shape: TinyVariant) -> Any:
    scheduler_class, options = SCHEDULERS[shape.scheduler]
    return scheduler_class(**BETAS, **options, prediction_type=shape.prediction)
