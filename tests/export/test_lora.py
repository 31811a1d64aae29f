"""Merged layers against the LoRA run beside the layer, as it is trained: merged(x) = layer(x) + scale * alpha / rank * up(down(x))."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from sd2rt.engine.errors import ExportError, ModelNotFound
from sd2rt.export import ExportOptions, Lora, export
from sd2rt.export.folder import open_folder
from sd2rt.export.lora import merge_loras
from tests.tiny import shared_folder, tiny_bundle, tiny_checkpoint, tiny_pipeline
from tests.traced import traced_once

pytestmark = pytest.mark.torch

Tensors = dict[str, torch.Tensor]
ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0"
PROJECTIONS = (f"{ATTENTION}.attn1.to_q", f"{ATTENTION}.attn2.to_k", f"{ATTENTION}.attn1.to_out.0")
UNET_LAYERS = (
    *PROJECTIONS,
    f"{ATTENTION}.ff.net.0.proj",
    "down_blocks.0.attentions.0.proj_in",  # linear in SD2, a 1 x 1 kernel in the "conv" variant
    "conv_in",
    "mid_block.resnets.0.conv1",
    "down_blocks.0.downsamplers.0.conv",  # with a stride
    "down_blocks.1.resnets.0.conv_shortcut",  # 1 x 1
    "time_embedding.linear_1",
)
TEXT_LAYERS = ("encoder.layers.0.self_attn.q_proj", "encoder.layers.1.self_attn.out_proj", "encoder.layers.1.mlp.fc2")
LAYERS = {"unet": UNET_LAYERS, "text_encoder": TEXT_LAYERS}
TEXT_OLD = {"q_proj": "to_q", "out_proj": "to_out"}


def kohya(component: str, layer: str, part: str) -> str:
    prefix = "lora_unet_" if component == "unet" else "lora_te_text_model_"
    return prefix + layer.replace(".", "_") + ("." + part if part == "alpha" else f".lora_{part}.weight")


def peft(component: str, layer: str, part: str) -> str:
    return f"{component}.{layer}." + ("alpha" if part == "alpha" else {"down": "lora_A.weight", "up": "lora_B.weight"}[part])


def middle_aged(component: str, layer: str, part: str) -> str:
    inner = "lora" if component == "unet" else "lora_linear_layer"
    return f"{component}.{layer}.{inner}.{part}.weight"


def processor(component: str, layer: str, part: str) -> str:
    """Only attention has these names; what they are for other layers is in no file."""
    head, _, last = layer.removesuffix(".0").rpartition(".")
    if component == "text_encoder":
        return f"text_encoder.text_model.{head}.{TEXT_OLD.get(last, last)}_lora.{part}.weight"
    return f"unet.{head}.processor.{last}_lora.{part}.weight"


Name = Callable[[str, str, str], str]


def draw(pipe: Any, name: Name, layers: tuple[str, ...] = UNET_LAYERS, text_layers: tuple[str, ...] = TEXT_LAYERS) -> Tensors:
    """Draw down and up of rank 3 for the layers, with kernels where the layer has them."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for component, names in (("unet", layers), ("text_encoder", text_layers)):
        for layer in names:
            weight = getattr(pipe, component).get_submodule(layer).weight
            kernel = (1,) * (weight.ndim - 2)
            tensors[name(component, layer, "down")] = torch.randn((3, *weight.shape[1:]), generator=generator) / weight[0].numel() ** 0.5
            tensors[name(component, layer, "up")] = torch.randn((len(weight), 3, *kernel), generator=generator)
    return tensors


def side_branch(layer: nn.Module, down: torch.Tensor, up: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return up(down(x)) with the layer's own stride and padding."""
    if isinstance(layer, nn.Conv2d):
        return functional.conv2d(functional.conv2d(x, down, None, layer.stride, layer.padding), up)
    return functional.linear(functional.linear(x, down), up)


def layer_input(layer: Any) -> torch.Tensor:
    shape = (2, layer.in_channels, 7, 6) if isinstance(layer, nn.Conv2d) else (2, 5, layer.in_features)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def assert_merged(pipe: Any, merged: dict[str, Any], tensors: Tensors, name: Name, factor: float) -> None:
    """Check every layer that `tensors` name, and that all other weights are as they were."""
    touched = set()
    with torch.inference_mode():
        for component, layers in LAYERS.items():
            for path in layers:
                if name(component, path, "down") in tensors:
                    layer, got = getattr(pipe, component).get_submodule(path), merged[component].get_submodule(path)
                    x = layer_input(layer)
                    beside = side_branch(layer, tensors[name(component, path, "down")], tensors[name(component, path, "up")], x)
                    assert beside.std() > 0.5
                    torch.testing.assert_close(got(x), layer(x) + factor * beside, rtol=1e-4, atol=1e-4)
                    touched.add((component, f"{path}.weight"))
    assert len(touched) == len(tensors) // 2
    for component in ("unet", "text_encoder", "vae"):
        for key, weight in getattr(pipe, component).state_dict().items():
            if (component, key) not in touched:
                assert torch.equal(merged[component].state_dict()[key], weight), key


def merge(variant: str, *loras: Lora) -> dict[str, Any]:
    checkpoint = merge_loras(open_folder(tiny_checkpoint(variant)), loras)
    return {component: checkpoint.load(component) for component in ("unet", "text_encoder", "vae")}


def save(folder: Path, tensors: Tensors, metadata: dict[str, str] | None = None, file: str = "lora.safetensors") -> Path:
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / file, metadata=metadata)
    return folder / file


@pytest.mark.parametrize("variant", ["v", "conv"])
@pytest.mark.parametrize("name", [kohya, peft, middle_aged])
def test_every_kind_of_layer_is_merged_from_every_style(name: Name, variant: str, tmp_path: Path) -> None:
    pipe = tiny_pipeline(variant)
    tensors = draw(pipe, name)
    merged = merge(variant, Lora(file=save(tmp_path, tensors), scale=0.7))
    assert_merged(pipe, merged, tensors, name, 0.7)


def test_attention_processors_of_old_files_are_merged(tmp_path: Path) -> None:
    pipe = tiny_pipeline("v")
    tensors = draw(pipe, processor, PROJECTIONS, TEXT_LAYERS[:2])
    merged = merge("v", Lora(file=save(tmp_path, tensors)))
    assert_merged(pipe, merged, tensors, processor, 1.0)


@pytest.mark.parametrize("name", [kohya, peft])
def test_alpha_over_rank_scales(name: Name, tmp_path: Path) -> None:
    pipe = tiny_pipeline("v")
    tensors = draw(pipe, name)
    alphas = {name(component, layer, "alpha"): torch.tensor(6.0) for component, layers in LAYERS.items() for layer in layers}
    merged = merge("v", Lora(file=save(tmp_path, tensors | alphas), scale=-0.5))
    assert_merged(pipe, merged, tensors, name, -0.5 * 6 / 3)


@pytest.mark.parametrize(
    ("config", "factor"),
    [
        ({"unet.lora_alpha": 6, "text_encoder.lora_alpha": 6, "unet.use_rslora": False}, 2.0),
        ({"unet.lora_alpha": 6, "text_encoder.lora_alpha": 6, "unet.use_rslora": True, "text_encoder.use_rslora": True}, 6 / 3**0.5),
        ({"lora_alpha": 1, "alpha_pattern": {r"attn\d\.to_q": 12, "conv_in": 12}}, None),
    ],
)
def test_pefts_own_configuration_scales(config: dict[str, Any], factor: float | None, tmp_path: Path) -> None:
    pipe = tiny_pipeline("v")
    tensors = draw(pipe, peft)
    merged = merge("v", Lora(file=save(tmp_path, tensors, {"lora_adapter_metadata": json.dumps(config)})))
    if factor is not None:
        assert_merged(pipe, merged, tensors, peft, factor)
        return
    for layer, alpha in {PROJECTIONS[0]: 12, "conv_in": 12, PROJECTIONS[1]: 1}.items():
        before, after = pipe.unet.get_submodule(layer).weight, merged["unet"].get_submodule(layer).weight
        down, up = tensors[peft("unet", layer, "down")], tensors[peft("unet", layer, "up")]
        product = (up.flatten(1) @ down.flatten(1)).reshape(before.shape)
        torch.testing.assert_close(after - before, alpha / 3 * product, rtol=1e-4, atol=1e-5)


def test_kernels_with_a_mid_tensor_are_merged(tmp_path: Path) -> None:
    """LoCon in Tucker form: 1 x 1 down, 3 x 3 mid, 1 x 1 up."""
    layer = tiny_pipeline("v").unet.mid_block.resnets[0].conv1
    out, channels = layer.weight.shape[:2]
    generator = torch.Generator().manual_seed(0)
    shapes = {"down": (3, channels, 1, 1), "mid": (2, 3, 3, 3), "up": (out, 2, 1, 1)}
    parts = {part: torch.randn(shape, generator=generator) for part, shape in shapes.items()}
    tensors = {kohya("unet", "mid_block.resnets.0.conv1", part): tensor for part, tensor in parts.items()}
    got = merge("v", Lora(file=save(tmp_path, tensors)))["unet"].mid_block.resnets[0].conv1
    x = layer_input(layer)
    with torch.inference_mode():
        beside = functional.conv2d(functional.conv2d(functional.conv2d(x, parts["down"]), parts["mid"], padding=1), parts["up"])
        torch.testing.assert_close(got(x), layer(x) + beside, rtol=1e-4, atol=1e-3)


def test_several_add_up_and_half_precision_files_are_read(tmp_path: Path) -> None:
    pipe = tiny_pipeline("v")
    tensors = {key: tensor.half() for key, tensor in draw(pipe, kohya).items()}
    first, second = save(tmp_path, tensors), save(tmp_path, tensors, file="b.safetensors")
    merged = merge("v", Lora(file=first), Lora(file=second, scale=0.25))
    assert_merged(pipe, merged, {key: tensor.float() for key, tensor in tensors.items()}, kohya, 1.25)


def test_without_loras_nothing_changes() -> None:
    checkpoint = open_folder(tiny_checkpoint("v"))
    assert merge_loras(checkpoint, ()) is checkpoint


QUERY = PROJECTIONS[0]


def one(down: tuple[int, ...], up: tuple[int, ...], layer: str = QUERY) -> Tensors:
    return {kohya("unet", layer, "down"): torch.ones(down), kohya("unet", layer, "up"): torch.ones(up)}


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (
            one((3, 24), (24, 3)) | {"lora_unet_conv_in.hada_w1_a": torch.ones(1)},
            r"1 of 3 tensors fit no layer.*lora_unet_conv_in\.hada_w1_a",
        ),
        (one((3, 24), (24, 3), "input_blocks.1.1.proj_in"), r"2 of 2 tensors fit no layer.*lora_unet_input_blocks_1_1_proj_in\.lora_down"),
        ({"lora_unet_time_embedding.alpha": torch.ones(())}, "1 of 1 tensors fit no layer"),
        ({}, "0 of 0 tensors fit no layer of this model"),
        ({kohya("unet", QUERY, "alpha"): torch.ones(())}, r"to_q\.alpha stands alone; expected a down and an up"),
        ({kohya("unet", QUERY, "up"): torch.ones(24, 3)}, r"to_q\.lora_up\.weight stands alone"),
        (one((3, 24), (24, 3)) | {peft("unet", QUERY, "up"): torch.ones(24, 3)}, "both .* are for one layer"),
        (one((3, 40), (24, 3)), r"\[3, 40\] and .* \[24, 3\] do not make the layer's weight \[24, 24\]; .*another model"),
        (one((3, 24), (24, 4)), "do not make"),
        (one((3, 24), (48, 3)), "do not make"),
        (one((3,), (24,)), "do not make"),
        (one((3, 4, 1, 1), (24, 3, 3, 3), "conv_in"), "do not make"),
        (one((3, 4, 3, 3), (24, 3, 1, 1), "conv_in") | {kohya("unet", "conv_in", "mid"): torch.ones(3, 3, 3, 3)}, "do not make"),
        (one((3, 24), (24, 3)) | {kohya("unet", QUERY, "mid"): torch.ones(3, 3)}, "do not make"),
    ],
)
def test_what_does_not_fit_is_named_before_any_work(tensors: Tensors, words: str, tmp_path: Path) -> None:
    checkpoint = open_folder(tiny_checkpoint("v"))
    with pytest.raises(ExportError, match=words) as caught:
        merge_loras(replace(checkpoint, load=pytest.fail), (Lora(file=save(tmp_path, tensors)),))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "3", '{"unet.alpha_pattern": {"(": 1}}', '{"alpha_pattern": {"to_q": "x"}}'])
def test_damaged_metadata_is_one_clear_error(text: str, tmp_path: Path) -> None:
    file = save(tmp_path, one((3, 24), (24, 3)), {"lora_adapter_metadata": text})
    with pytest.raises(ExportError, match="metadata lora_adapter_metadata cannot be read"):
        merge("v", Lora(file=file))


def test_only_safetensors_are_opened(tmp_path: Path) -> None:
    (tmp_path / "lora.pt").touch()
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(ExportError, match=r"got a \.pt, expected \.safetensors; .*any code"):
        merge("v", Lora(file=tmp_path / "lora.pt"))
    with pytest.raises(ExportError, match="file without ending"):
        merge("v", Lora(file=tmp_path / "lora"))
    with pytest.raises(ModelNotFound, match=r"no LoRA file .*gone\.safetensors"):
        merge("v", Lora(file=tmp_path / "gone.safetensors"))
    with pytest.raises(ExportError, match=r"cannot read .*broken\.safetensors"):
        merge("v", Lora(file=tmp_path / "broken.safetensors"))


def test_bundles_say_what_was_merged_and_have_other_weights(tmp_path: Path) -> None:
    """A text encoder's LoRA, so that hashes tell which components it changed."""
    pipe = tiny_pipeline("epsilon")
    file = save(tmp_path, draw(pipe, kohya, (), TEXT_LAYERS))
    options = ExportOptions(dtype="fp32", loras=(Lora(file=file, scale=0.5),))
    with traced_once(shared_folder()):
        export(tiny_checkpoint("epsilon"), tmp_path / "merged", options)
    bundles = (tmp_path / "merged", tiny_bundle("epsilon", "fp32"))
    merged, plain = (json.loads((bundle / "bundle.json").read_text()) for bundle in bundles)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert merged["export"]["loras"] == [{"file": "lora.safetensors", "sha256": digest, "scale": 0.5}]
    assert plain["export"]["loras"] == []
    hashes = [{name: part["files"]["model.onnx.data"]["sha256"] for name, part in facts["components"].items()} for facts in (merged, plain)]
    assert {name for name, value in hashes[0].items() if value != hashes[1][name]} == {"text_encoder"}


@pytest.mark.parametrize("name", [kohya, peft, middle_aged, processor])
def test_fused_weights_are_those_of_diffusers_and_peft(name: Name, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed; the same is tested against the layers themselves")
    pipe = tiny_pipeline("v")
    layers = (PROJECTIONS, TEXT_LAYERS[:2]) if name is processor else (UNET_LAYERS, TEXT_LAYERS)
    tensors = draw(pipe, name, *layers)
    if name is kohya:
        tensors |= {kohya("unet", layer, "alpha"): torch.tensor(1.5) for layer in UNET_LAYERS}
        tensors |= {kohya("text_encoder", layer, "alpha"): torch.tensor(1.5) for layer in TEXT_LAYERS}
    file = save(tmp_path, tensors)
    merged = merge("v", Lora(file=file, scale=0.7))
    pipe.load_lora_weights(str(tmp_path), weight_name=file.name)
    pipe.fuse_lora(lora_scale=0.7)
    pipe.unload_lora_weights()
    for component in ("unet", "text_encoder"):
        fused = {key.replace(".base_layer", ""): weight for key, weight in getattr(pipe, component).state_dict().items()}
        for key, weight in merged[component].state_dict().items():
            torch.testing.assert_close(weight, fused[key], rtol=1e-5, atol=1e-5, msg=key)
