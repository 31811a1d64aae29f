"""Which task a call asks of a bundle, from the pictures and picture options that it brings along. Reads no picture."""

from __future__ import annotations

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.options import Request

PICTURE_OPTIONS = ("image", "mask", "expand", "depth", "strength", "noise_level")
MASK_OPTIONS = ("mask_blur", "invert", "paste")  # which say something of a mask, or of the one that `expand` makes
# What a bundle's task takes of them; `image` and others that it cannot do without are checked where they are read.
TAKES = {
    "text-to-image": ("image", "mask", "expand", "strength"),
    "inpainting": ("image", "mask", "expand", "strength"),
    "depth-to-image": ("image", "depth", "strength"),
    "upscaling": ("image", "noise_level"),
}


def choose_task(request: Request, bundle: Bundle) -> str:
    """Return what a call asks of a bundle: the bundle's task, or of a text-to-image one what the pictures given make of it.

    Raises InvalidArgument for pictures that the bundle has no use for, and when it cannot do without one that is not there.
    """
    given = [name for name in PICTURE_OPTIONS if getattr(request, name) is not None]
    of_masks = [name for name in MASK_OPTIONS if getattr(request, name)]
    stray = [name for name in given if name not in TAKES[bundle.task]] or ([] if "mask" in TAKES[bundle.task] else of_masks)
    if stray:
        takes = ", ".join(TAKES[bundle.task])
        raise InvalidArgument(
            f"{stray[0]}: {bundle.name} is a model for {bundle.task}, which takes {takes}; leave it out or name another model"
        )
    masked = "mask" in given or "expand" in given
    if "image" not in given and (masked or bundle.task in ("inpainting", "upscaling") or given == ["strength"]):
        why = f"there is {given[0]}" if bundle.task == "text-to-image" else f"{bundle.name} is for {bundle.task}"
        raise InvalidArgument(f"image: got none; expected a picture, as {why}")
    if bundle.task == "depth-to-image" and not {"image", "depth"} & set(given):
        raise InvalidArgument(f"image: got neither a picture nor depth; expected one of them, as {bundle.name} is for depth-to-image")
    if bundle.task == "depth-to-image" and "depth" not in given and "depth_estimator" not in bundle.components:
        raise InvalidArgument(f"depth: got none, and {bundle.name} cannot estimate it; give a depth map, nearer is brighter, of any size")
    if not masked and (of_masks or bundle.task == "inpainting"):
        what = f"none for {of_masks[0]}" if of_masks else "none"
        raise InvalidArgument(f"mask: got {what}; expected a picture that is white where to paint, or expand")
    if bundle.task != "text-to-image":
        return bundle.task
    return "inpainting" if masked else "image-to-image" if "image" in given else "text-to-image"
