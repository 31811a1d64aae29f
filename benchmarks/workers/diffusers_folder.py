"""A bundle back to the diffusers folder it came from: the same weights for the contenders.

`python -m benchmarks.workers.diffusers_folder BUNDLE FOLDER [PART...]`. Weights come from the ONNX initializers, which carry the
checkpoint's names (see `sd2rt.export.canonical`), configs from beside them.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from safetensors.numpy import save_file

TRANSPOSED = ".transposed"
NOT_PARAMETERS = ("constant.", "shape.")
# folder in diffusers' layout: its weights' file, and the bundle's components that hold its parameters
PARTS = {
    "text_encoder": ("model.safetensors", ("text_encoder",)),
    "unet": ("diffusion_pytorch_model.safetensors", ("unet",)),
    "vae": ("diffusion_pytorch_model.safetensors", ("vae_decoder", "vae_encoder")),
}


def rebuild(bundle: Path, folder: Path, parts: Sequence[str] = tuple(PARTS)) -> None:
    """Write `folder`, which must not exist, from a text-to-image bundle. Weights keep the bundle's dtype."""
    folder.mkdir(parents=True)
    for part in parts:
        file, components = PARTS[part]
        (folder / part).mkdir()
        weights = {name: array for component in components for name, array in parameters(bundle / component / "model.onnx").items()}
        save_file(weights, folder / part / file, metadata={"format": "pt"})
        shutil.copy(bundle / components[0] / "config.json", folder / part / "config.json")
    for name in ("tokenizer", "scheduler"):
        shutil.copytree(bundle / name, folder / name)
    write_slow_tokenizer(folder / "tokenizer")
    shutil.copy(bundle / "model_index.json", folder)


def write_slow_tokenizer(folder: Path) -> None:
    """Write `tokenizer.json`'s vocabulary as transformers before version 5 wants it for CLIP: vocab.json and merges.txt."""
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(merge) for merge in model["merges"])]) + "\n")


def parameters(graph: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Return the checkpoint's parameters of one component: its initializers but for constants, linear weights turned back."""
    values = ir.load(graph).graph.initializers.values()
    arrays = {str(value.name): value.const_value.numpy() for value in values if value.const_value is not None}
    return {
        name.removesuffix(TRANSPOSED): np.ascontiguousarray(array.T if name.endswith(TRANSPOSED) else array)
        for name, array in arrays.items()
        if not name.startswith(NOT_PARAMETERS)
    }


if __name__ == "__main__":
    rebuild(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] or tuple(PARTS))
    print(json.dumps({"folder": sys.argv[2]}))
