"""A checkpoint as optimum exports it: one ONNX graph per component, plain operators of opset 18, a scalar timestep, its axes' names.

Written with torch's own exporter, as optimum does it, so that tests do not need optimum; `export onnx` of optimum-onnx 0.1.0 gave the same
inputs, outputs and files for the same checkpoint.
"""

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from benchmarks.workers.diffusers_folder import write_slow_tokenizer
from sd2rt.export.clip import shared_tokenizer

TEXT_AXES = {0: "batch_size", 1: "sequence_length"}


class _Text(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        output = self.model(input_ids, return_dict=True)
        return output.last_hidden_state, output.pooler_output


class _Unet(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.model(sample, timestep, encoder_hidden_states, return_dict=False)[0]
        return output


class _Decoder(nn.Module):
    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latent_sample: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.vae.decode(latent_sample).sample
        return output


class _Encoder(nn.Module):
    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.vae.encode(sample).latent_dist.parameters
        return output


def write_optimum(pipe: Any, folder: Path, *, external: bool = False) -> Path:
    """Write the folder of a diffusers pipeline; with `external`, the UNet's weights in a file of their own, as optimum does above 2 GB."""
    unet, vae, text = pipe.unet, pipe.vae, pipe.text_encoder
    size, latents = unet.config.sample_size, vae.config.latent_channels
    image = torch.randn(1, 3, 64, 64)
    states = torch.randn(2, 77, unet.config.cross_attention_dim)
    sample = torch.randn(2, unet.config.in_channels, size, size)
    ids = torch.randint(1000, (2, 77))
    _export(_Text(text), (ids,), folder / "text_encoder", {"input_ids": TEXT_AXES}, ["last_hidden_state", "pooler_output"])
    spatial = {0: "batch_size", 2: "height", 3: "width"}
    inputs: dict[str, Mapping[int, str]] = {"sample": spatial, "timestep": {}, "encoder_hidden_states": TEXT_AXES}
    _export(_Unet(unet), (sample, torch.tensor(3.0), states), folder / "unet", inputs, ["out_sample"])
    _export(_Decoder(vae), (torch.randn(1, latents, 8, 8),), folder / "vae_decoder", {"latent_sample": spatial}, ["sample"])
    _export(_Encoder(vae), (image,), folder / "vae_encoder", {"sample": spatial}, ["latent_parameters"])
    configs = {
        "text_encoder": text.config.to_dict(),
        "unet": dict(unet.config),
        "vae_decoder": dict(vae.config),
        "vae_encoder": dict(vae.config),
    }
    configs["text_encoder"].pop("dtype", None)
    for name, config in configs.items():
        (folder / name / "config.json").write_text(json.dumps(config, default=str))
    pipe.scheduler.save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(
        json.dumps({"_class_name": type(pipe).__name__, "scheduler": ["diffusers", type(pipe.scheduler).__name__]})
    )
    write_classic_tokenizer(folder / "tokenizer")
    if external:
        _split(folder / "unet" / "model.onnx")
    return folder


def write_classic_tokenizer(folder: Path) -> None:
    """Write vocab.json, merges.txt and the settings, as transformers 4 does."""
    shutil.copytree(shared_tokenizer(), folder)
    write_slow_tokenizer(folder)
    (folder / "tokenizer.json").unlink()
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": {"content": "!", "lstrip": False}}))


def _export(
    module: nn.Module, arguments: tuple[torch.Tensor, ...], folder: Path, inputs: Mapping[str, Mapping[int, str]], outputs: list[str]
) -> None:
    folder.mkdir(parents=True)
    axes = {name: dict(dims) for name, dims in inputs.items() if dims} | {name: {0: "batch_size"} for name in outputs}
    axes |= {
        name: {0: "batch_size", 2: f"{name}_height", 3: f"{name}_width"}
        for name in outputs
        if name in ("sample", "out_sample", "latent_parameters")
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns of every size that it takes for constant
        torch.onnx.export(
            module.eval(),
            arguments,
            str(folder / "model.onnx"),
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=18,
            dynamo=False,
        )


def _split(graph: Path) -> None:
    model = onnx.load(graph)
    onnx.save(model, graph, save_as_external_data=True, all_tensors_to_one_file=True, location="model.onnx_data", size_threshold=1024)
