from pathlib import Path

import pytest

from sd2rt.engine.errors import ExportError, InvalidArgument
from sd2rt.export.checkpoint import Checkpoint


def checkpoint(pipeline: str, channels: int) -> Checkpoint:
    return Checkpoint(
        source="here",
        name="a-model",
        model_index={"_class_name": pipeline},
        configs={"unet": {"in_channels": channels}, "vae": {}, "text_encoder": {}},
        schedulers={"scheduler": {}},
        tokenizer=Path("tokenizer"),
        load=lambda component: component,
    )


@pytest.mark.parametrize(
    ("pipeline", "channels", "task"),
    [
        ("StableDiffusionPipeline", 4, "text-to-image"),
        ("StableDiffusionImg2ImgPipeline", 4, "text-to-image"),
        ("StableDiffusionInpaintPipeline", 4, "text-to-image"),
        ("StableDiffusionInpaintPipeline", 9, "inpainting"),
        ("SomebodysPipeline", 9, "inpainting"),
        ("StableDiffusionUpscalePipeline", 7, "upscaling"),
    ],
)
def test_task_comes_from_channels_and_pipeline(pipeline: str, channels: int, task: str) -> None:
    assert checkpoint(pipeline, channels).task("auto") == task
    assert checkpoint(pipeline, channels).task(task) == task


def test_another_task_than_the_models_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"'inpainting'.*a-model.*text-to-image"):
        checkpoint("StableDiffusionPipeline", 4).task("inpainting")


@pytest.mark.parametrize(("pipeline", "channels"), [("StableDiffusionPipeline", 6), ("StableDiffusionUpscalePipeline", 9)])
def test_no_fitting_task_names_class_and_channels(pipeline: str, channels: int) -> None:
    with pytest.raises(ExportError, match=rf"{pipeline}.*{channels} channels"):
        checkpoint(pipeline, channels).task("auto")


def test_depth_models_are_refused_for_now() -> None:
    with pytest.raises(ExportError, match="depth estimator"):
        checkpoint("StableDiffusionDepth2ImgPipeline", 5).task("auto")
