from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from sd2rt.export.canonical import CONSTANT, TRANSPOSED
from sd2rt.export.verify import run_onnx
from tests.tiny import tiny_bundle, tiny_pipeline

pytestmark = pytest.mark.torch

COMPONENTS = ("text_encoder", "unet", "vae_decoder", "vae_encoder")


@pytest.fixture(scope="module")
def bundle() -> Path:
    return tiny_bundle("conv", "fp32")


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny_pipeline("conv")


def load(bundle: Path, component: str) -> onnx.ModelProto:
    return onnx.load(bundle / component / "model.onnx")


def state_dict(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Rebuild the parameters as the module's docstring says."""
    arrays = {value.name: numpy_helper.to_array(value) for value in model.graph.initializer if not value.name.startswith(CONSTANT)}
    return {name.removesuffix(TRANSPOSED): array.T if name.endswith(TRANSPOSED) else array for name, array in arrays.items()}


def expected_state(pipe: Any, component: str) -> dict[str, torch.Tensor]:
    if component == "text_encoder":
        return {f"text_model.{name}": tensor for name, tensor in pipe.text_encoder.state_dict().items()}
    if component == "unet":
        return dict(pipe.unet.state_dict())
    own = ("decoder.", "post_quant_conv.") if component == "vae_decoder" else ("encoder.", "quant_conv.")
    return {name: tensor for name, tensor in pipe.vae.state_dict().items() if name.startswith(own)}


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_checkpoints_weights_can_be_found_again(bundle: Path, pipe: Any, component: str) -> None:
    found, expected = state_dict(load(bundle, component)), expected_state(pipe, component)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor.numpy(), err_msg=name)


@pytest.mark.parametrize(
    ("component", "whole"),
    [
        ("text_encoder", {"Attention": 3, "LayerNormalization": 7, "Gelu": 3}),
        ("unet", {"Attention": 8, "LayerNormalization": 12, "GroupNormalization": 21, "Gelu": 4}),
        ("vae_decoder", {"Attention": 1, "GroupNormalization": 22}),
        ("vae_encoder", {"Attention": 1, "GroupNormalization": 14}),
    ],
)
def test_high_level_operators_stay_whole(bundle: Path, component: str, whole: dict[str, int]) -> None:
    counts = Counter(node.op_type for node in load(bundle, component).graph.node)
    assert {name: counts[name] for name in whole} == whole
    taken_apart = {"Softmax", "Erf", "ReduceMean", "Sqrt", "InstanceNormalization", "Identity", "Constant", "Pad", "Expand", "Where"}
    assert not taken_apart & counts.keys()


@pytest.mark.parametrize("component", COMPONENTS)
def test_graphs_are_small_and_valid(bundle: Path, component: str) -> None:
    file = bundle / component / "model.onnx"
    onnx.checker.check_model(file, full_check=True)
    model = onnx.load(file, load_external_data=False)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 23)]
    assert not model.functions
    assert not model.graph.value_info
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert not model.metadata_props
    assert (model.producer_name, model.graph.name) == ("sd2rt", component)
    assert model.ByteSize() < 400 * len(model.graph.node) + 300 * len(model.graph.initializer)


def axes(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    return tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)


@pytest.mark.parametrize(
    ("component", "inputs", "outputs"),
    [
        ("text_encoder", {"input_ids": ("batch", 77)}, {"last_hidden_state": ("batch", 77, 40)}),
        (
            "unet",
            {"sample": ("batch", 4, "height", "width"), "timestep": ("batch",), "encoder_hidden_states": ("batch", "sequence", 40)},
            {"out_sample": ("batch", 4, "height", "width")},
        ),
        ("vae_decoder", {"latent_sample": ("batch", 4, "height", "width")}, {"sample": ("batch", 3, "image_height", "image_width")}),
        ("vae_encoder", {"sample": ("batch", 3, "image_height", "image_width")}, {"latent_parameters": ("batch", 8, "height", "width")}),
    ],
)
def test_names_and_axes_are_the_bundles(bundle: Path, component: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
    graph = load(bundle, component).graph
    assert {value.name: axes(value) for value in graph.input} == inputs
    assert {value.name: axes(value) for value in graph.output} == outputs


@pytest.mark.parametrize(("batch", "height", "width", "tokens"), [(1, 8, 8, 77), (2, 5, 7, 77), (5, 3, 12, 231), (1, 17, 2, 154)])
def test_unet_takes_any_size(bundle: Path, pipe: Any, batch: int, height: int, width: int, tokens: int) -> None:
    """Odd latent sizes too, where diffusers upsamples to the size of the skip connection."""
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn((batch, 4, height, width), generator=generator)
    hidden = torch.randn((batch, tokens, 40), generator=generator)
    timestep = torch.linspace(1, 999, batch)
    with torch.inference_mode():
        expected = pipe.unet(sample, timestep, hidden).sample.numpy()
    feeds = {"sample": sample.numpy(), "timestep": timestep.numpy(), "encoder_hidden_states": hidden.numpy()}
    got = run_onnx(bundle / "unet" / "model.onnx", feeds)["out_sample"]
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_one_timestep_for_the_whole_batch_is_taken_too(bundle: Path) -> None:
    """optimum feeds a single timestep."""
    generator = np.random.default_rng(0)
    feeds = {
        "sample": generator.standard_normal((3, 4, 5, 7), np.float32),
        "encoder_hidden_states": generator.standard_normal((3, 77, 40), np.float32),
    }
    file = bundle / "unet" / "model.onnx"
    one, three = (run_onnx(file, feeds | {"timestep": np.full(count, 500, np.float32)})["out_sample"] for count in (1, 3))
    np.testing.assert_allclose(one, three, atol=1e-5)


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 6, 6), (2, 3, 11)])
def test_vae_halves_take_any_size(bundle: Path, pipe: Any, batch: int, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn((batch, 4, height, width), generator=generator)
    image = torch.randn((batch, 3, 8 * height, 8 * width), generator=generator)
    with torch.inference_mode():
        decoded, moments = pipe.vae.decode(latents).sample.numpy(), pipe.vae.quant_conv(pipe.vae.encoder(image)).numpy()
    got = run_onnx(bundle / "vae_decoder" / "model.onnx", {"latent_sample": latents.numpy()})["sample"]
    np.testing.assert_allclose(got, decoded, atol=1e-4)
    got = run_onnx(bundle / "vae_encoder" / "model.onnx", {"sample": image.numpy()})["latent_parameters"]
    np.testing.assert_allclose(got, moments, atol=1e-4)


def test_text_encoder_is_that_of_the_pipeline(bundle: Path, pipe: Any) -> None:
    ids = pipe.tokenizer(["a red cube", ""], padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.inference_mode():
        expected = pipe.text_encoder(ids).last_hidden_state.numpy()
    got = run_onnx(bundle / "text_encoder" / "model.onnx", {"input_ids": ids.numpy()})["last_hidden_state"]
    np.testing.assert_allclose(got, expected, atol=1e-4)
