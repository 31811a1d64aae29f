"""A checkpoint as the exporter sees it, wherever it came from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sd2rt.engine.errors import ExportError, InvalidArgument

Config = Mapping[str, Any]
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

    `configs` holds "unet", "vae" and "text_encoder"; `schedulers` "scheduler" and, for upscalers, "low_res_scheduler".
    `load` returns one of the three as a float32 module in evaluation mode. `tokenizer` is a folder.
    """

    source: str
    name: str
    model_index: Config
    configs: Mapping[str, Config]
    schedulers: Mapping[str, Config]
    tokenizer: Path
    load: Callable[[str], Any] = field(repr=False)
    weights_seed: int | None = None

    def task(self, wanted: str) -> str:
        """Return the task that the UNet's channels and the pipeline's class tell.

        Raises InvalidArgument where `wanted` (unless "auto") is another one, ExportError where no task fits.
        """
        channels = self.configs["unet"].get("in_channels", 4)
        extra = channels - self.configs["vae"].get("latent_channels", 4)
        pipeline = str(self.model_index.get("_class_name"))
        task = TASKS_BY_EXTRA_CHANNELS.get(extra)
        if task is None or (extra and TASKS_BY_PIPELINE.get(pipeline, task) != task):
            raise ExportError(f"{self.name}: no task fits a {pipeline} whose UNet takes {channels} channels")
        if wanted not in ("auto", task):
            raise InvalidArgument(f"task: got {wanted!r}, but {self.name} is a model for {task}; leave the task to 'auto'")
        if task == "depth-to-image":
            raise ExportError(f"{self.name}: depth-to-image models need their depth estimator, which this version does not export")
        return task
