"""A bundle whose three components are real ONNX graphs of a few nodes: what `load` needs, in kilobytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tests.engine.graphs import graph
from tests.runtime.bundles import write_bundle
from tests.runtime.fakes import LENGTH, WIDTH, byte_tokenizer_files

VOCABULARY = 258


def write_onnx_bundle(folder: Path, edit: Callable[[dict[str, Any]], None] = lambda document: None) -> Path:
    """Write a bundle that paints: slowly varying colours, different for each prompt and seed."""
    models = {"text_encoder": _text_encoder(), "unet": _unet(), "vae_decoder": _vae_decoder()}
    graphs = {f"{name}/model.onnx": model.SerializeToString() for name, model in models.items()}
    return write_bundle(folder, edit, {**graphs, **byte_tokenizer_files()})


def _text_encoder() -> onnx.ModelProto:
    table = np.random.default_rng(0).normal(size=(VOCABULARY, WIDTH)).astype(np.float32)
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])]
    return graph(
        nodes,
        [("input_ids", "int64", ["batch", LENGTH])],
        [("last_hidden_state", "float32", ["batch", LENGTH, WIDTH])],
        {"table": table},
    )


def _unet() -> onnx.ModelProto:
    """tanh(0.9 * sample + sum of the states, four channels as [batch, 4, 1, 1]) + timestep / 10,000."""
    weights = {
        "gain": np.float32(0.9),
        "sequence": np.array([1]),
        "mix": np.eye(WIDTH, 4, dtype=np.float32) / 10,
        "column": np.array([0, 4, 1, 1]),
        "scalar": np.array([-1, 1, 1, 1]),
        "slow": np.float32(1e-4),
    }
    nodes = [
        helper.make_node("ReduceSum", ["encoder_hidden_states", "sequence"], ["summed"], keepdims=0),
        helper.make_node("MatMul", ["summed", "mix"], ["mixed"]),
        helper.make_node("Reshape", ["mixed", "column"], ["text"]),
        helper.make_node("Mul", ["sample", "gain"], ["scaled"]),
        helper.make_node("Add", ["scaled", "text"], ["added"]),
        helper.make_node("Tanh", ["added"], ["bent"]),
        helper.make_node("Mul", ["timestep", "slow"], ["slowed"]),
        helper.make_node("Reshape", ["slowed", "scalar"], ["time"]),
        helper.make_node("Add", ["bent", "time"], ["out_sample"]),
    ]
    inputs = [
        ("sample", "float32", ["batch", 4, "height", "width"]),
        ("timestep", "float32", ["batch"]),
        ("encoder_hidden_states", "float32", ["batch", "sequence", WIDTH]),
    ]
    return graph(nodes, inputs, [("out_sample", "float32", ["batch", 4, "height", "width"])], weights)


def _vae_decoder() -> onnx.ModelProto:
    """Three of four channels, each pixel eight times eight."""
    weights = {"kernel": np.ones((4, 1, 8, 8), np.float32) / 10, "start": np.array([0]), "end": np.array([3]), "axis": np.array([1])}
    nodes = [
        helper.make_node("ConvTranspose", ["latent_sample", "kernel"], ["large"], strides=[8, 8], group=4),
        helper.make_node("Slice", ["large", "start", "end", "axis"], ["sample"]),
    ]
    shape = ["batch", 3, "image_height", "image_width"]
    return graph(nodes, [("latent_sample", "float32", ["batch", 4, "height", "width"])], [("sample", "float32", shape)], weights)
