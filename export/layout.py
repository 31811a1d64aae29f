"""How diffusers lays out a checkpoint: names of folders and files. Knows no torch, so that the hub can be read without it."""

from pathlib import Path

WEIGHT_STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model", "depth_estimator": "model"}
ALWAYS = ("unet", "vae", "text_encoder")
PICKLES = (".bin", ".ckpt", ".pt", ".pth")
PICKLE_ADVICE = "pickles can run any code when they are opened and are refused; convert it to .safetensors first"


def has_weights(folder: Path, stem: str, infix: str = "") -> bool:
    """Tell whether `folder` holds safetensors, whole or in shards, of that name."""
    return any((folder / f"{stem}{ending}").is_file() for ending in (f"{infix}.safetensors", f".safetensors.index{infix}.json"))
