import hashlib
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sd2rt.engine.errors import ExportError, InvalidArgument, MissingDependency, ModelNotFound
from sd2rt.export import ExportOptions, export
from sd2rt.export import bundle as bundle_module
from sd2rt.export.folder import open_folder
from sd2rt.export.verify import MAX_RELATIVE, MIN_PSNR_DB, run_onnx
from tests.tiny import tiny_bundle, tiny_checkpoint, tiny_pipeline

pytestmark = pytest.mark.torch

COMPONENTS = ["text_encoder", "unet", "vae_decoder", "vae_encoder"]


def described(bundle: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((bundle / "bundle.json").read_text())
    return result


def test_bundle_says_what_the_model_is() -> None:
    facts = described(tiny_bundle("upcast", "fp16"))
    assert facts["schema_version"] == 1
    assert (facts["name"], facts["task"], facts["prediction_type"]) == ("tiny-upcast", "text-to-image", "v_prediction")
    assert (facts["native_size"], facts["latent_channels"], facts["latent_factor"]) == ([48, 48], 4, 8)
    assert facts["scaling_factor"] == 0.18215
    assert facts["scheduler"]["_class_name"] == "DDIMScheduler"
    assert facts["defaults"] == {"steps": 30, "guidance_scale": 7.5, "sampler": "ddim"}
    assert list(facts["components"]) == COMPONENTS
    assert facts["export"]["opset"] == 23
    assert facts["export"]["weights_seed"] is None


@pytest.mark.parametrize(("variant", "dtype"), [("upcast", "fp16"), ("conv", "fp32"), ("depth", "fp16"), ("upscale", "fp16")])
def test_every_file_is_there_with_its_hash(variant: str, dtype: str) -> None:
    bundle = tiny_bundle(variant, dtype)
    facts = described(bundle)
    files = dict(facts["files"])
    for name, component in facts["components"].items():
        files |= {f"{name}/{file}": entry for file, entry in component["files"].items()}
    on_disk = {file.relative_to(bundle).as_posix() for file in bundle.rglob("*") if file.is_file()}
    assert files.keys() == on_disk - {"bundle.json"}
    for name, entry in files.items():
        content = (bundle / name).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (entry["sha256"], entry["bytes"])
    assert {"model_index.json", "scheduler/scheduler_config.json", "tokenizer/tokenizer.json", "unet/config.json"} <= files.keys()


def test_tensors_are_described_with_their_dtypes() -> None:
    unet = described(tiny_bundle("upcast", "fp16"))["components"]["unet"]
    assert unet["inputs"] == [
        {"name": "sample", "dtype": "float16", "shape": ["batch", 4, "height", "width"]},
        {"name": "timestep", "dtype": "float32", "shape": ["batch"]},
        {"name": "encoder_hidden_states", "dtype": "float16", "shape": ["batch", "sequence", 32]},
    ]
    assert unet["outputs"] == [{"name": "out_sample", "dtype": "float16", "shape": ["batch", 4, "height", "width"]}]


def test_configs_lie_beside_the_graphs_as_diffusers_writes_them() -> None:
    bundle = tiny_bundle("conv", "fp32")
    configs = {name: json.loads((bundle / name / "config.json").read_text()) for name in COMPONENTS}
    assert configs["text_encoder"]["architectures"] == ["CLIPTextModel"]
    classes = [configs[name]["_class_name"] for name in COMPONENTS[1:]]
    assert classes == ["UNet2DConditionModel", "AutoencoderKL", "AutoencoderKL"]
    assert not any("_name_or_path" in config for config in configs.values())


@pytest.mark.parametrize(("variant", "dtype"), [("upcast", "fp16"), ("conv", "fp32"), ("depth", "fp16"), ("depth", "fp32")])
def test_every_component_records_how_it_compared(variant: str, dtype: str) -> None:
    for component in described(tiny_bundle(variant, dtype))["components"].values():
        comparison = component["comparison"]
        assert comparison["reference"] == "torch float32"
        assert 0 < comparison["max_abs"] < 0.1
        if dtype == "fp32":
            assert comparison["max_relative"] <= MAX_RELATIVE
        else:
            assert comparison["psnr_db"] >= MIN_PSNR_DB


def test_upscaler_has_class_labels_and_a_float32_vae() -> None:
    bundle, pipe = tiny_bundle("upscale", "fp16"), tiny_pipeline("upscale")
    facts = described(bundle)
    components = facts["components"]
    assert (facts["task"], facts["latent_factor"], facts["scaling_factor"]) == ("upscaling", 4, 0.08333)
    assert {name: part["dtype"] for name, part in components.items()} == dict(
        zip(COMPONENTS, ["float16", "float16", "float32", "float32"], strict=True)
    )
    assert components["vae_decoder"]["inputs"][0]["dtype"] == "float32"
    assert components["unet"]["inputs"][3] == {"name": "class_labels", "dtype": "int64", "shape": ["batch"]}
    generator = np.random.default_rng(0)
    feeds: dict[str, np.ndarray] = {
        "sample": generator.standard_normal((2, 7, 8, 12)).astype(np.float16),
        "timestep": np.array([3, 700], np.float32),
        "encoder_hidden_states": generator.standard_normal((2, 77, 32)).astype(np.float16),
        "class_labels": np.array([20, 350]),
    }
    with torch.inference_mode():
        expected = pipe.unet(
            *(torch.from_numpy(array.astype(np.float32)) for array in list(feeds.values())[:3]), torch.tensor([20, 350])
        ).sample
    got = run_onnx(bundle / "unet" / "model.onnx", feeds)["out_sample"]
    np.testing.assert_allclose(got, expected.numpy(), atol=0.05)
    other = run_onnx(bundle / "unet" / "model.onnx", feeds | {"class_labels": np.array([350, 20])})["out_sample"]
    assert abs(other - got).max() > 0.1


def test_an_upscaler_says_how_its_input_is_noised() -> None:
    bundle = tiny_bundle("upscale", "fp16")
    facts = described(bundle)
    assert (facts["native_size"], facts["latent_factor"], facts["max_noise_level"]) == ([32, 32], 4, 350)
    assert (facts["low_res_scheduler"]["_class_name"], facts["low_res_scheduler"]["beta_end"]) == ("DDPMScheduler", 0.02)
    assert json.loads((bundle / "low_res_scheduler" / "scheduler_config.json").read_text()) == facts["low_res_scheduler"]
    assert facts["defaults"] == {"steps": 30, "guidance_scale": 9.0, "sampler": "ddim"}


def test_an_upscalers_vae_without_scaling_factor_has_the_upscalers(tmp_path: Path) -> None:
    """diffusers' class would fill in 0.18215, its upscaling pipeline then corrects that."""
    folder = Path(shutil.copytree(tiny_checkpoint("upscale"), tmp_path / "source"))
    config = json.loads((folder / "vae" / "config.json").read_text())
    del config["scaling_factor"]
    (folder / "vae" / "config.json").write_text(json.dumps(config))
    checkpoint = open_folder(folder)
    filled_in = checkpoint.load("vae").config
    assert filled_in["scaling_factor"] == 0.18215
    assert bundle_module._scaling_factor(checkpoint, filled_in, "upscaling") == 0.08333
    assert bundle_module._scaling_factor(checkpoint, filled_in, "text-to-image") == 0.18215


def test_inpainting_bundles_take_nine_channels() -> None:
    facts = described(tiny_bundle("inpaint", "fp16"))
    assert (facts["task"], list(facts["components"])) == ("inpainting", COMPONENTS)
    assert facts["components"]["unet"]["inputs"][0] == {"name": "sample", "dtype": "float16", "shape": ["batch", 9, "height", "width"]}
    assert facts["components"]["unet"]["outputs"][0]["shape"] == ["batch", 4, "height", "width"]
    assert facts["components"]["vae_encoder"]["outputs"][0]["shape"] == ["batch", 8, "height", "width"]


def test_depth_bundles_bring_estimator_and_image_processor() -> None:
    bundle = tiny_bundle("depth", "fp16")
    facts = described(bundle)
    assert (facts["task"], list(facts["components"])) == ("depth-to-image", [*COMPONENTS, "depth_estimator"])
    assert facts["components"]["unet"]["inputs"][0]["shape"] == ["batch", 5, "height", "width"]
    estimator = facts["components"]["depth_estimator"]
    assert estimator["inputs"] == [{"name": "pixel_values", "dtype": "float16", "shape": ["batch", 3, 64, 64]}]
    assert estimator["outputs"] == [{"name": "predicted_depth", "dtype": "float16", "shape": ["batch", 64, 64]}]
    assert "pixel_values [3, 3, 64, 64]" in estimator["comparison"]["inputs"]
    config = json.loads((bundle / "depth_estimator" / "config.json").read_text())
    assert (config["architectures"], config["is_hybrid"]) == (["DPTForDepthEstimation"], True)
    processor = json.loads((bundle / "feature_extractor" / "preprocessor_config.json").read_text())
    assert (processor["size"], processor["resample"], processor["image_mean"]) == ({"height": 64, "width": 64}, 2, [0.5, 0.5, 0.5])


@pytest.mark.parametrize(
    ("task", "sample_size", "vae_size", "expected"),
    [
        ("text-to-image", 96, 768, [768, 768]),
        ("text-to-image", [64, 96], 512, [512, 768]),
        ("depth-to-image", 32, 512, [512, 512]),
        ("depth-to-image", 96, 512, [768, 768]),
    ],
)
def test_native_size_is_that_of_the_picture(task: str, sample_size: Any, vae_size: int, expected: list[int]) -> None:
    vae = {"sample_size": vae_size, "block_out_channels": [128, 256, 512, 512]}
    assert bundle_module._native_size({"sample_size": sample_size}, vae, task) == expected


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A diffusers folder whose UNet gives infinity, after a text encoder that passes."""
    folder = tmp_path / "source"
    tiny_pipeline("upcast", folder=folder)
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["conv_in.weight"] = tensors["conv_in.weight"] * float("inf")
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


def test_a_failing_component_stops_the_export_and_leaves_nothing(damaged: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    with pytest.raises(ExportError, match="unet: torch gives NaN or infinity"):
        export(damaged, tmp_path / "out", ExportOptions(), lines.append)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["source"]
    assert len(lines) == 1
    assert re.fullmatch(r"text_encoder: 1\.6 M parameters, float16, \d+ nodes, PSNR \d+\.\d dB against torch float32, \d+ s", lines[0])


def test_an_output_in_use_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgument, match="not empty"):
        export("nowhere", tmp_path, ExportOptions())


def test_an_unknown_source_leaves_no_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no such folder"):
        export("./nowhere", tmp_path / "a" / "b" / "out", ExportOptions())
    assert list(tmp_path.iterdir()) == []


def test_another_task_is_refused(tmp_path: Path) -> None:
    tiny_pipeline("upcast", folder=tmp_path / "source")
    with pytest.raises(InvalidArgument, match="inpainting"):
        export(tmp_path / "source", tmp_path / "out", ExportOptions(task="inpainting"))


def test_without_the_extra_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sd2rt.export.bundle")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingDependency, match=r"export needs diffusers.*sd2rt\[export,cpu\]"):
        export("nowhere", tmp_path / "out")
    shutil.rmtree(tmp_path)
