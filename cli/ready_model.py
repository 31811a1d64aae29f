"""`--model` where it names no bundle yet: what can become one is made into one, once, and a later run finds it."""

from __future__ import annotations

from pathlib import Path

from sd2rt.cli.add_model import Wish, add_model, local_path, require_torch, safe_name
from sd2rt.cli.console import Console
from sd2rt.engine.errors import ModelNotFound
from sd2rt.export.aliases import ALIASES, HUB_ID
from sd2rt.runtime.model_store import models_root, stored_names
from sd2rt.runtime.models import CHECKPOINT_SUFFIXES, find_model

INDEX = ".hashes.json"


def ready_model(console: Console, model: str) -> str:
    """Return the bundle that `--model` names, as `runtime.load` takes it, making it where it is an alias or a checkpoint on this machine.

    An alias (`sd21`) is downloaded and exported under its name; a diffusers folder, a .safetensors file and a folder of optimum's become
    models named after their content, so that a changed checkpoint is exported again. A hub id is never downloaded here: it could be a
    mistyped folder. Raises ModelNotFound, MissingDependency, and as `add_model`.
    """
    try:
        find_model(model)
        return model
    except ModelNotFound as error:
        missing = error
    path = local_path(model)
    if model in ALIASES:
        console.note(f"{model} is not in {models_root()} yet: it is downloaded and exported, once; --offline forbids it")
        require_torch(f"{model} is not in {models_root()} yet: exporting it")
        return str(add_model(console, Wish(source=model, name=model, keep=True, offline=console.offline)))
    if path is not None and is_checkpoint(path):
        return str(_add_once(console, path))
    if HUB_ID.fullmatch(model):
        raise ModelNotFound(f"no folder {model}; if it is a repository of the hub: `sd2rt models pull {model}`") from missing
    raise missing


def is_checkpoint(path: Path) -> bool:
    """Tell whether something on this machine can become a bundle, by its name and layout."""
    try:
        return (path.is_file() and path.suffix.lower() in CHECKPOINT_SUFFIXES) or (path / "model_index.json").is_file()
    except (OSError, ValueError):
        return False


def _add_once(console: Console, path: Path) -> Path:
    """Return the model made from this content, making it the first time."""
    from sd2rt.export.content import content_key
    from sd2rt.export.layout import is_graph_folder

    if not is_graph_folder(path):
        require_torch(f"{path} is a checkpoint: exporting it")
    key = content_key(path, models_root() / INDEX)
    for name in stored_names():
        if name.endswith(f"-{key}"):  # whatever the checkpoint was called then
            return models_root() / name
    return add_model(console, Wish(source=str(path.absolute()), name=f"{safe_name(str(path))}-{key}", keep=True))
