from dataclasses import replace
from pathlib import Path

import pytest

from sd2rt.engine.errors import ExportError, InvalidArgument
from sd2rt.export.checkpoint import Checkpoint


def checkpoint(pipeline: str, channels: int) -> Checkpoint:
    """Make what a complete checkpoint of that class has; the depth estimator and its processor stand in by empty configs."""
    depth: dict[str, dict[str, object]] = {"depth_estimator": {}} if "Depth" in pipeline else {}
    low_res: dict[str, dict[str, object]] = {"low_res_scheduler": {}} if "Upscale" in pipeline else {}
    return Checkpoint(
        source="here",
        name="a-model",
        model_index={"_class_name": pipeline},
        configs={"unet": {"in_channels": channels}, "vae": {}, "text_encoder": {}, **depth},
        schedulers={"scheduler": {}, **low_res},
        tokenizer=Path("tokenizer"),
        load=lambda component: component,
        image_processor=depth.get("depth_estimator"),
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
        ("StableDiffusionDepth2ImgPipeline", 5, "depth-to-image"),
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


@pytest.mark.parametrize(
    ("missing", "channels", "words"),
    [
        ({"image_processor": None}, 5, r"without its depth estimator.*feature_extractor/"),
        ({"configs": {"unet": {"in_channels": 5}, "vae": {}, "text_encoder": {}}}, 5, r"without its depth estimator.*depth_estimator/"),
        ({"schedulers": {"scheduler": {}}}, 7, r"upscaler without low_res_scheduler.*low_res_scheduler/"),
    ],
)
def test_parts_that_the_task_needs_are_asked_for(missing: dict[str, object], channels: int, words: str) -> None:
    pipeline = {5: "StableDiffusionDepth2ImgPipeline", 7: "StableDiffusionUpscalePipeline"}[channels]
    with pytest.raises(ExportError, match=words):
        replace(checkpoint(pipeline, channels), **missing).task("auto")  # type: ignore[arg-type]
