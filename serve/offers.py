"""The models that a server offers, by names that are no paths, and what clients may know of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sd2rt.engine.errors import InvalidArgument, TargetUnavailable
from sd2rt.runtime.bundle import Bundle, read_bundle
from sd2rt.runtime.engine_plan import SIZED, choose_bundle_target
from sd2rt.runtime.models import find_model
from sd2rt.serve.batch_sizes import batch_sizes
from sd2rt.serve.built_engines import BuiltEngines
from sd2rt.serve.settings import ServeSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedModel:
    """What clients are told of a model: its name here, and what an order gets that says nothing else.

    `strength` and `noise_level` are None where the model leaves them to the task; sides are multiples of `size_multiple` pixels.
    A model for depth-to-image that has not `estimates_depth` needs a depth map; models of other tasks have not.
    """

    name: str
    task: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    sampler: str
    strength: float | None
    noise_level: int | None
    size_multiple: int
    estimates_depth: bool
    bundle_sha256: str
    default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A model and its bundle, read once when the server starts."""

    model: OfferedModel
    bundle: Bundle
    batch_sizes: tuple[int, ...]
    """How many pictures may be painted at once, where that does not depend on their size."""
    engines: BuiltEngines | None = None
    """What says so where it does."""


def name_models(models: Sequence[str]) -> dict[str, str]:
    """Return what `runtime.load` takes for each name that is offered: a folder is offered under its last part. Raises InvalidArgument."""
    named: dict[str, str] = {}
    for model in models:
        path = Path(model)
        name = path.stem if path.suffix == ".json" else path.name or path.resolve().name
        if name in named:
            raise InvalidArgument(f"models: got {named[name]} and {model}, which are both called {name!r}; rename one of the folders")
        named[name] = model
    if not named:
        raise InvalidArgument("models: got none; expected at least one to serve")
    return named


def read_offers(settings: ServeSettings) -> dict[str, Offer]:
    """Read the bundles of all models, the default one first. Raises InvalidArgument, ModelNotFound, BundleError and EngineError."""
    offers: dict[str, Offer] = {}
    for name, model in name_models(settings.models).items():
        bundle = read_bundle(find_model(model))
        offers[name] = Offer(
            model=_describe(name, bundle, default=not offers),
            bundle=bundle,
            batch_sizes=batch_sizes(bundle, settings.target, settings.batch),
            engines=find_engines(bundle, settings),
        )
    return offers


def find_engines(bundle: Bundle, settings: ServeSettings) -> BuiltEngines | None:
    """Return what knows a bundle's engines; None where they are for any size, or not on this machine.

    Raises as `choose_bundle_target` and `BuiltEngines` do.
    """
    try:
        target = choose_bundle_target(bundle, settings.target)
    except TargetUnavailable:
        return None
    if target not in SIZED or settings.engines == "elsewhere":
        return None
    return BuiltEngines(bundle, target, settings.batch, build=settings.engines == "on demand")


def _describe(name: str, bundle: Bundle, *, default: bool) -> OfferedModel:
    height, width = bundle.native_size
    return OfferedModel(
        name=name,
        task=bundle.task,
        width=width,
        height=height,
        steps=bundle.defaults.steps,
        guidance_scale=bundle.defaults.guidance_scale,
        sampler=bundle.defaults.sampler,
        strength=bundle.defaults.strength,
        noise_level=bundle.defaults.noise_level,
        size_multiple=bundle.size_multiple,
        estimates_depth="depth_estimator" in bundle.components,
        bundle_sha256=bundle.sha256,
        default=default,
    )
