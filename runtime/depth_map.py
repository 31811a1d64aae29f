"""Depth maps as depth to image takes them: inverse depth as MiDaS and DPT give it, so larger is nearer, on any scale.

Knows no depth estimator and no bundle.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import InvalidArgument, first_line
from sd2rt.runtime.image_input import ImageSource, check_size, flatten, open_picture

if TYPE_CHECKING:
    from PIL.Image import Image

Depth = npt.NDArray[np.float32]
CUBIC = -0.75  # the cubic convolution kernel's parameter in torch (and OpenCV); Pillow takes -0.5
FLAT = 1e-6  # a spread below this share of the largest value is rounding


def read_depth(name: str, source: ImageSource) -> Depth:
    """Return a depth map as float32 [H, W], larger is nearer; only its relative values count, so they are not scaled.

    Takes gray images of 8, 16 or 32 bits, colour images whose three channels are equal, `.npy` files and arrays [H, W] of any
    integer or float type. Raises InvalidArgument as read_image does, and for colours, other shapes, NaN and infinity.
    """
    if isinstance(source, np.ndarray):
        values = source
    elif isinstance(source, str | Path) and Path(source).suffix.lower() == ".npy":
        values = _load(name, Path(source))
    else:
        values = _grays(name, open_picture(name, source))
    if values.ndim != 2 or values.dtype.kind not in "uif":
        raise InvalidArgument(f"{name}: got an array of {values.dtype} {list(values.shape)}; expected one of numbers [H, W]")
    check_size(name, (values.shape[1], values.shape[0]))
    with np.errstate(over="ignore"):  # found by the check that follows
        depth = values.astype(np.float32)
    if not np.isfinite(depth).all():
        raise InvalidArgument(f"{name}: got NaN or infinity; expected finite depths, larger is nearer (0 for the sky)")
    return depth


def normalize_depth(depth: Depth, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Resize a depth map [H, W] to the latents' size (h, w) and spread it over [-1, 1]: float32 [1, 1, h, w], as diffusers.

    Cubic without antialiasing, as `torch.nn.functional.interpolate(mode="bicubic", align_corners=False)`. A constant map has no
    near and far, and becomes 0 (diffusers divides by zero there).
    """
    resized = _resize_rows(_resize_rows(depth.astype(np.float64), size[0]).T, size[1]).T
    low, high = float(resized.min()), float(resized.max())
    if high - low <= FLAT * max(abs(low), abs(high)):
        return np.zeros((1, 1, *size), np.float32)
    return (2.0 * (resized - low) / (high - low) - 1.0).astype(np.float32)[None, None]


def _load(name: str, path: Path) -> npt.NDArray[Any]:
    """Map a `.npy` file into memory, so that its size is known before it is read."""
    try:
        loaded: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, OverflowError) as error:
        raise InvalidArgument(f"{name}: cannot read {path} ({first_line(error)}); expected a .npy file of numbers [H, W]") from error
    return loaded


def _grays(name: str, image: Image) -> npt.NDArray[Any]:
    if image.mode[0] in "IF" or image.mode in ("1", "L"):
        return np.asarray(image) if image.mode != "1" else np.asarray(image).astype(np.uint8)
    colours = np.asarray(flatten(name, image, "black"))
    if (colours != colours[:, :, :1]).any():
        raise InvalidArgument(f"{name}: got a colour image; expected a depth map in grays, larger is nearer")
    return colours[:, :, 0]


def _resize_rows(values: npt.NDArray[np.float64], rows: int) -> npt.NDArray[np.float64]:
    """Resize the first axis of [H, W] by cubic convolution (Keys 1981) over pixel centres, the edge rows going on outside."""
    centres = (np.arange(rows, dtype=np.float32) + np.float32(0.5)) * np.float32(len(values) / rows) - np.float32(0.5)  # as torch rounds
    taps = np.floor(centres)[:, None] + np.arange(-1, 3)  # [rows, 4]
    x = np.abs(centres[:, None] - taps)
    near = ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1
    far = ((CUBIC * x - 5 * CUBIC) * x + 8 * CUBIC) * x - 4 * CUBIC
    weights = np.where(x <= 1, near, far)
    resized = np.zeros((rows, values.shape[1]))
    for tap in range(4):
        resized += weights[:, tap, None] * values[np.clip(taps[:, tap], 0, len(values) - 1).astype(np.intp)]
    return resized
