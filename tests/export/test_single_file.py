from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sd2rt.engine.errors import ExportError
from sd2rt.export.presets import read_preset
from sd2rt.export.single_file import (
    CONV_IN_KEY,
    CROSS_ATTENTION_KEY,
    UPSCALER_ATTENTION_KEY,
    Header,
    detect_preset,
    from_configs,
    open_single_file,
    read_header,
)
from tests.export.test_ldm import original_layout
from tests.tiny import tiny_pipeline

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny_pipeline("v")


@pytest.fixture(scope="module")
def configs(pipe: Any) -> Mapping[str, Any]:
    modules = {"unet": dict(pipe.unet.config), "vae": dict(pipe.vae.config), "text_encoder": pipe.text_encoder.config.to_dict()}
    return {**read_preset("sd21"), **modules}


@pytest.fixture(scope="module")
def file(pipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("ldm") / "tiny.safetensors"
    extra = {"betas": torch.zeros(1000), "cond_stage_model.model.transformer.resblocks.23.ln_1.bias": torch.zeros(32)}
    tensors = {name: tensor.contiguous().half() for name, tensor in original_layout(pipe).items()} | extra
    save_file(tensors, file)
    return file


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder"])
def test_every_weight_comes_back_in_float32(pipe: Any, file: Path, configs: Mapping[str, Any], component: str) -> None:
    checkpoint = from_configs(file, configs, "sd21")
    loaded = checkpoint.load(component).state_dict()
    expected = getattr(pipe, component).state_dict()
    assert loaded.keys() == expected.keys()
    for name, tensor in expected.items():
        assert loaded[name].dtype == torch.float32
        assert torch.equal(loaded[name], tensor.half().float()), name


def test_the_layout_of_sd_turbo_is_read_too(pipe: Any, configs: Mapping[str, Any], tmp_path: Path) -> None:
    tensors = original_layout(pipe, text_prefix="conditioner.embedders.0.model.")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "sd_turbo.safetensors")
    checkpoint = from_configs(tmp_path / "sd_turbo.safetensors", configs, "sd-turbo")
    for component in ("unet", "vae", "text_encoder"):
        loaded = checkpoint.load(component).state_dict()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in getattr(pipe, component).state_dict().items())


def test_upscalers_are_read_with_their_noise_schedule(tmp_path: Path) -> None:
    pipe = tiny_pipeline("upscale")
    save_file({name: tensor.contiguous() for name, tensor in original_layout(pipe).items()}, tmp_path / "x4.safetensors")
    modules = {"unet": dict(pipe.unet.config), "vae": dict(pipe.vae.config), "text_encoder": pipe.text_encoder.config.to_dict()}
    checkpoint = from_configs(tmp_path / "x4.safetensors", {**read_preset("x4-upscaler"), **modules}, "x4-upscaler")
    assert checkpoint.task("auto") == "upscaling"
    for component in modules:
        loaded = checkpoint.load(component).state_dict()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in getattr(pipe, component).state_dict().items())


def test_depth_models_need_a_folder(file: Path) -> None:
    """Their single file keeps the depth estimator under MiDaS' names."""
    with pytest.raises(ExportError, match="without its depth estimator; export from a diffusers folder"):
        from_configs(file, read_preset("sd2-depth"), "sd2-depth").task("auto")


def test_a_preset_of_another_shape_is_noticed(file: Path) -> None:
    checkpoint = open_single_file(file, "sd2-base")
    assert checkpoint.name == "tiny"
    with pytest.raises(ExportError, match=r"has shape .* expected .* preset right"):
        checkpoint.load("vae")


def test_a_missing_weight_is_named(file: Path, configs: Mapping[str, Any]) -> None:
    deeper = {**configs, "text_encoder": configs["text_encoder"] | {"num_hidden_layers": 3}}
    with pytest.raises(ExportError, match=r"text_encoder encoder\.layers\.2\..* is missing"):
        from_configs(file, deeper, "sd21").load("text_encoder")


def header(width: int = 1024, channels: int = 4, metadata: Mapping[str, str] | None = None, *more: str) -> Header:
    shapes = {CROSS_ATTENTION_KEY: (320, width), CONV_IN_KEY: (320, channels, 3, 3), **dict.fromkeys(more, (0,))}
    return Header(shapes=shapes, metadata=metadata or {})


@pytest.mark.parametrize(
    ("header", "name", "preset"),
    [
        (header(metadata={"modelspec.architecture": "stable-diffusion-v2-768-v"}), "mine.safetensors", "sd21"),
        (header(metadata={"modelspec.architecture": "stable-diffusion-v2-512"}), "mine.safetensors", "sd21-base"),
        (header(metadata={"modelspec.prediction_type": "v"}), "mine.safetensors", "sd21"),
        (header(metadata={"modelspec.prediction_type": "epsilon"}), "v2-1_768-ema-pruned.safetensors", "sd21-base"),
        (header(1024, 4, None, "v_pred"), "mine.safetensors", "sd21"),
        (header(), "v2-1_768-ema-pruned.safetensors", "sd21"),
        (header(), "v2-1_512-nonema-pruned.safetensors", "sd21-base"),
        (header(), "768-v-ema.safetensors", "sd2"),
        (header(), "512-base-ema.safetensors", "sd2-base"),
        (header(), "sd_turbo.safetensors", "sd-turbo"),
        (header(metadata={"modelspec.prediction_type": "epsilon"}), "sd_turbo.safetensors", "sd-turbo"),
        (header(metadata={"modelspec.architecture": "stable-diffusion-v2-512"}), "sd_turbo_fp16.safetensors", "sd-turbo"),
        (header(metadata={"modelspec.prediction_type": "v"}), "sd_turbo_merged.safetensors", "sd21"),
        (header(channels=9), "mine.safetensors", "sd2-inpainting"),
        (Header(shapes={UPSCALER_ATTENTION_KEY: (512, 1024), CONV_IN_KEY: (256, 7, 3, 3)}, metadata={}), "mine.safetensors", "x4-upscaler"),
    ],
)
def test_what_the_file_tells(header: Header, name: str, preset: str) -> None:
    assert detect_preset(header, name) == preset


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (header(), "--preset"),
        (header(width=768), "text width 768"),
        (header(channels=5), "5 UNet channels"),
        (header(width=768, channels=9), "text width 768 and 9 UNet channels"),
        (Header(shapes={"unet.conv_in.weight": (1,)}, metadata={}), "original layout"),
    ],
)
def test_what_the_file_does_not_tell_is_asked_for(header: Header, words: str) -> None:
    with pytest.raises(ExportError, match=words):
        detect_preset(header, "mine.safetensors")


def test_a_file_without_tensors_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "fake.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(ExportError, match=r"cannot read .*fake\.safetensors"):
        read_header(tmp_path / "fake.safetensors")
