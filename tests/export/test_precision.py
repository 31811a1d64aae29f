"""The fp16 rules, each on a graph that was really exported and in real half-precision arithmetic."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, numpy_helper

from sd2rt.export import components
from sd2rt.export.canonical import CONSTANT, canonicalize
from sd2rt.export.options import component_dtype
from sd2rt.export.precision import upcast_attention
from sd2rt.export.verify import compare, run_onnx, run_reference
from tests.tiny import TinyVariant, shared_folder, tiny_bundle, tiny_pipeline
from tests.traced import take

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def unet() -> onnx.ModelProto:
    return onnx.load(tiny_bundle("upcast", "fp16") / "unet" / "model.onnx")


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


def attribute(node: onnx.NodeProto, name: str) -> Any:
    return next(onnx.helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name)


@pytest.mark.parametrize(
    ("component", "dtype", "task", "expected"),
    [
        ("unet", "fp16", "text-to-image", "float16"),
        ("unet", "fp32", "text-to-image", "float32"),
        ("unet", "fp16", "upscaling", "float16"),
        ("vae_decoder", "fp16", "text-to-image", "float16"),
        ("vae_decoder", "fp16", "upscaling", "float32"),
        ("vae_encoder", "fp16", "upscaling", "float32"),
    ],
)
def test_only_the_upscalers_vae_stays_float32(component: str, dtype: str, task: str, expected: str) -> None:
    assert component_dtype(component, dtype, task) == expected


def test_weights_are_float16(unet: onnx.ModelProto) -> None:
    weights = [value for value in unet.graph.initializer if not value.name.startswith(CONSTANT)]
    assert {value.data_type for value in weights} == {TensorProto.FLOAT16}
    source = tiny_pipeline("upcast").unet.conv_in.weight
    stored = next(numpy_helper.to_array(value) for value in weights if value.name == "conv_in.weight")
    np.testing.assert_array_equal(stored, source.detach().half().numpy())


def test_norms_take_their_statistics_in_float32() -> None:
    for component in ("text_encoder", "unet", "vae_decoder", "vae_encoder"):
        graph = onnx.load(tiny_bundle("upcast", "fp16") / component / "model.onnx").graph
        norms = [node for node in graph.node if node.op_type in ("GroupNormalization", "LayerNormalization")]
        assert norms
        assert {attribute(node, "stash_type") for node in norms} == {TensorProto.FLOAT}


def test_norms_survive_variances_beyond_half_precision() -> None:
    """Activations near 500 have a variance of 250,000: infinity in float16, and zeros after the norm."""
    pipe = tiny_pipeline("upcast")
    generator = torch.Generator().manual_seed(0)
    sample = (500 * torch.randn((2, 4, 8, 6), generator=generator)).half()
    hidden, timestep = torch.randn((2, 77, 32), generator=generator).half(), torch.tensor([10.0, 900.0])
    with torch.inference_mode():
        exact = pipe.unet(sample.float(), timestep, hidden.float()).sample.numpy()
        half = pipe.unet.half()(sample, timestep, hidden).sample.float().numpy()
    feeds = {"sample": sample.numpy(), "timestep": timestep.numpy(), "encoder_hidden_states": hidden.numpy()}
    got = run_onnx(tiny_bundle("upcast", "fp16") / "unet" / "model.onnx", feeds)["out_sample"]
    assert compare(exact, got, "float16").psnr_db > 50
    assert compare(half, got, "float16").psnr_db > 50


def test_time_embedding_is_computed_in_float32(unet: onnx.ModelProto) -> None:
    """From the float32 timestep through sine and cosine; the one cast to float16 comes after."""
    assert next(value for value in unet.graph.input if value.name == "timestep").type.tensor_type.elem_type == TensorProto.FLOAT
    made_by = producers(unet)
    first = next(node for node in unet.graph.node if node.op_type == "Gemm" and node.input[1] == "time_embedding.linear_1.weight")
    cast = made_by[first.input[0]]
    assert (cast.op_type, attribute(cast, "to")) == ("Cast", TensorProto.FLOAT16)
    waiting, seen = [cast.input[0]], set()
    while waiting:
        node = made_by.get(waiting.pop())
        if node is not None:
            seen.add(node.op_type)
            waiting += node.input
    assert {"Sin", "Cos"} <= seen
    assert "Cast" not in seen


def test_upcast_attention_has_casts_around_every_attention(unet: onnx.ModelProto) -> None:
    made_by = producers(unet)
    attentions = [node for node in unet.graph.node if node.op_type == "Attention"]
    assert len(attentions) == 8
    for node in attentions:
        for name in node.input[:3]:
            assert (made_by[name].op_type, attribute(made_by[name], "to")) == ("Cast", TensorProto.FLOAT)
        users = [user for user in unet.graph.node if node.output[0] in user.input]
        assert [(user.op_type, attribute(user, "to")) for user in users] == [("Cast", TensorProto.FLOAT16)]


def test_models_without_the_flag_have_no_such_casts() -> None:
    graph = onnx.load(tiny_bundle("upscale", "fp16") / "unet" / "model.onnx").graph
    assert [node.op_type for node in graph.node].count("Cast") == 1


def test_attention_that_overflows_half_precision_is_finite_when_upcast(tmp_path: Path) -> None:
    """Logits beyond 65,504, run by onnxruntime's float16 kernels: NaN as torch exports it, right with the casts."""
    pipe = tiny_pipeline(TinyVariant(upcast=True, widths=(32, 32), heads=(1, 1), mid_block=False))
    with torch.no_grad():
        for name, weight in pipe.unet.named_parameters():
            if name.endswith(("attn1.to_q.weight", "attn1.to_k.weight")):
                weight.mul_(200)
    component = components.unet(pipe.unet)
    reference = run_reference(component)
    component.module.half()
    model = take(component, shared_folder())
    canonicalize(model, component)
    feeds = {spec.name: reference.feeds[spec.name].astype(spec.numpy_dtype("float16")) for spec in component.inputs}
    ir.save(model, tmp_path / "plain.onnx")
    assert not np.isfinite(run_onnx(tmp_path / "plain.onnx", feeds)["out_sample"]).all()
    upcast_attention(model)
    ir.save(model, tmp_path / "upcast.onnx")
    got = run_onnx(tmp_path / "upcast.onnx", feeds)["out_sample"]
    assert np.isfinite(got).all()
    assert np.corrcoef(got.ravel(), reference.outputs["out_sample"].ravel())[0, 1] > 0.95
