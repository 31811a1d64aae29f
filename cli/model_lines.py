"""A model of the models folder in words: as JSON values, and as one line. Knows no verb."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sd2rt.cli.console import size_text

if TYPE_CHECKING:
    from sd2rt.engine.cache import CacheEntry
    from sd2rt.runtime.bundle import Bundle
    from sd2rt.runtime.model_store import StoredModel


def describe(model: StoredModel, cached: Sequence[CacheEntry]) -> dict[str, Any]:
    """Sum a model up as JSON values, its targets by the `cached` engines; `problem` is why it cannot be used, or ""."""
    from sd2rt.runtime.model_store import model_bytes, model_engines

    bundle = model.bundle
    return {
        "name": model.name,
        "folder": str(model.folder),
        "bytes": model_bytes(model),
        "task": None if bundle is None else bundle.task,
        "native_size": None if bundle is None else list(bundle.native_size),
        "precision": None if bundle is None else precision(bundle),
        "targets": [] if bundle is None else sorted({entry.manifest.target for entry in model_engines(bundle, cached)}),
        "problem": model.problem,
    }


def precision(bundle: Bundle) -> str:
    """Name what the UNet is in."""
    unet = bundle.components.get("unet")
    return "unknown" if unet is None else "int8" if unet.int8 else {"float16": "fp16", "float32": "fp32"}[unet.dtype]


def source_of(bundle: Bundle) -> str:
    """Return what a bundle was made from, as its manifest says, or "unknown"."""
    import json

    exported = json.loads(bundle.manifest.read_bytes()).get("export")
    source = exported.get("source") if isinstance(exported, dict) else None
    return source if isinstance(source, str) else "unknown"


def line(model: dict[str, Any]) -> str:
    """Sum a model up in one line."""
    if model["problem"]:
        return f"{model['name']:<24}damaged: {model['problem']}"
    height, width = model["native_size"]
    size, built = f"{width} x {height}", ", ".join(model["targets"]) or "none"
    return f"{model['name']:<24}{model['task']:<16}{size:<12}{model['precision']:<6}{size_text(model['bytes']):>9}  engines: {built}"
