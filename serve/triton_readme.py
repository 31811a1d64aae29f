"""The README of a Triton model repository: how to run it, and what a client computes between the models, with the bundle's numbers."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from sd2rt.engine.spec import TensorSpec
from sd2rt.runtime.bundle import Bundle
from sd2rt.serve.triton import TritonModel

WIDTH = 120  # characters of a line
RUN = """\
    docker run --rm --gpus all -p 127.0.0.1:8000:8000 -p 127.0.0.1:8001:8001 -v $PWD:/models:ro \\
        nvcr.io/nvidia/tritonserver:YY.MM-py3 tritonserver --model-repository=/models --model-control-mode=none"""
TRUST = (
    "Triton asks nobody for a token: keep its ports on this machine, or behind a proxy that does. Do not let clients load models "
    "(`--model-control-mode=explicit` with an open port): whoever may load one may run code."
)
NEEDS = {
    "onnxruntime": "The graphs are of ONNX opset 23, which ONNX Runtime takes from 1.23 on; they were tried with 1.32. Take a recent "
    "container: ONNX Runtime got a CUDA kernel for opset 23's `Attention` in 2026, and computes it on the CPU before.",
    "tensorrt": "A plan runs on the kind of GPU that it was built on, in a container whose TensorRT is of the same version as the one "
    "that built it (`sd2rt info` says which). Build again where either differs.",
}
SAMPLE = {
    "text-to-image": "the latents",
    "inpainting": "the latents, the mask (1 channel; 1 paints) and the latents of the picture whose masked part is gray",
    "depth-to-image": "the latents and the depth (1 channel, -1 to 1)",
    "upscaling": "the latents and the small picture (3 channels, -1 to 1) with as much noise as `class_labels` says",
}
END = (
    "`sd2rt.runtime` has 1, 3 and 4 in numpy (`tokenizer`, `samplers`, `denoise`). There is no ensemble: those of Triton have no loops. "
    "Rows of several clients are joined where their sizes agree; `config.pbtxt` has the numbers of each queue."
)


def readme_text(bundle: Bundle, models: Sequence[TritonModel]) -> str:
    """Return the README's Markdown."""
    written = f"Written by `sd2rt export-triton` from the bundle {bundle.name} ({bundle.task}), manifest SHA-256 {bundle.sha256}."
    apart = "Its files are copies: the bundle may move."
    rows = [f"| `{model.name}` | {_listed(model.inputs)} | {_listed(model.outputs)} | {model.max_batch} |" for model in models]
    shapes = "Shapes are without the axis of rows, which comes first; -1 is any size. What has no other axis is sent as [rows, 1]."
    parts = [
        f"# {bundle.name} for Triton Inference Server",
        _wrap(f"{written} {apart}"),
        "\n".join(["| model | takes | gives | rows at most |", "|---|---|---|---|", *rows]),
        _wrap(shapes),
        "## Run it",
        RUN,
        _wrap(TRUST),
        _wrap(NEEDS[models[0].backend]),
        "## What a client does",
        "\n".join(_wrap(step, indent="   ") for step in _steps(bundle, {model.component: model for model in models})),
        _wrap(END),
    ]
    return "\n\n".join(parts) + "\n"


def _steps(bundle: Bundle, models: Mapping[str, TritonModel]) -> list[str]:
    """Return the numbered steps from a prompt to a picture."""
    text, unet, decoder = (models[name] for name in ("text_encoder", "unet", "vae_decoder"))
    tokens, factor, defaults = _dims(text.inputs[0])[0], bundle.latent_factor, bundle.defaults
    shape = f"[1, {bundle.latent_channels}, height / {factor}, width / {factor}]"
    encoder = models.get("vae_encoder")
    mean = f"the first {bundle.latent_channels} channels of what `{encoder.name}` gives, times {bundle.scaling_factor}" if encoder else ""
    encode = f" A picture's latents are {mean}." if encoder else ""
    return [
        f"1. Tokenize the negative prompt and the prompt with the bundle's `tokenizer/`: begin, text, end, padding; {tokens} ids each.",
        f"2. `{text.name}` makes states of them: two rows, the negative prompt's first.",
        f"3. Draw latents {shape}, unit normal noise at the scale of the sampler's first step.{encode}",
        f"4. Take the steps of a sampler (the bundle's own: {defaults.sampler}, {defaults.steps} steps; its schedule is in `bundle.json`). "
        f"`{unet.name}` takes {SAMPLE[bundle.task]} as `sample`, the same for both rows, the step's `timestep`, and the states. "
        f"negative + {defaults.guidance_scale:g} x (prompt - negative) of its rows is the prediction ({bundle.prediction_type}), from "
        "which the sampler makes the next latents.",
        f"5. `{decoder.name}` takes the last latents / {bundle.scaling_factor} and gives the picture: RGB, channels first, -1 to 1.",
    ]


def _listed(tensors: Sequence[TensorSpec]) -> str:
    return ", ".join(f"`{tensor.name}` {tensor.dtype} {_dims(tensor)}" for tensor in tensors)


def _dims(tensor: TensorSpec) -> list[int]:
    return [axis if isinstance(axis, int) else -1 for axis in tensor.shape[1:]] or [1]


def _wrap(text: str, indent: str = "") -> str:
    """Break a paragraph into lines."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
