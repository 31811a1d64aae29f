"""How diffusers and optimum lay out a model: names of folders and files. Knows no torch and no onnx: the hub is read without them."""

from pathlib import Path

WEIGHT_STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model", "depth_estimator": "model"}
ALWAYS = ("unet", "vae", "text_encoder")
GRAPHS = ("text_encoder", "unet", "vae_decoder")  # that optimum always writes
PICKLES = (".bin", ".ckpt", ".pt", ".pth")
PICKLE_ADVICE = "pickles can run any code when they are opened and are refused; convert it to .safetensors first"


def has_weights(folder: Path, stem: str, infix: str = "") -> bool:
    """Tell whether `folder` holds safetensors, whole or in shards, of that name."""
    return any((folder / f"{stem}{ending}").is_file() for ending in (f"{infix}.safetensors", f".safetensors.index{infix}.json"))


def is_graph_folder(folder: Path) -> bool:
    """Tell whether a folder has the graphs that optimum writes and no bundle.json."""
    return not (folder / "bundle.json").exists() and all((folder / name / "model.onnx").is_file() for name in GRAPHS)
