"""What the checker's tests share: rendered scenes, ways to spoil a picture, and captions with one thing wrong."""

from dataclasses import replace
from io import BytesIO

import numpy as np
from PIL import Image, ImageFilter

from sd2rt.toyworld.captions import parse_caption, write_caption
from sd2rt.toyworld.scene import Scene, render, sample_scene
from sd2rt.toyworld.vocabulary import COLOURS, SHAPES, SIZES

KINDS = ("colour", "shape", "size", "place", "missing", "extra")


def scenes(count: int, seed: int) -> list[tuple[Scene, np.ndarray]]:
    """Give scenes of one and two solids, and their pictures."""
    rng = np.random.default_rng(seed)
    drawn = [sample_scene(rng) for _ in range(count)]
    return [(scene, render(scene).image) for scene in drawn]


def blur_and_add_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur of sigma 0.7 pixels, then noise of sigma 6 levels."""
    blurred = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(0.7)), float)
    return np.clip(blurred + rng.normal(0, 6, image.shape) + 0.5, 0, 255).astype(np.uint8)


def compress(image: np.ndarray) -> np.ndarray:
    """JPEG at quality 70."""
    file = BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=70)
    return np.asarray(Image.open(file))


def wrong_caption(caption: str, kind: str, rng: np.random.Generator) -> str | None:
    """Change one thing of a full caption; None when this caption has no such thing to change.

    missing: the caption asks for a solid that the picture does not have; extra: it leaves one out.
    """
    wish = parse_caption(caption)
    solids = [replace(solid, place=solid.place or "") for solid in wish.solids]
    n = int(rng.integers(len(solids)))
    words = {"colour": tuple(COLOURS), "shape": SHAPES, "size": tuple(SIZES), "place": ("left", "right")}
    if kind == "extra":
        if len(solids) == 1:
            return None
        del solids[n]
    elif kind == "missing":
        if len(solids) == 2:
            return None
        solids = [replace(solids[0], place="left"), replace(solids[0], place="right", colour=str(rng.choice(words["colour"])))]
    elif kind == "place" and len(solids) == 2:
        left, right = solids
        if replace(left, place="right") == right:
            return None
        solids = [replace(right, place="left"), replace(left, place="right")]
    else:
        others = [word for word in words[kind] if word != getattr(solids[n], kind)]
        solids[n] = replace(solids[n], **{kind: str(rng.choice(others))})
    return write_caption(solids, wish.floor or "")
