"""DPT-hybrid as a component: against transformers' own forward pass, and as the graph that is written."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from sd2rt.engine.errors import ExportError
from sd2rt.export.depth_estimator import depth_estimator, image_processor
from sd2rt.export.folder import open_folder
from sd2rt.export.presets import read_preset
from sd2rt.export.verify import compare, run_onnx
from tests.tiny import DEPTH_SIZE, tiny_bundle, tiny_checkpoint, tiny_pipeline

pytestmark = pytest.mark.torch

REAL = read_preset("sd2-depth")


def pictures(batch: int, seed: int = 0) -> torch.Tensor:
    """Draw [batch, 3, S, S] in [-1, 1], as the image processor gives them."""
    return torch.rand((batch, 3, DEPTH_SIZE, DEPTH_SIZE), generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def graph() -> onnx.GraphProto:
    return onnx.load(tiny_bundle("depth", "fp16") / "depth_estimator" / "model.onnx").graph


@pytest.mark.parametrize("batch", [1, 3])
def test_depth_is_that_of_transformers(batch: int) -> None:
    model = tiny_pipeline("depth").depth_estimator
    with torch.inference_mode():
        expected = model(pictures(batch)).predicted_depth
        got = depth_estimator(model).module(pictures(batch))
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("dtype", "least_db"), [("fp32", 100), ("fp16", 50)])
def test_the_written_graph_takes_any_batch(dtype: str, least_db: float) -> None:
    with torch.inference_mode():
        expected = tiny_pipeline("depth").depth_estimator(pictures(5)).predicted_depth.numpy()
    feeds = {"pixel_values": pictures(5).numpy().astype(np.float16 if dtype == "fp16" else np.float32)}
    got = run_onnx(tiny_bundle("depth", dtype) / "depth_estimator" / "model.onnx", feeds)["predicted_depth"]
    assert compare(expected, got, dtype).psnr_db > least_db


def test_the_graph_is_canonical(graph: onnx.GraphProto) -> None:
    kinds = Counter(node.op_type for node in graph.node)
    assert (kinds["Attention"], kinds["LayerNormalization"], kinds["GroupNormalization"], kinds["Resize"]) == (4, 8, 16, 5)
    assert kinds.keys().isdisjoint({"BatchNormalization", "InstanceNormalization", "ReduceMean", "Cast", "If", "Where", "Identity"})
    reshapes = [node.input[1] for node in graph.node if node.op_type == "Reshape"]
    assert set(reshapes) <= {value.name for value in graph.initializer}
    shapes = [[axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in (*graph.input, *graph.output)]
    assert shapes == [["batch", 3, DEPTH_SIZE, DEPTH_SIZE], ["batch", DEPTH_SIZE, DEPTH_SIZE]]


def test_kernels_are_standardized_once(graph: onnx.GraphProto) -> None:
    kernels = [onnx.numpy_helper.to_array(value) for value in graph.initializer if "backbone" in value.name and "conv" in value.name]
    assert len(kernels) == 16
    for kernel in kernels:
        flat = kernel.reshape(len(kernel), -1).astype(np.float64)
        np.testing.assert_allclose(flat.mean(axis=1), 0, atol=2e-3)
        np.testing.assert_allclose(flat.var(axis=1), 1, rtol=5e-3)


@pytest.mark.parametrize("gain", [100.0, 1000.0])
def test_norms_keep_large_activations_out_of_half_precision(gain: float) -> None:
    """Pictures far out of range make variances beyond 65,504 in the first norm; its statistics are float32."""
    with torch.inference_mode():
        expected = tiny_pipeline("depth").depth_estimator(gain * pictures(2)).predicted_depth.numpy()
    feeds = {"pixel_values": (gain * pictures(2)).numpy().astype(np.float16)}
    got = run_onnx(tiny_bundle("depth", "fp16") / "depth_estimator" / "model.onnx", feeds)["predicted_depth"]
    assert compare(expected, got, "float16").psnr_db > 45


def test_an_image_processor_is_completed() -> None:
    estimator = REAL["depth_estimator"]
    assert image_processor(REAL["feature_extractor"], estimator) == REAL["feature_extractor"]
    older = {"feature_extractor_type": "DPTFeatureExtractor", "size": 384, "resample": 2, "do_pad": False}
    assert image_processor(older, estimator) == REAL["feature_extractor"]


@pytest.mark.parametrize(
    "change", [{"size": 512}, {"size": {"height": 384, "width": 512}}, {"keep_aspect_ratio": True}, {"do_resize": False}]
)
def test_pictures_of_another_size_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ExportError, match=r"feature_extractor: resizes to .* takes 384 x 384 only"):
        image_processor({**REAL["feature_extractor"], **change}, REAL["depth_estimator"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint("depth"), tmp_path / "tiny"))


def test_weights_that_nothing_reads_may_be_missing(folder: Path) -> None:
    file = folder / "depth_estimator" / "model.safetensors"
    tensors = load_file(file)
    unread = [name for name in tensors if name.startswith(("neck.fusion_stage.layers.0.residual_layer1.", "dpt.layernorm."))]
    assert len(unread) == 6
    save_file({name: tensor for name, tensor in tensors.items() if name not in unread}, file, metadata={"format": "pt"})
    with torch.inference_mode():
        got = depth_estimator(open_folder(folder).load("depth_estimator")).module(pictures(1))
        expected = tiny_pipeline("depth").depth_estimator(pictures(1)).predicted_depth
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)

    del tensors["head.head.4.bias"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ExportError, match=r"1 weights are missing, the first is head\.head\.4\.bias"):
        open_folder(folder).load("depth_estimator")


def test_a_depth_estimator_of_another_kind_is_refused(folder: Path) -> None:
    file = folder / "depth_estimator" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"is_hybrid": False}))
    with pytest.raises(ExportError, match=r"depth_estimator: got a DPT without .* expected DPT-hybrid"):
        open_folder(folder)


def test_a_missing_image_processor_is_named(folder: Path) -> None:
    shutil.rmtree(folder / "feature_extractor")
    with pytest.raises(ExportError, match=r"cannot read .*preprocessor_config\.json"):
        open_folder(folder)
