"""How to paint a picture again, from what its file says: the call's arguments, the model and target, and the pictures it began from.

Knows no engine. Whether the model is here, and whether pictures given are the same ones, is for the caller to find out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.a1111 import WebUiText
from sd2rt.runtime.a1111_fields import read_fields
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.image_input import file_sha256
from sd2rt.runtime.metadata import read_metadata
from sd2rt.runtime.parameters import Parameters, call_options

SD1_TEXT_WIDTH = 768  # the web UI leaves SD2's text encoder, which is wider, at its last layer whatever its "Clip skip" says
MASKED = ("Mask blur", "Mask mode", "Masked content", "Inpaint area", "Masked area padding")
ORDER_NOTE = "the web UI draws the noise of pictures made from pictures in another order; sd2rt's picture is not the same"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a picture file says. `record` is our own, `asked` what a text says to a call; one of them is there.
    `ours` says that sd2rt wrote the record, or the text.

    `model_hash` is the beginning of the bundle's SHA-256, all of it in a record; in a text it says nothing to us. `target` is ""
    where it is not known. `needed` are the pictures to give again, "image", "mask" or "depth", each with its SHA-256 or None.
    """

    record: Parameters | None
    ours: bool
    asked: Mapping[str, Any]
    model: str
    model_hash: str
    target: str
    precision: str
    task: str
    needed: Mapping[str, str | None]
    notes: tuple[str, ...]

    def options(self, bundle: Bundle) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Return the arguments for a bundle, pictures apart, and notes on them. Raises InvalidArgument as `call_options`."""
        if self.record is not None:
            return call_options(self.record, bundle.size_multiple), ()
        options = dict(self.asked)
        if self.ours:
            return options, ()
        skip = options.pop("clip_skip", 1)
        if skip == 1:
            return options, ()
        widths = [tensor.shape[-1] for tensor in bundle.component("unet").inputs if tensor.name == "encoder_hidden_states"]
        if widths == [SD1_TEXT_WIDTH]:
            return options | {"clip_skip": skip}, ()
        return options, (f"Clip skip: {skip} is left out, as the web UI does with models other than SD1's",)

    def facts(self) -> dict[str, Any]:
        """Return what there is to tell of the picture, named as in a record."""
        if self.record is None:
            return {"task": self.task, "model": self.model, "model_hash": self.model_hash} | dict(self.asked)
        return asdict(self.record)


def read_recipe(path: str | Path) -> Recipe:
    """Read how a picture file was made. Raises InvalidArgument where it does not say, as `read_metadata`."""
    found = read_metadata(path)
    if found.record is not None:
        record = found.record
        return Recipe(
            record=record,
            ours=True,
            asked={},
            model=record.model,
            model_hash=record.bundle_sha256,
            target=record.target,
            precision=record.precision,
            task=record.task,
            needed=_needed(record),
            notes=found.notes,
        )
    assert found.web_ui is not None  # one of the two is there
    return _from_text(found.web_ui, found.notes)


def _from_text(text: WebUiText, notes: tuple[str, ...]) -> Recipe:
    """Make a recipe of a text, by others most often. A strength says that there was a picture, a mask's pairs that there was a mask."""
    fields = read_fields(text)
    needed: dict[str, str | None] = {}
    task = "text-to-image"
    if "strength" in fields.options:
        masked = any(key in text.pairs for key in MASKED)
        needed = dict.fromkeys(("image", "mask") if masked else ("image",))
        task = "inpainting" if masked else "image-to-image"
        fields.options.update({"paste": True} if masked else {})  # the web UI always does
        fields.notes.extend([] if text.ours else [ORDER_NOTE])
    elif "noise_level" in fields.options:
        task, needed = "upscaling", {"image": None}
        fields.options.pop("width", None)
        fields.options.pop("height", None)
    return Recipe(
        record=None,
        ours=text.ours,
        asked=fields.options,
        model=text.pairs.get("Model", ""),
        model_hash=text.pairs.get("Model hash", "").lower(),
        target="",
        precision="auto",
        task=task,
        needed=needed,
        notes=(*notes, *fields.notes),
    )


def _needed(record: Parameters) -> dict[str, str | None]:
    """Return the pictures that a record's call was given."""
    if record.task == "text-to-image":
        return {}
    needed: dict[str, str | None] = {}
    depth = record.task == "depth-to-image"
    if not depth or record.strength is not None:
        needed["image"] = record.image_sha256
    if record.task == "inpainting" and (record.mask_sha256 or record.expand is None):
        needed["mask"] = record.mask_sha256
    if depth and (record.depth_sha256 or not needed):
        needed["depth"] = record.depth_sha256
    return needed


def check_pictures(recipe: Recipe, given: Mapping[str, str | None]) -> tuple[str, ...]:
    """Check that the pictures given, file names by argument, are those that the recipe needs; return notes on what cannot be checked.

    Raises InvalidArgument for one that is missing, too many, or another.
    """
    notes = []
    for name, path in given.items():
        if path is None:
            if name in recipe.needed:
                raise InvalidArgument(f"--{name}: got none; the picture was made from one{_named(recipe.needed[name])}: give it again")
        elif name not in recipe.needed:
            raise InvalidArgument(f"--{name}: got {path}; the picture was made without one, leave it out")
        elif recipe.needed[name] is None:
            notes.append(f"--{name}: whether {path} is the file that was used cannot be told, since its SHA-256 is not recorded")
        elif (digest := file_sha256(name, path)) != recipe.needed[name]:
            what = f"--{name}: got {path}, of SHA-256 {str(digest)[:12]}"
            raise InvalidArgument(f"{what}; the picture was made from one{_named(recipe.needed[name])}: give that file")
    return tuple(notes)


def _named(digest: str | None) -> str:
    return "" if digest is None else f" of SHA-256 {digest[:12]}"
