import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sd2rt.engine.errors import ExportError
from sd2rt.export.folder import open_folder
from tests.tiny import tiny_pipeline

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folder") / "tiny"
    tiny_pipeline("upcast", folder=folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "tiny"))


def test_configs_and_weights_are_read(saved: Path) -> None:
    checkpoint, pipe = open_folder(saved), tiny_pipeline("upcast")
    assert (checkpoint.name, checkpoint.task("auto")) == ("tiny", "text-to-image")
    assert checkpoint.schedulers["scheduler"]["prediction_type"] == "v_prediction"
    for component in ("unet", "vae", "text_encoder"):
        module = checkpoint.load(component)
        assert not module.training
        assert all(torch.equal(tensor, module.state_dict()[name]) for name, tensor in getattr(pipe, component).state_dict().items())


def test_half_precision_only_folders_are_read(folder: Path) -> None:
    for file in folder.glob("*/*.safetensors"):
        tensors = {name: tensor.half() for name, tensor in load_file(file).items()}
        save_file(tensors, file.with_suffix(".fp16.safetensors"), metadata={"format": "pt"})
        file.unlink()
    module = open_folder(folder).load("unet")
    assert module.dtype == torch.float32
    assert torch.equal(module.conv_in.weight, tiny_pipeline("upcast").unet.conv_in.weight.half().float())


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def break_json(folder: Path) -> None:
    (folder / "unet" / "config.json").write_text("{")


def json_list(folder: Path) -> None:
    (folder / "model_index.json").write_text("[]")


def no_scheduler(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    del index["scheduler"]
    (folder / "model_index.json").write_text(json.dumps(index))


def other_class(folder: Path) -> None:
    edit(folder / "unet" / "config.json", _class_name="SD3Transformer2DModel")


def other_encoder(folder: Path) -> None:
    edit(folder / "text_encoder" / "config.json", architectures=["T5EncoderModel"])


def time_embeddings(folder: Path) -> None:
    edit(folder / "unet" / "config.json", addition_embed_type="text_time")


def image_embeddings(folder: Path) -> None:
    edit(folder / "unet" / "config.json", class_embed_type="projection")


def projected_text(folder: Path) -> None:
    edit(folder / "unet" / "config.json", encoder_hid_dim=1024, encoder_hid_dim_type="ip_image_proj")


def guidance_embedding(folder: Path) -> None:
    edit(folder / "unet" / "config.json", time_cond_proj_dim=256)


def two_text_encoders(folder: Path) -> None:
    names = {"_class_name": "StableDiffusionXLPipeline", "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}
    edit(folder / "model_index.json", **names)


def pickle_only(folder: Path) -> None:
    (folder / "vae" / "diffusion_pytorch_model.safetensors").rename(folder / "vae" / "diffusion_pytorch_model.bin")


def no_weights(folder: Path) -> None:
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (break_json, r"cannot read .*unet/config\.json"),
        (json_list, "no JSON object"),
        (no_scheduler, "names no scheduler"),
        (other_class, "SD3Transformer2DModel, expected a UNet2DConditionModel"),
        (other_encoder, "T5EncoderModel, expected a CLIPTextModel"),
        (time_embeddings, "unet: addition_embed_type is 'text_time', expected null"),
        (image_embeddings, "class_embed_type is 'projection', expected null; .*unCLIP"),
        (projected_text, "encoder_hid_dim is 1024, expected null"),
        (guidance_embedding, "time_cond_proj_dim is 256, expected null; .*LCM"),
        (two_text_encoders, "a StableDiffusionXLPipeline with two text encoders"),
        (pickle_only, r"diffusion_pytorch_model\.bin is a pickle: .*any code"),
        (no_weights, r"no diffusion_pytorch_model\.safetensors"),
    ],
)
def test_damaged_folders_are_refused_before_any_work(folder: Path, damage: Any, words: str) -> None:
    damage(folder)
    with pytest.raises(ExportError, match=words) as caught:
        open_folder(folder)
    assert "\n" not in str(caught.value)


def test_class_labels_and_empty_options_are_no_reason_to_refuse(folder: Path) -> None:
    edit(folder / "model_index.json", text_encoder_2=[None, None])
    edit(folder / "unet" / "config.json", num_class_embeds=1000, class_embed_type=None, addition_embed_type=None, encoder_hid_dim_type=None)
    assert open_folder(folder).configs["unet"]["num_class_embeds"] == 1000


def test_missing_weights_are_counted_and_named(folder: Path) -> None:
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    del tensors["conv_in.bias"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ExportError, match=r"1 weights are missing, the first is conv_in\.bias"):
        open_folder(folder).load("unet")


def test_truncated_weights_are_one_clear_error(folder: Path) -> None:
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ExportError, match=r"cannot load .*unet"):
        open_folder(folder).load("unet")
