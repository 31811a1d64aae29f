"""A checkpoint as the exporter sees it, wherever it came from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sd2rt.engine.errors import ExportError, InvalidArgument

Config = Mapping[str, Any]
SCHEDULERS = ("scheduler", "low_res_scheduler")
# What the UNet takes besides the latents: nothing, a depth map, a low-resolution image, mask and masked latents.
TASKS_BY_EXTRA_CHANNELS = {0: "text-to-image", 1: "depth-to-image", 3: "upscaling", 5: "inpainting"}
TASKS_BY_PIPELINE = {
    "StableDiffusionInpaintPipeline": "inpainting",
    "StableDiffusionDepth2ImgPipeline": "depth-to-image",
    "StableDiffusionUpscalePipeline": "upscaling",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Configs at hand, weights on demand.

    `configs` holds "unet", "vae", "text_encoder" and, for depth-to-image models, "depth_estimator"; `schedulers` "scheduler" and,
    for upscalers, "low_res_scheduler". `load` returns one of the modules that have a config, in float32 and evaluation mode.
    `tokenizer` is a folder; `image_processor` the preprocessor_config.json of the depth estimator; `loras` says what `load` merges.
    """

    source: str
    name: str
    model_index: Config
    configs: Mapping[str, Config]
    schedulers: Mapping[str, Config]
    tokenizer: Path
    load: Callable[[str], Any] = field(repr=False)
    weights_seed: int | None = None
    image_processor: Config | None = None
    loras: tuple[Config, ...] = ()

    def task(self, wanted: str) -> str:
        """Return the task that the UNet's channels and the pipeline's class tell.

        Raises InvalidArgument where `wanted` (unless "auto") is another one, ExportError where no task fits or a part that the task
        needs is missing.
        """
        channels = self.configs["unet"].get("in_channels", 4)
        extra = channels - self.configs["vae"].get("latent_channels", 4)
        pipeline = str(self.model_index.get("_class_name"))
        task = TASKS_BY_EXTRA_CHANNELS.get(extra)
        if task is None or (extra and TASKS_BY_PIPELINE.get(pipeline, task) != task):
            raise ExportError(f"{self.name}: no task fits a {pipeline} whose UNet takes {channels} channels")
        if wanted not in ("auto", task):
            raise InvalidArgument(f"task: got {wanted!r}, but {self.name} is a model for {task}; leave the task to 'auto'")
        if task == "depth-to-image" and ("depth_estimator" not in self.configs or self.image_processor is None):
            raise ExportError(
                f"{self.name}: a depth-to-image model without its depth estimator; export from a diffusers folder that has "
                "depth_estimator/ and feature_extractor/"
            )
        if task == "upscaling" and "low_res_scheduler" not in self.schedulers:
            raise ExportError(
                f"{self.name}: an upscaler without low_res_scheduler, which says how its input is noised; export from a diffusers "
                "folder that has low_res_scheduler/"
            )
        return task
