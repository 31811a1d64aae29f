"""One setting of the GPU benchmark, and the inputs that are the same for every contender. Knows no library."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

PROMPT = "a lighthouse at dusk, waves below it, a painting"
TIMESTEP, GUIDANCE = 500.0, 7.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Square pictures of `side` pixels, `images` at a time."""

    side: int
    images: int

    @property
    def name(self) -> str:
        """The case's key in the results."""
        return f"{self.side} x {self.images}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The cases, the steps of a picture, how often all is measured, and whether what it measures on is a GPU or, in tests, none."""

    cases: tuple[Case, ...]
    sampler: str
    scheduler: str
    steps: int
    blocks: int
    calls: int
    pictures: int
    device: str = "cuda"

    @classmethod
    def read(cls, text: str) -> Settings:
        """Read what `write` wrote."""
        content = json.loads(text)
        return cls(cases=tuple(Case(**case) for case in content.pop("cases")), **content)

    def write(self) -> str:
        """Write as JSON."""
        cases = [{"side": case.side, "images": case.images} for case in self.cases]
        return json.dumps({name: getattr(self, name) for name in self.__dataclass_fields__} | {"cases": cases})


def draw(name: str, shape: tuple[int, ...]) -> Floats:
    """Draw an input that float16 holds exactly."""
    seed = {"latents": 1, "states": 2}[name]
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float16).astype(np.float32)


def guided(rows: Floats) -> Floats:
    """Combine the UNet's rows, negative prompts first, as a guided step does."""
    negative, positive = np.split(rows.astype(np.float32), 2)
    combined: Floats = negative + np.float32(GUIDANCE) * (positive - negative)
    return combined


def measure_cases(settings: Settings, out: Path, measure: Callable[[Case, Path], Mapping[str, Any]]) -> dict[str, Any]:
    """Measure case after case; one that fails, for lack of memory for instance, leaves its reason and the others go on.

    `measure` writes the step's output and the final latents to the folder that it is given.
    """
    found: dict[str, Any] = {}
    for case in settings.cases:
        folder = out / case.name.replace(" ", "")
        folder.mkdir(parents=True, exist_ok=True)
        try:
            found[case.name] = measure(case, folder)
        except Exception as error:  # the libraries' errors have no common base
            found[case.name] = {"failed": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
    return {"cases": found}
