"""The tiny decoder: read from both layouts, exported, and compared with diffusers' AutoencoderTiny."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file

from sd2rt.engine.errors import ExportError
from sd2rt.export.bundle import write_component
from sd2rt.export.components import Component
from sd2rt.export.tiny_decoder import open_tiny_decoder, require_same_latents
from sd2rt.export.verify import run_onnx
from tests.tiny import shared_folder, tiny_vae
from tests.traced import traced_once

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module", autouse=True)
def traces() -> Iterator[None]:
    """Trace each kind of decoder once."""
    with traced_once(shared_folder()):
        yield


GATE_DB = 60.0


def save_original(model: AutoencoderTiny, file: Path) -> Path:
    """Write the decoder as https://github.com/madebyollin/taesd does: one sequence, whose first layer, a clamp, has no weights."""
    stored = {}
    for name, tensor in model.decoder.state_dict().items():
        number, rest = name.removeprefix("layers.").split(".", 1)
        stored[f"{int(number) + 1}.{rest}"] = tensor.contiguous()
    save_file(stored, file)
    return file


def export_and_compare(component: Component, model: Any, folder: Path) -> float:
    """Export the decoder and return its PSNR against diffusers' `decode` of the latents that a pipeline gives it, over a range of 2."""
    write_component(component, folder, "fp32", "text-to-image", lambda line: None)
    latents = torch.randn(2, 4, 6, 10, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model.decode(latents / model.config.scaling_factor).sample.numpy()
    got = run_onnx(folder / component.name / "model.onnx", {"latent_sample": latents.numpy()})["sample"]
    assert got.shape == (2, 3, 48, 80)
    assert np.ptp(expected) > 0.1
    return float(20 * np.log10(2) - 10 * np.log10(max(np.square(got - expected).mean(), 1e-20)))


@pytest.mark.parametrize("scaling_factor", [1.0, 0.5])
def test_a_folder_is_exported_as_diffusers_decodes(scaling_factor: float, tmp_path: Path) -> None:
    model = tiny_vae(folder=tmp_path / "taesd", scaling_factor=scaling_factor)
    component = open_tiny_decoder(tmp_path / "taesd")
    assert export_and_compare(component, model, tmp_path) >= GATE_DB
    config = json.loads((tmp_path / "tiny_vae_decoder" / "config.json").read_text())
    assert (config["_class_name"], config["scaling_factor"]) == ("AutoencoderTiny", scaling_factor)


def test_the_originals_file_is_exported_as_diffusers_decodes(tmp_path: Path) -> None:
    model = tiny_vae(width=64)
    component = open_tiny_decoder(save_original(model, tmp_path / "taesd_decoder.safetensors"))
    assert export_and_compare(component, model, tmp_path) >= GATE_DB


def test_half_precision_passes_its_gate(tmp_path: Path) -> None:
    tiny_vae(folder=tmp_path / "taesd")
    written = write_component(open_tiny_decoder(tmp_path / "taesd"), tmp_path, "fp16", "text-to-image", lambda line: None)
    assert written.entry["dtype"] == "float16"
    assert written.entry["comparison"]["psnr_db"] > 50


def test_weights_of_half_precision_are_read(tmp_path: Path) -> None:
    model = tiny_vae(width=64)
    file = save_original(model, tmp_path / "taesd_decoder.safetensors")
    save_file({name: tensor.half() for name, tensor in load_file(file).items()}, file)
    decoder: Any = open_tiny_decoder(file).module
    expected = model.decoder.layers[0].weight
    assert decoder.decoder.layers[0].weight.dtype == torch.float32
    torch.testing.assert_close(decoder.decoder.layers[0].weight, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.write_bytes(b"no safetensors")], ids=["missing", "broken"])
def test_a_file_that_cannot_be_read_is_refused(make: Any, tmp_path: Path) -> None:
    make(tmp_path / "taesd_decoder.safetensors")
    with pytest.raises(ExportError, match=r"cannot read .*taesd_decoder\.safetensors: .*; expected a diffusers folder or taesd_decoder"):
        open_tiny_decoder(tmp_path / "taesd_decoder.safetensors")


@pytest.mark.parametrize("names", [("0.weight",), ("1.weight", "decoder.layers.0.weight")])
def test_a_file_of_other_layers_is_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    save_file({name: torch.zeros(64, 4, 3, 3) for name in names}, tmp_path / "other.safetensors")
    with pytest.raises(ExportError, match=r"other\.safetensors: has no 1\.weight among layers by number; expected taesd_decoder"):
        open_tiny_decoder(tmp_path / "other.safetensors")


def test_a_file_of_other_widths_is_refused(tmp_path: Path) -> None:
    file = save_original(tiny_vae(width=8), tmp_path / "narrow.safetensors")
    with pytest.raises(ExportError, match=r"narrow\.safetensors: does not fit TAESD's decoder: .*size mismatch"):
        open_tiny_decoder(file)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"taesd_decoder\.pth is a pickle: pickles can run any code"):
        open_tiny_decoder(tmp_path / "taesd_decoder.pth")


def test_another_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    with pytest.raises(ExportError, match="got a AutoencoderKL, expected an AutoencoderTiny"):
        open_tiny_decoder(tmp_path)


@pytest.mark.parametrize(
    ("vae", "message"),
    [
        (
            {"block_out_channels": [8] * 3},
            "4 latent channels and 8 pixels per latent, but the model's VAE has 4 latent channels and 4 pixels",
        ),
        ({"block_out_channels": [8] * 4, "latent_channels": 16}, "but the model's VAE has 16 latent channels and 8 pixels per latent"),
    ],
)
def test_a_decoder_of_other_latents_is_refused(vae: dict[str, Any], message: str, tmp_path: Path) -> None:
    tiny_vae(folder=tmp_path)
    with pytest.raises(ExportError, match=f"tiny_vae_decoder: is for .*{message}"):
        require_same_latents(open_tiny_decoder(tmp_path), vae)


def test_latents_of_the_same_kind_fit(tmp_path: Path) -> None:
    tiny_vae(folder=tmp_path)
    decoder = open_tiny_decoder(tmp_path)
    require_same_latents(decoder, {"block_out_channels": [128, 256, 512, 512]})
    with pytest.raises(ExportError, match="8 pixels per latent, but the model's VAE has 4 latent channels and 4"):
        require_same_latents(decoder, {"block_out_channels": [128, 256, 512]})
