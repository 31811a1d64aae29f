"""How a picture was made, and PNG files that carry it: the web UI's `parameters` text, and our own JSON in a chunk named `sd2rt`.

The text's format is the one that galleries and bots read: prompt, a `Negative prompt:` line, then one line of `key: value` pairs,
values with commas or colons quoted as JSON strings. Knows no pipeline.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sd2rt.engine.errors import InvalidArgument

if TYPE_CHECKING:
    from PIL.Image import Image

WEB_UI_SOLVERS = {
    "ddim": "DDIM",
    "ddpm": "DDPM",
    "pndm": "PLMS",
    "lms": "LMS",
    "euler": "Euler",
    "euler a": "Euler a",
    "heun": "Heun",
    "dpm2": "DPM2",
    "dpm2 a": "DPM2 a",
    "dpm++ 2s a": "DPM++ 2S a",
    "dpm++ 2m": "DPM++ 2M",
    "dpm++ 2m sde": "DPM++ 2M SDE",
    "dpm++ sde": "DPM++ SDE",
    "unipc": "UniPC",
    "deis": "DEIS",
    "lcm": "LCM",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Everything that decides one picture. `seed` is the picture's own, so that it can be painted again without its batch.

    `sampler` and `sigmas` are a solver and its sigma schedule ("karras"; empty: the model's own); `given_latents` says that
    the first noise came from the caller and not from the seed. `precision` is what `load` was asked for. `guidance_interval`,
    `guidance_reuse` and `deep_cache` are as in `Options`, where they changed anything; `unet_rows` is how many rows of the UNet the
    picture took, whole or not. `strength` and `noise_level` are None where the task has none.

    `weighting` says whether brackets in the prompts are weights, `clip_skip` which layer of the text encoder was taken, counted from the
    last one, 1.

    `image_sha256`, `mask_sha256` and `depth_sha256` are those of the files that the caller gave; None for what was no file. `mask_blur` to
    `tile` are as in `Options`, a `tile` of 0 being all at once. `upscaler` is how the picture was upscaled afterwards; `width` and
    `height` are those before it.
    """

    prompt: str
    negative_prompt: str
    steps: int
    sampler: str
    sigmas: str
    guidance_scale: float
    guidance_rescale: float
    seed: int
    width: int
    height: int
    model: str
    bundle_sha256: str
    target: str
    precision: str = "auto"
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    guidance_reuse: int = 1
    deep_cache: int = 1
    unet_rows: int = 0
    given_latents: bool = False
    task: str = "text-to-image"
    strength: float | None = None
    noise_level: int | None = None
    image_sha256: str | None = None
    mask_sha256: str | None = None
    depth_sha256: str | None = None
    mask_blur: float = 0.0
    invert: bool = False
    paste: bool = False
    expand: tuple[int, int, int, int] | None = None
    decoder: str = "vae"
    tile: int = 0
    weighting: bool = True
    clip_skip: int = 1
    upscaler: Parameters | None = None


def web_ui_text(parameters: Parameters) -> str:
    """Write parameters as the web UI (AUTOMATIC1111, Forge) does; its name for an upscaler that follows is "Hires"."""
    after = parameters.upscaler
    pairs = {
        "Steps": parameters.steps,
        "Sampler": WEB_UI_SOLVERS.get(parameters.sampler, parameters.sampler),
        "Schedule type": parameters.sigmas.capitalize() or None,
        "CFG scale": f"{parameters.guidance_scale:g}",
        "CFG rescale": parameters.guidance_rescale or None,
        "Guidance interval": None if parameters.guidance_interval == (0.0, 1.0) else "{:g} to {:g}".format(*parameters.guidance_interval),
        "Guidance reuse": None if parameters.guidance_reuse == 1 else parameters.guidance_reuse,
        "Deep cache": None if parameters.deep_cache == 1 else parameters.deep_cache,
        "Denoising strength": None if parameters.strength is None else f"{parameters.strength:g}",
        "Mask blur": f"{parameters.mask_blur:g}" if parameters.mask_blur else None,
        "Noise level": parameters.noise_level,
        "Precision": None if parameters.precision == "auto" else parameters.precision,
        "Decoder": None if parameters.decoder == "vae" else parameters.decoder,
        "Clip skip": None if parameters.clip_skip == 1 else parameters.clip_skip,
        "Emphasis": None if parameters.weighting else "None",
        "Seed": parameters.seed,
        "Size": f"{parameters.width}x{parameters.height}",
        "Model hash": parameters.bundle_sha256[:10],
        "Model": parameters.model,
        "Hires upscale": None if after is None else f"{after.width / parameters.width:g}",
        "Hires steps": None if after is None else after.steps,
        "Hires upscaler": None if after is None else after.model,
        "Version": f"sd2rt {version()}",
    }
    negative = [f"Negative prompt: {parameters.negative_prompt}"] if parameters.negative_prompt else []
    line = ", ".join(f"{key}: {_quoted(str(value))}" for key, value in pairs.items() if value is not None)
    return "\n".join([parameters.prompt, *negative, line])


def json_text(parameters: Parameters) -> str:
    """Write parameters as the JSON of the `sd2rt` chunk, plain ASCII."""
    return json.dumps({**asdict(parameters), "version": version()})


def version() -> str:
    """Return sd2rt's version as installed."""
    import importlib.metadata  # takes as long to import as half the runtime, and only writing a file needs it

    return importlib.metadata.version("sd2rt")


def check_destination(path: Path, *, force: bool = False) -> None:
    """Raise InvalidArgument unless a PNG can be written to `path`: call it before minutes of work, `save_png` calls it again.

    Makes and removes an empty file beside it, since permission bits alone do not tell.
    """
    try:
        problem = _destination_problem(path, force)
    except OSError as error:
        problem = f"{error.strerror}; name another one"
    if problem is not None:
        raise InvalidArgument(f"output file: got {str(path)[:200]}: {problem}")
    part = _part(path)
    try:
        part.touch(exist_ok=False)
        part.unlink()
    except OSError as error:
        raise InvalidArgument(
            f"output file: got {path}: no file can be written in {path.parent} ({error.strerror}); name another folder"
        ) from None


def _part(path: Path) -> Path:
    """Name the temporary file that becomes `path`: in the same folder, so that renaming is atomic."""
    return path.parent / f".sd2rt-{os.urandom(8).hex()}.tmp"


def _destination_problem(path: Path, force: bool) -> str | None:
    if path.suffix.lower() != ".png":
        return "expected a name that ends in .png"
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}; make it first"
    if path.is_dir():
        return "it is a folder; name a file in it"
    if path.exists() and not force:
        return "it exists; name another one, or overwrite it with --force (force=True)"
    return None


def save_png(image: Image, path: Path, parameters: Parameters | None, *, force: bool = False) -> None:
    """Write a PNG, with its parameters as text if any, whole or not at all. Raises InvalidArgument when `path` cannot be written."""
    from PIL.PngImagePlugin import PngInfo

    check_destination(path, force=force)
    text = PngInfo()
    if parameters is not None:
        text.add_text("parameters", web_ui_text(parameters))
        text.add_text("sd2rt", json_text(parameters))
    part = _part(path)
    try:
        with part.open("xb") as stream:
            image.save(stream, "PNG", pnginfo=text)
        if force:
            part.replace(path)
        else:
            _name_new(part, path)
    except OSError as error:
        raise InvalidArgument(f"output file: got {path}: it cannot be written ({error.strerror or error}); name another one") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _name_new(part: Path, path: Path) -> None:
    """Give a finished file its name unless somebody took it meanwhile, which a rename would not notice."""
    try:
        path.hardlink_to(part)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        part.replace(path)


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if set(value) & set(',:\n"') else value
