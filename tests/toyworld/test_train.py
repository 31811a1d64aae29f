"""The training script, for a few steps: data, autoencoder, text to image, a conditional task; stopping and going on."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")
pytest.importorskip("diffusers", reason="needs the export extra")

from sd2rt.toyworld.dataset import DatasetOptions, write_dataset  # noqa: E402
from sd2rt.toyworld.fit import Group, Plan, Trainer  # noqa: E402
from sd2rt.toyworld.scene import is_held_out  # noqa: E402
from sd2rt.toyworld.train import main  # noqa: E402
from sd2rt.toyworld.training_set import Data  # noqa: E402
from sd2rt.toyworld.windows import masks_of  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after the stages data, vae and text-to-image, run with a relative path as a person would."""
    folder = tmp_path_factory.mktemp("train")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_dataset(folder / "data.npz", DatasetOptions(count=12), workers=1)
        for stage in (
            "vae",
            "text-to-image",
            "text-to-image",
        ):  # the second time it goes on from the checkpoint, and has nothing left to do
            main([stage, "--work", ".", "--steps", "2", "--batch", "2"])
    return folder


def test_data_holds_scenes_and_caption_ids(work: Path) -> None:
    data = np.load(work / "data.npz")
    assert data["images"].shape == (12, 64, 64, 3)
    assert data["ids"].shape == (12, 4, 77)
    assert (data["ids"][..., 0] == 49406).all()
    x0, y0, x1, y1 = np.moveaxis(data["boxes"], -1, 0)
    assert ((x0 < x1) & (y0 < y1)).all()


def test_the_pipeline_folder_is_whole(work: Path) -> None:
    folder = work / "text-to-image"
    named = json.loads((folder / "model_index.json").read_text())
    parts = [name for name, value in named.items() if isinstance(value, list) and value[0]]
    assert sorted(parts) == ["scheduler", "text_encoder", "tokenizer", "unet", "vae"]
    assert all(any((folder / part).iterdir()) for part in parts)


@pytest.mark.parametrize("task", ["inpainting", "depth-to-image"])
def test_conditional_tasks_train_on_the_same_text_encoder(task: str, work: Path) -> None:
    before = (work / "text_encoder" / "model.safetensors").read_bytes()
    main([task, "--work", str(work), "--steps", "1", "--batch", "2"])
    assert (work / task / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size > 4_000_000
    assert (work / "text_encoder" / "model.safetensors").read_bytes() == before


def test_a_tiny_vae_learns_its_decoder_alone(work: Path) -> None:
    from diffusers import AutoencoderTiny

    main(["tiny-vae", "--work", str(work), "--steps", "2", "--batch", "2"])
    first = AutoencoderTiny.from_pretrained(work / "tiny-vae").state_dict()
    (work / "tiny-vae.checkpoint").unlink()
    main(["tiny-vae", "--work", str(work), "--steps", "4", "--batch", "2"])
    changed = {
        name.split(".")[0]
        for name, value in AutoencoderTiny.from_pretrained(work / "tiny-vae").state_dict().items()
        if not torch.equal(value, first[name])
    }
    assert changed == {"decoder"}
    assert sum(value.numel() for name, value in first.items() if name.startswith("decoder")) < 330_000


def test_the_upscaler_trains_its_decoder_and_leaves_a_pipeline(work: Path) -> None:
    data = dict(np.load(work / "data.npz"))
    data["images"] = data["images"].repeat(4, axis=1).repeat(4, axis=2)
    np.savez(work / "data-256.npz", allow_pickle=False, **data)
    main(["vae-x4", "--work", str(work), "--steps", "2", "--batch", "2"])
    main(["upscaling", "--work", str(work), "--steps", "1", "--batch", "2"])
    named = json.loads((work / "upscaling" / "model_index.json").read_text())
    assert (named["_class_name"], named["max_noise_level"]) == ("StableDiffusionUpscalePipeline", 350)
    scheduler = json.loads((work / "upscaling" / "low_res_scheduler" / "scheduler_config.json").read_text())
    assert (scheduler["beta_schedule"], scheduler["beta_end"]) == ("scaled_linear", 0.02)
    assert (work / "upscaling" / "vae").resolve() == (work / "vae-x4").resolve()


def test_a_run_that_was_stopped_ends_where_one_that_was_not_does(tmp_path: Path) -> None:
    def trainer(name: str, steps: int) -> Trainer:
        torch.manual_seed(1)
        layer = torch.nn.Linear(3, 1)
        return Trainer(
            [Group(modules=[layer])], lambda: layer(torch.rand(4, 3)).square().mean(), Plan(steps=steps, warmup=1), tmp_path / name
        )

    whole = trainer("whole", 6)
    whole.run(lambda line: None)
    stopped = trainer("stopped", 6)
    for _ in range(3):
        stopped._set_rates()
        stopped._update()
        stopped.step += 1
    stopped.save()
    resumed = trainer("stopped", 6)
    assert resumed.step == 3
    resumed.run(lambda line: None)
    for ours, theirs in zip(resumed.parameters, whole.parameters, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sd2rt.toyworld.fit.LOG_SECONDS", 0.0)
    layer = torch.nn.Linear(1, 1)
    trainer = Trainer([Group(modules=[layer])], lambda: layer(torch.ones(1, 1)).sum() * float("nan"), Plan(steps=3), tmp_path / "c")
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        trainer.run(lambda line: None)


def test_latents_are_asked_for_too_early() -> None:
    empty = torch.zeros(1)
    data = Data(images=empty, depth=empty, boxes=empty, ids=empty, empty=empty)
    with pytest.raises(ValueError, match="with_latents first"):
        data.latents(empty)


def test_masks_cover_the_solid_or_another_rectangle() -> None:
    torch.manual_seed(0)
    masks = masks_of(torch.tensor([[[10, 20, 30, 40]] * 2] * 200), 64)
    assert masks.shape == (200, 1, 64, 64)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    covers = masks[:, 0, 20:40, 10:30].flatten(1).all(1).float().mean()
    assert 0.6 < covers < 0.9


def test_held_out_captions_do_not_occur() -> None:
    """The rule that the data set applies leaves about one caption in twenty out."""
    from sd2rt.toyworld.scene import sample_scene

    rng = np.random.default_rng(0)
    captions = {sample_scene(rng).caption for _ in range(2000)}
    assert 0.02 < sum(map(is_held_out, captions)) / len(captions) < 0.08
