"""What clients call the fields that the runtime's messages begin with, API by API."""

from __future__ import annotations

from collections.abc import Mapping

IMAGES, JOBS, WEB_UI = "/v1/images/", "/v1/jobs", "/sdapi/"
EVERYWHERE = {"mask blur": "mask_blur"}
NAMES: Mapping[str, Mapping[str, str]] = {
    IMAGES: {"images_per_prompt": "n", "width": "size: width", "height": "size: height", "width and height": "size"},
    JOBS: {"images_per_prompt": "n"},
    WEB_UI: {
        "images_per_prompt": "batch_size x n_iter",
        "guidance_scale": "cfg_scale",
        "strength": "denoising_strength",
        "variation_strength": "subseed_strength",
        "variation_seed": "subseed",
        "clip_skip": "CLIP_stop_at_last_layers",
    },
    "/sdapi/v1/img2img": {"image": "init_images"},
}
"""How a path begins, the runtime's name of a field, and the client's."""
UNKNOWN_SAMPLER = "unknown sampler "  # the one message that begins with no field


def in_clients_words(path: str, message: str) -> str:
    """Return one of the runtime's messages, the field that it begins with named as clients of the API of `path` name it."""
    if message.startswith(UNKNOWN_SAMPLER):
        return f"sampler: {message}"
    head, colon, rest = message.partition(": ")
    named = EVERYWHERE | {old: new for begin, names in NAMES.items() if path.startswith(begin) for old, new in names.items()}
    return f"{named.get(head, head)}{colon}{rest}"
