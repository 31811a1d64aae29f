"""A bundle of a few kilobytes for the runtime's tests, right in every field."""

import hashlib
import json
from collections.abc import Callable, Mapping
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


def write_bundle(
    folder: Path, edit: Callable[[dict[str, Any]], None] = lambda document: None, contents: Mapping[str, bytes] | None = None
) -> Path:
    """Write the bundle; `edit` may change bundle.json's document before it is written.

    `contents` are files by their path; any that it leaves out hold a few bytes that nothing can read.
    """
    (folder / "tokenizer").mkdir(parents=True)
    contents = {"tokenizer/tokenizer.json": b'{"version": "1.0"}', "tokenizer/tokenizer_config.json": b"{}", **(contents or {})}
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
        "components": {name: _component(folder / name, contents) for name in TENSORS},
        "files": {name: _write(folder / name, content) for name, content in contents.items() if name.startswith("tokenizer/")},
        "export": {"sd2rt": "0.1.0"},
    }
    edit(document)
    (folder / "bundle.json").write_text(json.dumps(document))
    return folder


def _component(folder: Path, contents: Mapping[str, bytes]) -> dict[str, Any]:
    folder.mkdir()
    names = [f"{folder.name}/{file}" for file in ("model.onnx", "model.onnx.data")]
    inputs, outputs = TENSORS[folder.name]
    return {
        "dtype": "float16",
        "files": {Path(name).name: _write(folder.parent / name, contents.get(name, name.encode())) for name in names},
        "inputs": [dict(zip(("name", "dtype", "shape"), tensor, strict=True)) for tensor in inputs],
        "outputs": [dict(zip(("name", "dtype", "shape"), tensor, strict=True)) for tensor in outputs],
    }


def _write(path: Path, content: bytes) -> dict[str, Any]:
    path.write_bytes(content)
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
