"""What one process of the peers' benchmark is told to paint, and what a painter is. Knows no library; needs numpy alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Pictures = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One way to paint within a job: `calls` calls of `batch` pictures each, `height` x `width` pixels, in `steps` steps.

    `warm_ups` calls come first and are not counted. Pictures of the counted calls are saved as `<name>.npy`.
    """

    name: str
    batch: int
    steps: int
    calls: int
    height: int
    width: int
    warm_ups: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A model, how to run it, and the parts to paint, all by DDIM, which every contender has.

    `seed` + k is the seed of picture k of every part and `captions[k]` its prompt. `noise` is the start of the paths of files of
    what those seeds draw, `<noise>-64x64.npy`. `cache` is a folder for compiled models, or empty. `scheduler` holds the
    constants of the bundle's schedule.
    """

    painter: str
    model: str
    cache: str
    threads: int
    seed: int
    guidance: float
    captions: tuple[str, ...]
    parts: tuple[Part, ...]
    noise: str
    out: str
    scheduler: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)


class Painter(Protocol):
    """A loaded model."""

    one_prompt: bool
    """All pictures of a call show the same prompt: the library takes no list."""
    step_ends: list[float]
    """When each step so far ended, by `perf_counter`."""

    def prepare(self, part: Part) -> None:
        """Get ready for a part's shape and steps, as far as the library can."""

    def paint(self, prompts: list[str], noise: Floats, seeds: list[int], part: Part) -> Pictures:
        """Paint from unit normal `noise` [N, C, h, w], or from `seeds` where the library takes no noise: [N, H, W, 3] uint8."""


def read_job(path: Path) -> Job:
    """Read a job from its JSON file."""
    said = json.loads(path.read_text())
    return Job(**{**said, "captions": tuple(said["captions"]), "parts": tuple(Part(**part) for part in said["parts"])})


def as_bytes(pictures: npt.ArrayLike) -> Pictures:
    """Turn pictures in [0, 1] into bytes, rounded to the nearest."""
    return np.asarray(np.rint(np.clip(np.asarray(pictures, np.float32), 0.0, 1.0) * 255.0), np.uint8)


def ddim_sigmas(scheduler: Mapping[str, Any], steps: int) -> list[float]:
    """Return the noise levels, sqrt((1 - alpha_bar) / alpha_bar), of DDIM's timesteps, and that of timestep 0, where it ends.

    For schedules such as SD2's: scaled linear betas, leading spacing, `set_alpha_to_one` false.
    """
    total = scheduler["num_train_timesteps"]
    betas = np.linspace(scheduler["beta_start"] ** 0.5, scheduler["beta_end"] ** 0.5, total) ** 2
    alpha_bar = np.cumprod(1.0 - betas)
    timesteps = np.arange(steps)[::-1] * (total // steps) + scheduler["steps_offset"]
    chosen = alpha_bar[[*timesteps, 0]]
    return [float(sigma) for sigma in np.sqrt((1.0 - chosen) / chosen)]
