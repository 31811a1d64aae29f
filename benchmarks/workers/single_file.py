"""A diffusers folder as one file in Stability's layout, for who reads nothing else.

`python -m benchmarks.workers.single_file FOLDER OUT.safetensors`.

Names come from `sd2rt.export.ldm`. OpenCLIP's text encoder has one layer more than SD2 uses and diffusers keeps; readers want to see it,
so the last one is written twice.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from sd2rt.export.ldm import PREFIXES, clip_key, unet_keys, vae_key

Weights = dict[str, npt.NDArray[np.generic]]
ATTENTION_MATRIX = re.compile(r"mid\.attn_1\.(q|k|v|proj_out)\.weight$")
LAYER = re.compile(r"resblocks\.(\d+)\.")


def unet_weights(folder: Path) -> Weights:
    """Return the UNet under its old names; an upsampler behind attention is its block's third module, else the second."""
    config = json.loads((folder / "config.json").read_text())
    found = {}
    for name, array in load_file(folder / "diffusion_pytorch_model.safetensors").items():
        keys = unet_keys(name, config["layers_per_block"])
        block = re.match(r"up_blocks\.(\d+)\.upsamplers", name)
        attends = block is not None and "Attn" in config["up_block_types"][int(block[1])]
        found[keys[-1] if attends else keys[0]] = array
    return found


def vae_weights(folder: Path) -> Weights:
    """Return the VAE under its old names; its attention's matrices are 1 x 1 kernels there."""
    blocks = len(json.loads((folder / "config.json").read_text())["block_out_channels"])
    named = {vae_key(name, blocks): array for name, array in load_file(folder / "diffusion_pytorch_model.safetensors").items()}
    return {key: array[:, :, None, None] if ATTENTION_MATRIX.search(key) else array for key, array in named.items()}


def text_weights(folder: Path) -> Weights:
    """Return the text encoder as OpenCLIP keeps it: q, k and v in one matrix, and the layer that SD2 leaves out."""
    thirds: dict[str, dict[int, npt.NDArray[np.generic]]] = {}
    for name, array in load_file(folder / "model.safetensors").items():
        key, third = clip_key(name)
        thirds.setdefault(key, {})[third or 0] = array
    found = {key: np.concatenate([parts[k] for k in sorted(parts)]) if len(parts) > 1 else parts[0] for key, parts in thirds.items()}
    last = max(int(layer[1]) for key in found if (layer := LAYER.search(key)))
    again = {key.replace(f"resblocks.{last}.", f"resblocks.{last + 1}."): array for key, array in found.items()}
    return {**again, **found}


def write_single_file(folder: Path, out: Path) -> None:
    """Write all three parts of a folder, in half precision, into one file."""
    parts = {
        "unet": unet_weights(folder / "unet"),
        "vae": vae_weights(folder / "vae"),
        "text_encoder": text_weights(folder / "text_encoder"),
    }
    named = {
        PREFIXES[part][0] + key: np.ascontiguousarray(array, np.float16)
        for part, weights in parts.items()
        for key, array in weights.items()
    }
    save_file(named, out)


if __name__ == "__main__":
    write_single_file(Path(sys.argv[1]), Path(sys.argv[2]))
    print(json.dumps({"model": sys.argv[2]}))
