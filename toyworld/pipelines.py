"""Complete a task's folder to a pipeline that diffusers and `sd2rt export` load: scheduler, model_index.json, links to what it shares."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from transformers import DPTConfig, DPTForDepthEstimation

from sd2rt.toyworld.losses import MAX_NOISE_LEVEL
from sd2rt.toyworld.networks import SD2_BETAS, UPSCALER_BETAS

TOKENIZER = files("sd2rt.toyworld").joinpath("bundle/tokenizer/tokenizer.json")
ESTIMATOR_SIDE = 64
CLASSES = {
    "text-to-image": "StableDiffusionPipeline",
    "inpainting": "StableDiffusionInpaintPipeline",
    "depth-to-image": "StableDiffusionDepth2ImgPipeline",
    "upscaling": "StableDiffusionUpscalePipeline",
}


def save_pipeline(work: Path, task: str) -> None:
    """Complete `work`/`task`, which has its unet/, with the text encoder and the autoencoder that lie in `work`."""
    folder = work / task
    betas = UPSCALER_BETAS if task == "upscaling" else SD2_BETAS
    DDIMScheduler(
        **betas,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
        timestep_spacing="trailing" if task == "upscaling" else "leading",  # few steps begin where noise alone is
    ).save_pretrained(folder / "scheduler")
    link(folder / "vae", work / ("vae-x4" if task == "upscaling" else "vae"))
    link(folder / "text_encoder", work / "text_encoder")
    link(folder / "tokenizer", Path(str(TOKENIZER)).parent)
    index: dict[str, Any] = {
        "_class_name": CLASSES[task],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    if task == "upscaling":
        DDPMScheduler(**UPSCALER_BETAS, beta_schedule="scaled_linear").save_pretrained(folder / "low_res_scheduler")
        index |= {"low_res_scheduler": ["diffusers", "DDPMScheduler"], "max_noise_level": MAX_NOISE_LEVEL}
    elif task == "depth-to-image":
        _save_estimator(folder)
        index |= {"depth_estimator": ["transformers", "DPTForDepthEstimation"], "feature_extractor": ["transformers", "DPTImageProcessor"]}
    else:
        index |= {"feature_extractor": [None, None], "requires_safety_checker": False, "safety_checker": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2, sort_keys=True))


def link(path: Path, target: Path) -> None:
    """Make `path` a link to `target`, whatever link it was."""
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def small_estimator_config(side: int, depths: tuple[int, int, int] = (1, 1, 1)) -> DPTConfig:
    """Describe a DPT-hybrid for pictures of `side` x `side`: SD2's, with few layers and channels, and `depths` blocks in the backbone."""
    backbone = {
        "model_type": "bit",
        "depths": list(depths),
        "embedding_size": 8,
        "hidden_sizes": [8, 16, 32, 64],
        "num_groups": 4,
        "global_padding": "SAME",
        "layer_type": "bottleneck",
        "embedding_dynamic_padding": True,
        "out_features": ["stage1", "stage2", "stage3"],
    }
    return DPTConfig(
        is_hybrid=True,
        image_size=side,
        hidden_size=24,
        intermediate_size=96,
        num_attention_heads=3,
        num_hidden_layers=4,
        backbone_out_indices=[0, 1, 2, 3],
        backbone_featmap_shape=[1, 32, side // 16, side // 16],
        neck_hidden_sizes=[8, 16, 24, 24],
        reassemble_factors=[1, 1, 1, 0.5],
        fusion_hidden_size=16,
        backbone_config=backbone,
    )


def _save_estimator(folder: Path) -> None:
    """Write an untrained depth estimator, which the pipeline and the export ask for; `assemble` leaves it out of the embedded model."""
    model = DPTForDepthEstimation(small_estimator_config(ESTIMATOR_SIDE))
    for parameter in model.parameters():
        if parameter.ndim > 1:  # wide enough that the export's comparison with torch has something to compare
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    model.head.head[-2].bias.data.fill_(3.0)  # before a ReLU
    model.save_pretrained(folder / "depth_estimator")
    processor = folder / "feature_extractor" / "preprocessor_config.json"
    processor.parent.mkdir(exist_ok=True)
    size = {"height": ESTIMATOR_SIDE, "width": ESTIMATOR_SIDE}
    processor.write_text(json.dumps({"size": size, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
