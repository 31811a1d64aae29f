"""What a model name means: a bundle folder, or the model that ships inside the package.

Knows where bundles are, not what is in them.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from sd2rt.engine.errors import ModelNotFound
from sd2rt.runtime.bundle import MANIFEST

EMBEDDED = "toyworld"
CHECKPOINT_SUFFIXES = (".safetensors", ".ckpt")


def find_model(name: str | Path) -> Path:
    """Return the bundle folder that `name` means. Raises ModelNotFound saying what exists and what to do.

    `toyworld` is the embedded model; write `./toyworld` for a folder of that name.
    """
    if str(name) == EMBEDDED:
        return _embedded()
    path = Path(name)
    try:
        hint = _why_not(path)
    except OSError as error:
        hint = f"{str(name)[:200]!r} cannot be opened: {error.strerror}"
    if hint is not None:
        raise ModelNotFound(hint)
    return path


def _why_not(path: Path) -> str | None:
    """Return why a path is no bundle and what to do about it, or None when it is one."""
    if (path / MANIFEST).is_file():
        return None
    if (path / "model_index.json").is_file():
        return f"{path} is a diffusers checkpoint, not a bundle: export it first, `sd2rt export {path} --out BUNDLE`"
    if path.is_file() and path.suffix.lower() in CHECKPOINT_SUFFIXES:
        return f"{path} is a checkpoint file, not a bundle: export it first, `sd2rt export {path} --out BUNDLE`"
    if path.exists():
        return f"{path} is not a bundle: it has no {MANIFEST}; name a folder that `sd2rt export` wrote"
    return f"no model {str(path)!r}: known are {EMBEDDED!r} (embedded) and bundle folders; make one with `sd2rt export SOURCE --out BUNDLE`"


def _embedded() -> Path:
    spec = importlib.util.find_spec("sd2rt.toyworld")
    folders = [] if spec is None else spec.submodule_search_locations or []
    for folder in folders:
        bundle = Path(folder) / "bundle"
        if (bundle / MANIFEST).is_file():
            return bundle
    raise ModelNotFound(f"the embedded model {EMBEDDED!r} is missing from this installation: install sd2rt again, or name a bundle folder")
