"""What clients of the web UI's API are answered: pictures as base64, and `info`, which is JSON inside of a string."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from sd2rt.runtime.a1111 import web_ui_text
from sd2rt.runtime.parameters import Parameters, read_json, version
from sd2rt.serve.a1111_bodies import ImageToImage, TextToImage
from sd2rt.serve.a1111_samplers import web_ui_name

if TYPE_CHECKING:
    from sd2rt.serve.a1111_orders import Asked
    from sd2rt.serve.jobs import ServedJob
    from sd2rt.serve.order import Finished

PICTURES = ("init_images", "mask")  # which a reply says back only where it is asked to
INTERRUPTED = "interrupted: these are unfinished pictures"


class PaintedReply(BaseModel):
    """What txt2img and img2img answer: pictures as base64, the request said back, and `info`, JSON as a string."""

    images: list[str]
    parameters: dict[str, Any]
    info: str


class UpscaledReply(BaseModel):
    """What extra-single-image answers: the picture as base64, and the web UI's text of it as HTML."""

    html_info: str
    image: str


class PngInfoReply(BaseModel):
    """What png-info answers: the web UI's text, whole and taken apart, and what else the picture says."""

    info: str
    items: dict[str, str]
    parameters: dict[str, str]


def painted_reply(body: TextToImage, job: ServedJob, finished: Finished, asked: Asked) -> dict[str, Any]:
    """Return the body of a reply to txt2img or img2img."""
    records = [read_parameters(values) for values in finished.parameters]
    more = "" if asked.region is None else asked.region.text
    texts = [f"{web_ui_text(record)}{more}" for record in records]
    info = _info(body, job, records) | {"infotexts": texts, "notes": [*asked.notes, *finished.notes]}
    return _reply(body, finished.pictures, info)


def interrupted_reply(body: TextToImage, job: ServedJob, pictures: Sequence[bytes]) -> dict[str, Any]:
    """Return what a job that was interrupted has, as the web UI does: `pictures`, its latest preview, or no picture at all.

    Clients read `images` of a reply and know no other; there is no record, since nothing could paint these pictures again.
    """
    info = {"all_seeds": list(job.seeds), "seed": job.seeds[0], "infotexts": [""] * len(pictures), "notes": [INTERRUPTED]}
    return _reply(body, pictures, info | {"width": job.width, "height": job.height})


def read_parameters(values: Mapping[str, Any]) -> Parameters:
    """Return the record of a finished picture."""
    return read_json(json.dumps(values))[0]


def as_base64(content: bytes) -> str:
    """Write a file as base64."""
    return base64.b64encode(content).decode("ascii")


def _reply(body: TextToImage, pictures: Sequence[bytes], info: Mapping[str, Any]) -> dict[str, Any]:
    said = body.model_dump()
    if isinstance(body, ImageToImage) and not body.include_init_images:
        said |= dict.fromkeys(PICTURES)
    sent = [] if body.send_images is False else [as_base64(picture) for picture in pictures]
    return {"images": sent, "parameters": said, "info": json.dumps(info)}


def _info(body: TextToImage, job: ServedJob, records: Sequence[Parameters]) -> dict[str, Any]:
    """Return what `info` says, under the web UI's names."""
    first = records[0]
    subseeds = [-1 if record.variation_seed is None else record.variation_seed for record in records]
    return {
        "prompt": first.prompt,
        "all_prompts": [record.prompt for record in records],
        "negative_prompt": first.negative_prompt,
        "all_negative_prompts": [record.negative_prompt for record in records],
        "seed": first.seed,
        "all_seeds": [record.seed for record in records],
        "subseed": subseeds[0],
        "all_subseeds": subseeds,
        "subseed_strength": first.variation_strength,
        "width": job.width,
        "height": job.height,
        "sampler_name": web_ui_name(first.sampler, first.sigmas),
        "cfg_scale": first.guidance_scale,
        "steps": first.steps,
        "batch_size": body.batch_size or 1,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": first.model,
        "sd_model_hash": first.bundle_sha256[:10],
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "denoising_strength": first.strength,
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "styles": [],
        "job_timestamp": timestamp(job.created),
        "clip_skip": first.clip_skip,
        "is_using_inpainting_conditioning": first.task == "inpainting",
        "version": f"sd2rt {version()}",
    }


def timestamp(seconds: float) -> str:
    """Write epoch seconds as the web UI writes them: 20260131093000."""
    return time.strftime("%Y%m%d%H%M%S", time.gmtime(seconds))
