"""What a model name means: a bundle folder, a manifest in one, a model of the models folder, or one that ships inside the package.

Knows where bundles are, not what is in them.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from sd2rt.engine.errors import ModelNotFound
from sd2rt.runtime.bundle import MANIFEST
from sd2rt.runtime.model_store import models_root, stored_folder, stored_names

EMBEDDED = "toyworld"
MANIFESTS = {
    EMBEDDED: MANIFEST,
    "toyworld-inpainting": "inpainting.json",
    "toyworld-depth": "depth.json",
    "toyworld-upscaler": "upscaler.json",
}
"""The embedded models by name: manifests of one folder."""
CHECKPOINT_SUFFIXES = (".safetensors", ".ckpt")


def find_model(name: str | Path) -> Path:
    """Return what `read_bundle` takes for a name: a bundle folder, or a manifest. Raises ModelNotFound saying what exists.

    `toyworld` and the other names of `MANIFESTS` are the embedded models; write `./toyworld` for a folder of that name. A path that is
    a bundle comes before a model of that name in the models folder.
    """
    if str(name) in MANIFESTS:
        return _embedded(str(name))
    path = Path(name)
    try:
        hint = _why_not(path)
    except OSError as error:
        hint = f"{str(name)[:200]!r} cannot be opened: {error.strerror}"
    if hint is None:
        return path
    stored = stored_folder(str(name))
    if stored is None:
        raise ModelNotFound(hint)
    return stored


def embedded_models() -> dict[str, Path]:
    """Return the embedded models that this installation has, and what `read_bundle` takes for each: the folder for the first."""
    spec = importlib.util.find_spec("sd2rt.toyworld")
    for package in [] if spec is None else spec.submodule_search_locations or []:
        folder = Path(package) / "bundle"
        if (folder / MANIFEST).is_file():
            beside = {name: folder / file for name, file in MANIFESTS.items() if name != EMBEDDED}
            return {EMBEDDED: folder} | {name: path for name, path in beside.items() if path.is_file()}
    return {}


def _embedded(name: str) -> Path:
    found = embedded_models()
    if name in found:
        return found[name]
    if found:
        raise ModelNotFound(_unknown(name))
    raise ModelNotFound(f"the embedded model {name!r} is missing from this installation: install sd2rt again, or name a bundle folder")


def _why_not(path: Path) -> str | None:
    """Return why a path is no bundle and what to do about it, or None when it is one."""
    if (path / MANIFEST).is_file() or (path.suffix == ".json" and path.is_file()):
        return None
    if (path / "model_index.json").is_file():
        return f"{path} is a diffusers checkpoint, not a bundle: export it first, `sd2rt export {path} --out BUNDLE`"
    if path.is_file() and path.suffix.lower() in CHECKPOINT_SUFFIXES:
        return f"{path} is a checkpoint file, not a bundle: export it first, `sd2rt export {path} --out BUNDLE`"
    if path.exists():
        return f"{path} is not a bundle: it has no {MANIFEST}; name a folder that `sd2rt export` wrote"
    return _unknown(str(path))


def _unknown(name: str) -> str:
    known = "".join(f"{embedded!r}, " for embedded in embedded_models())
    stored = f"{', '.join(map(repr, stored_names()))} in {models_root()}, " if stored_names() else ""
    make = "`sd2rt models pull NAME` gets one, `sd2rt export SOURCE --out BUNDLE` makes one"
    return f"no model {name!r}: known are {known}which are embedded, {stored}and bundle folders; {make}"
