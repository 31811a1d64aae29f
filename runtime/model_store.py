"""The models folder: bundles by name, so that `--model sd21` finds one.

    <root>/<name>/bundle.json + the bundle's files      one model
    <root>/.locks/<name>.lock                           held by the one process that makes it
    <root>/.removed-*                                   a model on its way out, or what a killed `rm` left

The root is $SD2RT_MODELS, or `models` in the user's data folder. Knows where models are and what they take; makes none.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sd2rt.engine.errors import BundleError, InvalidArgument, ModelNotFound
from sd2rt.engine.places import chosen_path
from sd2rt.runtime.bundle import MANIFEST, Bundle, read_bundle

if TYPE_CHECKING:
    from sd2rt.engine.cache import CacheEntry

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._+-]{0,98}[A-Za-z0-9_+-])?")
HUB_SLASH = "--"  # what stands for the slash of a hub id in a model's name


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """One model of the folder, or an embedded one. `bundle` is None where it cannot be read, and `problem` then says why, else ""."""

    name: str
    folder: Path
    bundle: Bundle | None
    problem: str = ""


def models_root() -> Path:
    """Return the folder that holds the models; it need not exist yet. Raises InvalidArgument for a wrong SD2RT_MODELS."""
    chosen = chosen_path("SD2RT_MODELS")
    if chosen is not None:
        return chosen
    import platformdirs  # not needed, and so not loaded, when the variable is set

    return platformdirs.user_data_path("sd2rt") / "models"


def check_name(name: str) -> str:
    """Return a name that a model may have here. Raises InvalidArgument: a name is never a path."""
    if NAME.fullmatch(name) is None:
        raise InvalidArgument(
            f"name: got {name[:120]!r}; expected up to 100 letters, digits, '.', '_', '+' and '-', a letter or digit first"
        )
    return name


def stored_name(name: str) -> str | None:
    """Return the name under which a model of this name or hub id would be kept; None for what no model can be called."""
    kept = name.replace("/", HUB_SLASH) if name.count("/") == 1 else name
    return kept if NAME.fullmatch(kept) else None


def stored_folder(name: str) -> Path | None:
    """Return the bundle folder of a model by its name or hub id, or None. Nothing in it is read."""
    kept = stored_name(name)
    folder = None if kept is None else models_root() / kept
    return folder if folder is not None and (folder / MANIFEST).is_file() else None


def stored_names() -> list[str]:
    """Return the names of all models, in order; none where the folder is missing or cannot be read."""
    root = models_root()
    try:
        return sorted(path.name for path in root.iterdir() if NAME.fullmatch(path.name) and (path / MANIFEST).is_file())
    except OSError:
        return []


def list_models() -> Iterator[StoredModel]:
    """Yield all models, those with a damaged bundle too."""
    for name in stored_names():
        yield read_stored(name)


def read_stored(name: str) -> StoredModel:
    """Read one model by its name. Raises ModelNotFound where there is none."""
    folder = stored_folder(name)
    if folder is None:
        known = ", ".join(stored_names()) or "none yet"
        raise ModelNotFound(f"no model {name[:200]!r} in {models_root()}: there are {known} (`sd2rt models list`)")
    try:
        return StoredModel(name=folder.name, folder=folder, bundle=read_bundle(folder))
    except BundleError as error:
        return StoredModel(name=folder.name, folder=folder, bundle=None, problem=str(error))


def folder_bytes(folder: Path) -> int:
    """Return what the files of a folder take, in bytes; links are not followed."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def model_bytes(model: StoredModel) -> int:
    """Return what a model takes, in bytes: its folder, or of a manifest that shares its folder with others the files it names."""
    if model.bundle is None or model.folder.parent == models_root():
        return folder_bytes(model.folder)
    files = {path for component in model.bundle.components.values() for path in component.files.paths}
    return sum(path.stat().st_size for path in files)


def model_engines(bundle: Bundle, cached: Iterable[CacheEntry]) -> tuple[CacheEntry, ...]:
    """Return those of the `cached` engines (`engine.cache.list_engines`) that were built from a component of the bundle."""
    hashes = [dict(component.files.sha256) for component in bundle.components.values()]
    return tuple(entry for entry in cached if entry.manifest.fields.get("files") in hashes)


def unshared_engines(model: StoredModel) -> tuple[CacheEntry, ...]:
    """Return the engines of a model that no other model of the folder has: models of one family share text encoder and autoencoder.

    Raises EngineCacheError.
    """
    from sd2rt.engine.cache import list_engines

    if model.bundle is None:
        return ()
    cached = list_engines()
    others = [other.bundle for other in list_models() if other.name != model.name and other.bundle is not None]
    kept = {entry.folder for bundle in others for entry in model_engines(bundle, cached)}
    return tuple(entry for entry in model_engines(model.bundle, cached) if entry.folder not in kept)


def remove_model(model: StoredModel) -> None:
    """Delete a model: it disappears in one step, then its files go. Raises OSError."""
    if model.folder.is_symlink():
        model.folder.unlink()  # what a link leads to is not ours
        return
    for leftover in model.folder.parent.glob(".removed-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    doomed = Path(tempfile.mkdtemp(prefix=".removed-", dir=model.folder.parent))
    try:
        model.folder.rename(doomed / model.name)
    finally:
        shutil.rmtree(doomed, ignore_errors=True)
