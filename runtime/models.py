"""What a model name means: a bundle folder, a manifest in one, or a model that ships inside the package.

Knows where bundles are, not what is in them.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from sd2rt.engine.errors import ModelNotFound
from sd2rt.runtime.bundle import MANIFEST

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

    `toyworld` and the other names of `MANIFESTS` are the embedded models; write `./toyworld` for a folder of that name.
    """
    if str(name) in MANIFESTS:
        return _embedded(str(name))
    path = Path(name)
    try:
        hint = _why_not(path)
    except OSError as error:
        hint = f"{str(name)[:200]!r} cannot be opened: {error.strerror}"
    if hint is not None:
        raise ModelNotFound(hint)
    return path


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
    return f"no model {name!r}: known are {known}which are embedded, and bundle folders; make one with `sd2rt export SOURCE --out BUNDLE`"
