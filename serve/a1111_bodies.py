"""What clients of the web UI's API send. Fields that are not here are ignored, as the web UI ignores those that it does not know.

Names, types and defaults are those of AUTOMATIC1111's `/sdapi/v1` as its clients send them; where the web UI takes a number of its own
(512 pixels, 50 steps, CFG 7), what is left out is the model's own.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

# Clients write numbers as strings, and flags as numbers; the web UI takes both.
Whole = Annotated[int, WithJsonSchema({"type": ["integer", "number", "string", "boolean"]})]
Number = Annotated[float, WithJsonSchema({"type": ["number", "string", "boolean"]})]
Flag = Annotated[bool, WithJsonSchema({"type": ["boolean", "number", "string"]})]
Name = Annotated[str, Field(max_length=80)]
Title = Annotated[str, Field(max_length=1000)]


class Overrides(BaseModel):
    """Settings for one request, or with POST /sdapi/v1/options for those that follow. Others are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())

    sd_model_checkpoint: Title | None = Field(default=None, description="A model's title, name or hash")
    CLIP_stop_at_last_layers: Whole | None = Field(default=None, ge=0, le=12, description="Clip skip, counted from 1")
    randn_source: Name | None = Field(default=None, description='Whose noise seeds mean: "CPU", or "NV" and "GPU" for that of CUDA')


class TextToImage(BaseModel):
    """The body of POST /sdapi/v1/txt2img."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    prompt: str | None = ""
    negative_prompt: str | None = ""
    seed: Whole | None = Field(default=-1, description="-1: a random one")
    subseed: Whole | None = Field(default=-1, description="Another seed; -1: a random one, where its strength is above 0")
    subseed_strength: Number | None = 0.0
    steps: Whole | None = None
    cfg_scale: Number | None = Field(default=None, ge=-100, le=100, allow_inf_nan=False)
    width: Whole | None = Field(default=None, description="Pixels; what is no multiple of 8 is rounded down")
    height: Whole | None = None
    sampler_name: Name | None = None
    sampler_index: Name | None = Field(default=None, description="As sampler_name, which wins")
    scheduler: Name | None = None
    batch_size: Whole | None = 1
    n_iter: Whole | None = 1
    override_settings: Overrides | None = None
    send_images: Flag | None = True
    enable_hr: Flag | None = Field(default=False, description="Refused")
    script_name: Title | None = Field(default=None, description="Refused unless empty")
    alwayson_scripts: dict[str, Any] | None = Field(default=None, description="Refused unless they have no arguments")
    restore_faces: Flag | None = Field(default=False, description="Not done; `info` says so")
    tiling: Flag | None = Field(default=False, description="Not done; `info` says so")
    save_images: Flag | None = Field(default=False, description="Nothing is saved here")
    force_task_id: str | None = Field(default=None, description="Not used")


class ImageToImage(TextToImage):
    """The body of POST /sdapi/v1/img2img. Width and height that are left out are the picture's own."""

    init_images: list[str] | None = Field(default=None, description="One picture as base64 or a data: URL", repr=False)
    mask: str | None = Field(default=None, description="White where to paint", repr=False)
    inpainting_mask_invert: Whole | None = Field(default=0, description="1: black where to paint")
    mask_blur: Number | None = Field(default=4.0, description="Pixels")
    denoising_strength: Number | None = 0.75
    resize_mode: Whole | None = Field(default=0, description="0: stretch, 1: crop, 2: fill; others are refused")
    inpaint_full_res: Flag | None = Field(
        default=True, description="Paint the part around the mask at width x height, and put it back; false: the whole picture"
    )
    inpaint_full_res_padding: Whole | None = Field(default=0, ge=0, le=1024, description="Pixels around the mask")
    inpainting_fill: Whole | None = Field(default=1, description="Always 1, the picture itself; `info` says so of others")
    include_init_images: Flag | None = False


class Extras(BaseModel):
    """The body of POST /sdapi/v1/extra-single-image."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    image: str = Field(repr=False)
    resize_mode: Whole = Field(default=0, ge=0, le=1, description="0: by upscaling_resize; 1: to upscaling_resize_w x upscaling_resize_h")
    upscaling_resize: Number = Field(default=2.0, gt=0, le=16, allow_inf_nan=False)
    upscaling_resize_w: Whole = Field(default=512, ge=1, le=16384)
    upscaling_resize_h: Whole = Field(default=512, ge=1, le=16384)
    upscaling_crop: Flag = True
    upscaler_1: Title = "None"
    upscaler_2: Title = "None"
    extras_upscaler_2_visibility: Number = Field(default=0.0, ge=0, le=1)
    gfpgan_visibility: Number = Field(default=0.0, ge=0, le=1)
    codeformer_visibility: Number = Field(default=0.0, ge=0, le=1)


class PngInfo(BaseModel):
    """The body of POST /sdapi/v1/png-info."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    image: str = Field(repr=False)
