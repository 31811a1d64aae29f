"""Models as the web UI names them: by title, name, file or hash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sd2rt.serve.errors import UnknownModel

if TYPE_CHECKING:
    from sd2rt.serve.offers import OfferedModel

SHORT_HASH = 10  # characters, as the web UI shows them
SUFFIXES = (".safetensors", ".ckpt")


def title_of(model: OfferedModel) -> str:
    """Return a model's name with its hash, which the web UI calls its title."""
    return f"{model.name} [{model.bundle_sha256[:SHORT_HASH]}]"


def find_model(models: Sequence[OfferedModel], wanted: str) -> str:
    """Return the name of the model that a client means. Raises UnknownModel."""
    plain = wanted.strip()
    for suffix in SUFFIXES:
        plain = plain.removesuffix(suffix)
    for model in models:
        if plain in (model.name, title_of(model), model.bundle_sha256, model.bundle_sha256[:SHORT_HASH]):
            return model.name
    raise UnknownModel(f"sd_model_checkpoint: got {wanted[:80]!r}; expected one of {', '.join(model.name for model in models)}")


def list_models(models: Sequence[OfferedModel]) -> list[dict[str, Any]]:
    """Return what `GET /sdapi/v1/sd-models` lists; file names are the models' own, no path of this machine."""
    return [
        {
            "title": title_of(model),
            "model_name": model.name,
            "hash": model.bundle_sha256[:SHORT_HASH],
            "sha256": model.bundle_sha256,
            "filename": model.name,
            "config": None,
        }
        for model in models
    ]


def list_upscalers(models: Sequence[OfferedModel]) -> list[dict[str, Any]]:
    """Return what `GET /sdapi/v1/upscalers` lists: two that only resize, and the models for upscaling."""
    plain = [_upscaler("None", None, 4.0), _upscaler("Lanczos", None, 4.0), _upscaler("Nearest", None, 4.0)]
    return plain + [_upscaler(model.name, model.name, 4.0) for model in models if model.task == "upscaling"]


def _upscaler(name: str, model: str | None, scale: float) -> dict[str, Any]:
    return {"name": name, "model_name": model, "model_path": None, "model_url": None, "scale": scale}
