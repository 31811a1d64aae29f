"""What the benchmark's programs compute, apart from time."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.schedulers import SCHEDULERS
from benchmarks.workers.difference import difference
from benchmarks.workers.unet import draw_feeds
from sd2rt.runtime.samplers import SOLVERS

SHAPE = {"batch": 2, "channels": 4, "height": 3, "width": 5, "timestep": 500, "tokens": 77, "context": 8}


def test_difference_is_relative_to_the_reference() -> None:
    reference = np.array([[-10.0, 0.0, 10.0, 0.0]], np.float32)
    found = difference(reference, reference + np.float32(0.2))
    assert found["max_abs"] == pytest.approx(0.2)
    assert found["max_abs_by_spread"] == pytest.approx(0.2 / np.sqrt(50))
    assert found["psnr_db"] == pytest.approx(40.0)
    assert difference(reference, reference)["psnr_db"] == 999.0


def test_every_contender_gets_the_same_inputs() -> None:
    feeds, again = draw_feeds(SHAPE), draw_feeds(SHAPE)
    assert {name: array.shape for name, array in feeds.items()} == {
        "sample": (2, 4, 3, 5),
        "timestep": (2,),
        "encoder_hidden_states": (2, 77, 8),
    }
    assert all(np.array_equal(feeds[name], again[name]) for name in feeds)
    assert {array.dtype for array in feeds.values()} == {np.dtype(np.float32)}


def test_scheduler_names_are_samplers() -> None:
    assert set(SCHEDULERS) <= set(SOLVERS)


@pytest.mark.torch
def test_a_bundle_gives_its_checkpoint_back(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the export extra")
    from safetensors.torch import load_file

    from benchmarks.workers.diffusers_folder import rebuild
    from tests.tiny import tiny_bundle, tiny_pipeline

    tiny_pipeline("epsilon", folder=tmp_path / "original")
    rebuild(tiny_bundle("epsilon", "fp32"), tmp_path / "rebuilt")
    for file in ("unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"):
        original, rebuilt = load_file(tmp_path / "original" / file), load_file(tmp_path / "rebuilt" / file)
        found = {name.removeprefix("text_model."): tensor for name, tensor in rebuilt.items()}
        assert found.keys() == {name.removeprefix("text_model.") for name in original}
        assert all(torch.equal(found[name.removeprefix("text_model.")], tensor) for name, tensor in original.items())
