"""A fake GPU whose engines are records alone: the cache says that they are built, and nobody opens them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sd2rt.engine.build import wanted_fields
from sd2rt.engine.cache import Recipe, obtain
from sd2rt.engine.spec import Guidance
from sd2rt.runtime.bundle import Bundle, read_bundle
from sd2rt.runtime.engine_plan import PlanOptions, plan_engines
from sd2rt.runtime.models import find_model
from tests.fake_gpu import TARGET, fake_gpu

__all__ = ["TARGET", "machine", "record_engines", "toyworld"]


@contextmanager
def machine(folder: Path) -> Iterator[None]:
    """A machine with a fake GPU and an engine cache of its own, with nothing in it."""
    with pytest.MonkeyPatch.context() as patch, fake_gpu(folder):
        patch.setenv("SD2RT_CACHE", str(folder / "cache"))
        yield


def toyworld() -> Bundle:
    """The embedded text-to-image model."""
    return read_bundle(find_model("toyworld"))


def record_engines(bundle: Bundle, largest: int = 64, batch: tuple[int, int] = (1, 1), **changes: Any) -> None:
    """Record what `sd2rt build --size 64x64..LARGEST --batch A..B` would build."""
    plan = {
        "smallest": (64, 64),
        "usual": (64, 64),
        "largest": (largest, largest),
        "batch": (batch[0], *batch),
        "guidance": Guidance.GUIDED,
    }
    for files, options in plan_engines(bundle, PlanOptions(target=TARGET, **{**plan, **changes})):
        recipe = Recipe(component=files.name, target=TARGET, fields=wanted_fields(files, options))
        obtain(recipe, lambda folder: (folder / "engine.plan").write_bytes(b"nothing") and {}, lambda message: None)
