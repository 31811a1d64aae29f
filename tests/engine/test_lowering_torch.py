"""Components of SD2's architecture, exported as the canonical graph is, lowered, optimized, and compared with torch."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from sd2rt.engine import BuildOptions, ComponentFiles, build_engine, open_engine
from tests.engine.graphs import relative_error, sha256

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

TOLERANCE = 1e-4  # largest difference relative to the output's spread, in float32
CPU = BuildOptions(target="cpu", threads=1)
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One exported component: its files, what torch computes from named arrays, and arrays for a batch, height and width."""

    files: ComponentFiles
    reference: Callable[[Arrays], npt.NDArray[Any]]
    feeds: Callable[[int, int, int], Arrays]


def noise(*shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(shape[0]).standard_normal(shape).astype(np.float32)


def unet() -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32,),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        attention_head_dim=4,
        cross_attention_dim=24,
        norm_num_groups=8,
        use_linear_projection=True,
    )


def vae_decoder() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
    )


def text_encoder() -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        hidden_size=32,
        num_attention_heads=4,
        num_hidden_layers=2,
        intermediate_size=64,
        vocab_size=100,
        hidden_act="gelu",
        projection_dim=32,
    )
    return CLIPTextModel(config)


class Call(torch.nn.Module):  # type: ignore[misc]
    """Give a model's first output for positional tensors."""

    def __init__(self, model: Any, method: str = "forward") -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, *tensors: Any) -> Any:
        return getattr(self.model, self.method)(*tensors, return_dict=False)[0]


DTYPES = {"unet": "float16", "vae_decoder": "float32", "text_encoder": "float16"}  # a dtype each: exporting takes most of the time
COMPONENTS: dict[str, tuple[Callable[[], Any], str, Callable[[int, int, int], Arrays], dict[str, dict[int, str]]]] = {
    "unet": (
        unet,
        "forward",
        lambda batch, height, width: {
            "sample": noise(batch, 4, height, width),
            "timestep": 100 * np.abs(noise(batch)),
            "encoder_hidden_states": noise(batch, 77, 24),
        },
        {"sample": {0: "batch", 2: "height", 3: "width"}, "timestep": {0: "batch"}, "encoder_hidden_states": {0: "batch", 1: "sequence"}},
    ),
    "vae_decoder": (
        vae_decoder,
        "decode",
        lambda batch, height, width: {"latent_sample": noise(batch, 4, height, width)},
        {"latent_sample": {0: "batch", 2: "height", 3: "width"}},
    ),
    "text_encoder": (
        text_encoder,
        "forward",
        lambda batch, height, width: {"input_ids": np.random.default_rng(batch).integers(0, 99, (batch, 77))},
        {"input_ids": {0: "batch"}},
    ),
}


def randomize(model: Any) -> Any:
    """Draw norms and biases too: at their default of 1 and 0, a lost one would go unseen."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            spread = 0.2 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread + (parameter.mean() if parameter.ndim == 1 else 0))
    return model.eval()


@pytest.fixture(scope="module", params=DTYPES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    name, dtype = request.param, DTYPES[request.param]
    make, method, feeds, axes = COMPONENTS[name]
    module = Call(randomize(make()), method).to(getattr(torch, dtype)).eval()
    folder = tmp_path_factory.mktemp(name)
    tensors = tuple(torch.from_numpy(array) for array in feeds(2, 8, 12).values())
    tensors = tuple(
        tensor.to(module.model.dtype) if array != "timestep" and tensor.is_floating_point() else tensor
        for array, tensor in zip(axes, tensors, strict=True)
    )
    dynamic = (tuple(dict.fromkeys(named, torch.export.Dim.DYNAMIC) for named in axes.values()),)
    program = torch.onnx.export(
        module, tensors, dynamo=True, opset_version=23, input_names=list(axes), output_names=["out"], dynamic_shapes=dynamic, verbose=False
    )
    program.save(folder / "model.onnx", external_data=True)
    paths = (folder / "model.onnx", folder / "model.onnx.data")
    files = ComponentFiles(name=name, onnx=paths[0], data=paths[1:], sha256={path.name: sha256(path) for path in paths})

    def reference(arrays: Arrays) -> npt.NDArray[Any]:
        with torch.no_grad():
            result: npt.NDArray[Any] = module.float()(*(torch.from_numpy(array) for array in arrays.values())).numpy()
        return result

    return Case(files=files, reference=reference, feeds=feeds)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 4, 10)], ids=["square", "batch, not square"])
def test_engine_computes_what_torch_does(case: Case, shape: tuple[int, int, int]) -> None:
    feeds = case.feeds(*shape)
    engine = open_engine(case.files, CPU)
    (result,) = engine.run(feeds).values()
    assert result.dtype == np.float32
    assert relative_error(result, case.reference(feeds)) <= TOLERANCE


def test_engine_is_made_of_the_fast_forms(case: Case) -> None:
    before = operations(case.files.onnx)
    after = operations(build_engine(case.files, CPU).folder / "engine.onnx")
    assert after["MultiHeadAttention"] == before["Attention"] > 0
    assert after["InstanceNormalization"] == before["GroupNormalization"]
    assert not {"Attention", "GroupNormalization", "Sigmoid", "Constant"} & after.keys()
    assert after["Cast"] == 0
    assert after["Transpose"] <= before["Transpose"] - 4 * before["Attention"]


def operations(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)
