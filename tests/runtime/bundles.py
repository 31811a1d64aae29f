"""A bundle of a few kilobytes for the runtime's tests: right in every field, with files that no engine could read."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "clip_sample": False,
    "steps_offset": 1,
    "prediction_type": "epsilon",
}
TENSORS: dict[str, tuple[list[Any], list[Any]]] = {
    "text_encoder": ([("input_ids", "int64", ["batch", 77])], [("last_hidden_state", "float16", ["batch", 77, 8])]),
    "unet": (
        [
            ("sample", "float16", ["batch", 4, "height", "width"]),
            ("timestep", "float32", ["batch"]),
            ("encoder_hidden_states", "float16", ["batch", "sequence", 8]),
        ],
        [("out_sample", "float16", ["batch", 4, "height", "width"])],
    ),
    "vae_decoder": (
        [("latent_sample", "float16", ["batch", 4, "height", "width"])],
        [("sample", "float16", ["batch", 3, "height", "width"])],
    ),
}


def write_bundle(folder: Path, edit: Callable[[dict[str, Any]], None] = lambda document: None) -> Path:
    """Write the bundle; `edit` may change bundle.json's document before it is written."""
    (folder / "tokenizer").mkdir(parents=True)
    files = {
        name: _write(folder / name, json.dumps(content))
        for name, content in {
            "tokenizer/tokenizer.json": {"version": "1.0"},
            "tokenizer/tokenizer_config.json": {"pad_token": "!", "model_max_length": 77},
        }.items()
    }
    document = {
        "schema_version": 1,
        "name": "small",
        "task": "text-to-image",
        "prediction_type": "epsilon",
        "native_size": [64, 48],
        "latent_channels": 4,
        "latent_factor": 8,
        "scaling_factor": 0.18215,
        "scheduler": SCHEDULER,
        "defaults": {"steps": 3, "guidance_scale": 7.5, "sampler": "ddim"},
        "components": {name: _component(folder / name, *tensors) for name, tensors in TENSORS.items()},
        "files": files,
        "export": {"sd2rt": "0.1.0"},
    }
    edit(document)
    (folder / "bundle.json").write_text(json.dumps(document))
    return folder


def _component(folder: Path, inputs: list[Any], outputs: list[Any]) -> dict[str, Any]:
    folder.mkdir()
    return {
        "dtype": "float16",
        "files": {name: _write(folder / name, f"{folder.name}/{name}") for name in ("model.onnx", "model.onnx.data")},
        "inputs": [dict(zip(("name", "dtype", "shape"), tensor, strict=True)) for tensor in inputs],
        "outputs": [dict(zip(("name", "dtype", "shape"), tensor, strict=True)) for tensor in outputs],
    }


def _write(path: Path, text: str) -> dict[str, Any]:
    path.write_text(text)
    return {"sha256": hashlib.sha256(text.encode()).hexdigest(), "bytes": len(text)}
