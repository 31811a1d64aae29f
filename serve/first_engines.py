"""Engines for the size that a model was trained at, built when a server starts that has none: so that it can paint at once."""

from __future__ import annotations

from collections.abc import Callable

from sd2rt.engine.build import build_engine
from sd2rt.engine.index import EngineIndex
from sd2rt.engine.spec import Range
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.engine_plan import SIZED, PlanOptions, choose_bundle_target, choose_guidance, plan_engines


def build_first(bundle: Bundle, target: str, most: int, notify: Callable[[str], None]) -> None:
    """Build what pictures of the model's own size take, from one to `most` at once, unless there is that for any such number of them.

    Raises as `build_engine` does.
    """
    chosen = choose_bundle_target(bundle, target)
    if chosen not in SIZED:
        return
    index = EngineIndex()
    index.refresh()
    for count in range(1, most + 1):
        wanted = plan_engines(bundle, native_plan(bundle, chosen, (count, count, count)))
        if all(index.has(files, options) for files, options in wanted):
            return
    height, width = bundle.native_size
    notify(f"{bundle.name} has no {chosen} engines for {width} x {height} pixels: building them for 1 to {most} pictures, once")
    for files, options in plan_engines(bundle, native_plan(bundle, chosen, (1, 1, most))):
        build_engine(files, options, notify)


def native_plan(bundle: Bundle, target: str, batch: Range) -> PlanOptions:
    """Return what `sd2rt build --batch` would: pictures of the model's own size, guided as they usually are."""
    size = bundle.native_size
    guidance = choose_guidance(bundle.defaults.guidance_scale, 0.0)
    return PlanOptions(target=target, smallest=size, usual=size, largest=size, batch=batch, guidance=guidance)
