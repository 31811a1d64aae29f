"""The decoder fused with its pixels, against the decoder alone and runtime/image.py: the same bytes to the last bit."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from sd2rt.engine.errors import BuildError
from sd2rt.engine.pixel_graph import fuse_pixels
from sd2rt.engine.spec import PixelForm
from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.image import to_uint8, to_unit
from sd2rt.toyworld import __file__ as toyworld
from tests.engine.graphs import block, graph
from tests.engine.written import write_form

Arrays = dict[str, npt.NDArray[Any]]
FACTOR = 0.18215


def decoder(dtype: str = "float32") -> onnx.ModelProto:
    """Return Conv and DepthToSpace: latent_sample [batch, 4, h, w] -> sample [batch, 3, 2 h, 2 w]."""
    kernel = np.random.default_rng(0).standard_normal((12, 4, 3, 3)) * 0.1
    nodes = [
        helper.make_node("Conv", ["latent_sample", "kernel"], ["parts"], pads=[1, 1, 1, 1]),
        helper.make_node("DepthToSpace", ["parts"], ["sample"], blocksize=2),
    ]
    return _decoder(nodes, 4, dtype, {"kernel": kernel.astype(dtype)})


def transparent(*operators: str, dtype: str = "float32") -> onnx.ModelProto:
    """Return a decoder of three latent channels that applies elementwise operators, or none: what comes out is known."""
    names = ["latent_sample", *(f"after {operator}" for operator in operators[:-1]), "sample"]
    nodes = [helper.make_node(operator, [names[index]], [names[index + 1]]) for index, operator in enumerate(operators)]
    return _decoder(nodes, 3, dtype, {})


def _decoder(nodes: Sequence[onnx.NodeProto], channels: int, dtype: str, weights: Arrays) -> onnx.ModelProto:
    inputs = [("latent_sample", dtype, ["batch", channels, "height", "width"])]
    return graph(nodes, inputs, [("sample", dtype, ["batch", 3, "image_height", "image_width"])], weights)


def run(model: onnx.ModelProto, **feeds: npt.NDArray[Any]) -> Arrays:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([value.name for value in session.get_outputs()], session.run(None, feeds), strict=True))


def run_half(model: onnx.ModelProto, **feeds: npt.NDArray[Any]) -> Arrays:
    """Run in true float16 arithmetic; ONNX Runtime's CPU kernels compute in float32 and do not overflow."""
    evaluator = ReferenceEvaluator(model)
    return dict(zip(evaluator.output_names, evaluator.run(None, feeds), strict=True))


def normals(*shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize(("dtype", "compute"), [("float32", run), ("float16", run_half)])
def test_pictures_are_those_of_the_runtime(dtype: str, compute: Callable[..., Arrays]) -> None:
    latents = FACTOR * normals(2, 4, 3, 5)
    scaled = (latents / np.float32(FACTOR)).astype(dtype)
    expected = to_unit(compute(decoder(dtype), latent_sample=scaled)["sample"].astype(np.float32))
    assert expected.shape == (2, 6, 10, 3)
    assert expected.std() > 0.2
    got = compute(fuse_pixels(decoder(dtype), FACTOR), latents=latents)
    np.testing.assert_array_equal(got["unit"], expected)
    np.testing.assert_array_equal(got["pixels"], to_uint8(expected))
    assert (got["pixels"].dtype, got["broken"].tolist()) == (np.uint8, [0])


def test_bytes_are_rounded_as_the_runtime_rounds_them() -> None:
    """Every half, its neighbours in float32, and what lies outside [-1, 1]."""
    halves = np.float32(2) * (np.arange(-2, 258, dtype=np.float32) + np.float32(0.5)) / np.float32(255) - np.float32(1)
    values = np.concatenate([np.nextafter(halves, -2), halves, np.nextafter(halves, 2), np.linspace(-3, 3, 1001, dtype=np.float32)])
    values = np.resize(values, (1, 3, 20, 30)).astype(np.float32)
    got = run(fuse_pixels(transparent("Identity"), 1.0), latents=values)
    np.testing.assert_array_equal(got["unit"], to_unit(values))
    np.testing.assert_array_equal(got["pixels"], to_uint8(to_unit(values)))
    halfway = got["unit"] * np.float32(255) % 1 == 0.5
    assert halfway.sum() > 50


def test_inputs_and_outputs() -> None:
    made = fuse_pixels(decoder("float16"), FACTOR)
    onnx.checker.check_model(made, full_check=True)
    kinds = {value.name: value.type.tensor_type for value in (*made.graph.input, *made.graph.output)}
    described = {
        name: (TensorProto.DataType.Name(kind.elem_type), [axis.dim_param or axis.dim_value for axis in kind.shape.dim])
        for name, kind in kinds.items()
    }
    assert described == {
        "latents": ("FLOAT", ["images", 4, "height", "width"]),
        "pixels": ("UINT8", ["images", "image_height", "image_width", 3]),
        "unit": ("FLOAT", ["images", "image_height", "image_width", 3]),
        "broken": ("INT32", [1]),
    }


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_broken_tells_of_a_latent_that_is_not_finite(value: float) -> None:
    """Of any image, even where the decoder hides it."""
    latents = normals(2, 3, 2, 2)
    model = fuse_pixels(transparent("Sign", "Abs", "Tanh"), FACTOR)
    assert run(model, latents=latents)["broken"] == [0]
    latents[1, 2, 0, 1] = value
    assert run(model, latents=latents)["broken"] == [1]


@pytest.mark.parametrize(("operator", "value"), [("Sqrt", -1.0), ("Log", 0.0), ("Reciprocal", 0.0)])
def test_broken_tells_of_a_decoded_value_that_is_not_finite(operator: str, value: float) -> None:
    """NaN, minus infinity and infinity, in the second image."""
    latents = np.ones((2, 3, 2, 2), np.float32)
    model = fuse_pixels(transparent(operator), 1.0)
    assert run(model, latents=latents)["broken"] == [0]
    latents[1, 0, 1, 0] = value
    assert run(model, latents=latents)["broken"] == [1]


@pytest.mark.parametrize("value", [3e38, -3e38])
def test_huge_numbers_are_not_broken(value: float) -> None:
    got = run(fuse_pixels(transparent("Identity"), 1.0), latents=np.full((1, 3, 2, 2), value, np.float32))
    assert (got["broken"].tolist(), set(got["pixels"].ravel().tolist())) == ([0], {255 if value > 0 else 0})


def test_latents_that_overflow_a_float16_decoder_are_broken() -> None:
    latents = np.full((1, 3, 2, 2), 1000.0, np.float32)
    model = fuse_pixels(transparent("Identity", dtype="float16"), 1 / 60)
    assert run_half(model, latents=latents)["broken"] == [0]
    assert run_half(model, latents=2 * latents)["broken"] == [1]


def test_toyworlds_decoder(tmp_path: Path) -> None:
    bundle = read_bundle(Path(toyworld).with_name("bundle"))
    files = bundle.component("vae_decoder").files
    latents = normals(2, 4, 8, 8)
    scaled = (latents / np.float32(bundle.scaling_factor)).astype(np.float16)
    decoded = onnxruntime.InferenceSession(files.onnx, providers=["CPUExecutionProvider"]).run(None, {"latent_sample": scaled})[0]
    path = write_form(files, PixelForm(scaling_factor=bundle.scaling_factor), tmp_path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    pixels, broken = session.run(["pixels", "broken"], {"latents": latents})
    expected = to_uint8(to_unit(decoded.astype(np.float32)))
    assert expected.shape == (2, 64, 64, 3)
    assert np.abs(pixels.astype(int) - expected.astype(int)).max() <= 1
    assert broken == [0]


def test_a_graph_that_is_no_decoder_is_refused() -> None:
    with pytest.raises(BuildError, match="got a graph of sample -> out_sample; expected latent_sample -> sample: export the bundle again"):
        fuse_pixels(block(), FACTOR)
