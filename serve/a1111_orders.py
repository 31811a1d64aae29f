"""The order that a request of a web UI's client comes to, and what of the request could not be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.a1111_fields import RNGS
from sd2rt.runtime.source import least_strength
from sd2rt.serve.a1111_bodies import ImageToImage, Overrides, TextToImage
from sd2rt.serve.a1111_models import find_model
from sd2rt.serve.a1111_region import Around, Region, cut_region
from sd2rt.serve.a1111_resize import fit_pictures
from sd2rt.serve.a1111_samplers import read_sampler
from sd2rt.serve.model_choice import FOR_MASK, FOR_PICTURE, FOR_TEXT, choose_model
from sd2rt.serve.order import Order
from sd2rt.serve.uploads import read_upload

if TYPE_CHECKING:
    from sd2rt.serve.offers import OfferedModel

PREVIEWS = 4  # for GET /sdapi/v1/progress; they cost next to nothing
SCRIPT_OFF: tuple[Any, ...] = (None, False, "", 0, "None", "none", {}, [])
ORIGINAL = 1  # of inpainting_fill


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An order, what of the request is left out of it, for `info`, and the part of a picture that it paints where that is not all."""

    order: Order
    notes: tuple[str, ...] = ()
    region: Region | None = None


def text_order(body: TextToImage, settings: Overrides, models: Sequence[OfferedModel]) -> Asked:
    """Return the order of a txt2img request; `settings` are its owner's. Raises InvalidArgument."""
    _refuse_undone(body)
    model = _model(body, settings, models, FOR_TEXT)
    return Asked(order=_order(_options(body, settings) | _sides(body, model), {}, model), notes=_notes(body))


def image_order(body: ImageToImage, settings: Overrides, models: Sequence[OfferedModel], most_pixels: int) -> Asked:
    """Return the order of an img2img request. Decodes pictures that are to be cut or filled. Raises InvalidArgument."""
    _refuse_undone(body)
    sent = body.init_images or []
    if len(sent) != 1:
        raise InvalidArgument(f"init_images: got {len(sent)} pictures; expected one")
    pictures = {"image": read_upload("init_images", sent[0])}
    if body.mask:
        pictures["mask"] = read_upload("mask", body.mask)
    model = _model(body, settings, models, FOR_MASK if body.mask else FOR_PICTURE)
    sides = _sides(body, model)
    options = _options(body, settings) | {"strength": _strength(body, model)}
    if body.mask and body.inpaint_full_res is not False:
        sides = {"width": model.width, "height": model.height} | sides
        region = cut_region(pictures["image"], pictures["mask"], _around(body, sides), most_pixels)
        return Asked(order=_order(options | sides, region.pictures(), model), notes=_notes(body), region=region)
    if body.mask:
        options |= {"mask_blur": _blur(body), "invert": bool(body.inpainting_mask_invert), "paste": True}
    if len(sides) == 2:
        pictures = fit_pictures(pictures, (sides["width"], sides["height"]), body.resize_mode or 0, most_pixels)
    return Asked(order=_order(options | sides, pictures, model), notes=_notes(body))


def _around(body: ImageToImage, sides: Mapping[str, int]) -> Around:
    """Return how the part to paint is chosen, where it is painted by itself."""
    size = (sides["width"], sides["height"])
    return Around(size=size, padding=body.inpaint_full_res_padding or 0, blur=_blur(body), invert=bool(body.inpainting_mask_invert))


def _strength(body: ImageToImage, model: OfferedModel) -> float:
    """Return how much of a picture is given up. What is too little for one step becomes enough for it, as in the web UI."""
    strength = 0.75 if body.denoising_strength is None else body.denoising_strength
    steps = model.steps if body.steps is None else body.steps
    return max(strength, least_strength(steps)) if steps >= 1 and 0 <= strength <= 1 else strength


def _blur(body: ImageToImage) -> float:
    return 4.0 if body.mask_blur is None else body.mask_blur


def _order(options: dict[str, Any], pictures: dict[str, bytes], model: OfferedModel) -> Order:
    return Order(model=model.name, options=options, pictures=pictures, previews=PREVIEWS)


def _options(body: TextToImage, settings: Overrides) -> dict[str, Any]:
    """Return what both kinds of requests say, named as the runtime names it."""
    said = body.override_settings or Overrides()
    skip = said.CLIP_stop_at_last_layers or settings.CLIP_stop_at_last_layers
    options: dict[str, Any] = {
        "prompt": body.prompt or "",
        "negative_prompt": body.negative_prompt or "",
        "images_per_prompt": (1 if body.batch_size is None else body.batch_size) * (1 if body.n_iter is None else body.n_iter),
        "rng": read_rng(said.randn_source or settings.randn_source),
        "steps": body.steps,
        "guidance_scale": body.cfg_scale,
        "sampler": read_sampler(body.sampler_name or body.sampler_index, body.scheduler),
        "seed": _seed(body.seed),
        "clip_skip": skip if skip and skip > 1 else None,
    }
    if body.subseed_strength:
        options |= {"variation_strength": body.subseed_strength, "variation_seed": _seed(body.subseed)}
    return {name: value for name, value in options.items() if value is not None}


def read_rng(source: str | None) -> str:
    """Return whose noise `randn_source` means: torch's, as everywhere here, unless it says the GPU's. Raises InvalidArgument."""
    if source is None:
        return "torch"
    if source.lower() not in RNGS:
        raise InvalidArgument(f"randn_source: got {source[:80]!r}; expected CPU, NV or GPU")
    return RNGS[source.lower()]


def _seed(value: int | None) -> int | None:
    """Return a seed, None for a random one."""
    return None if value is None or value == -1 else value


def _sides(body: TextToImage, model: OfferedModel) -> dict[str, int]:
    """Return the sides in pixels that a request says, rounded down to what the model paints, as the web UI rounds to multiples of 8.

    Raises InvalidArgument for a side below 1.
    """
    multiple = model.size_multiple
    said = {name: side for name, side in (("width", body.width), ("height", body.height)) if side is not None}
    for name, side in said.items():
        if side < 1:
            raise InvalidArgument(f"{name}: got {side}; expected at least 1, or leave it out")
    return {name: max(side // multiple * multiple, multiple) for name, side in said.items()}


def _model(body: TextToImage, settings: Overrides, models: Sequence[OfferedModel], tasks: Sequence[str]) -> OfferedModel:
    """Return the model that the request names, else its owner's choice, else the best one for the task. Raises UnknownModel."""
    wanted = (body.override_settings.sd_model_checkpoint if body.override_settings else None) or settings.sd_model_checkpoint
    name = find_model(models, wanted) if wanted else choose_model(models, tasks)
    return next(model for model in models if model.name == name)


def _refuse_undone(body: TextToImage) -> None:
    """Refuse what would make another picture altogether. Raises InvalidArgument."""
    if body.enable_hr:
        raise InvalidArgument("enable_hr: got true, but there is no second pass here; leave it out, and upscale by extra-single-image")
    if body.script_name:
        raise InvalidArgument(f"script_name: got {body.script_name[:80]!r}, but there are no scripts here; leave it out")
    for name, script in (body.alwayson_scripts or {}).items():
        arguments = script.get("args", []) if isinstance(script, dict) else script
        values = arguments.values() if isinstance(arguments, dict) else arguments if isinstance(arguments, list) else [arguments]
        if not all(_is_off(value) for value in values):
            raise InvalidArgument(f"alwayson_scripts: got {name[:80]!r}, but there are no scripts here; leave it out")


def _is_off(argument: Any) -> bool:
    """Return whether an argument of a script says that it does nothing: extensions such as ControlNet have objects with `enabled`."""
    return argument in SCRIPT_OFF or (isinstance(argument, dict) and argument.get("enabled") is False)


def _notes(body: TextToImage) -> tuple[str, ...]:
    """Tell what is not done and makes a small difference."""
    undone = [name for name in ("restore_faces", "tiling") if getattr(body, name)]
    if isinstance(body, ImageToImage) and body.mask and body.inpainting_fill not in (None, ORIGINAL):
        undone.append("inpainting_fill")
    return tuple(f"{name}: not done by this server" for name in undone)
