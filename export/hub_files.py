"""Which files of a repository are needed: a pure choice over its listing. Never a pickle, never weights that nothing reads."""

import fnmatch
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

from sd2rt.engine.errors import ExportError
from sd2rt.export.checkpoint import SCHEDULERS
from sd2rt.export.layout import ALWAYS, GRAPHS, PICKLE_ADVICE, PICKLES, WEIGHT_STEMS
from sd2rt.export.options import component_dtype

FULL, HALF = "", ".fp16"
MANIFEST = "bundle.json"
CONFIG_FOLDERS = (*SCHEDULERS, "feature_extractor", *WEIGHT_STEMS)


class Kind(StrEnum):
    """What a repository, or a folder, holds."""

    BUNDLE = "bundle"  # of sd2rt
    CHECKPOINT = "checkpoint"  # of diffusers, weights as safetensors
    GRAPHS = "ONNX"  # as optimum exports it


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """One file of a repository: `sha256` is known of large files (LFS), `blob_id` is git's hash of any.

    All are names of files on this machine as well, so that what is no name raises ExportError, whoever listed it.
    """

    path: str
    bytes: int
    blob_id: str
    sha256: str | None = None

    def __post_init__(self) -> None:
        _require(_is_inside(self.path), self.path, "a path in the repository")
        _require(re.fullmatch("[0-9a-f]{40}", self.blob_id) is not None, self.blob_id, f"git's hash of {self.path}, 40 hex digits")
        _require(
            self.sha256 is None or re.fullmatch("[0-9a-f]{64}", self.sha256) is not None,
            self.sha256,
            f"the SHA-256 of {self.path}, 64 hex digits",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a repository is, and the files of it to download."""

    kind: Kind
    files: tuple[HubFile, ...]

    @property
    def bytes(self) -> int:
        """What the files take."""
        return sum(file.bytes for file in self.files)


def choose_files(repo: str, files: Sequence[HubFile], dtype: str, *, exporting: bool = True) -> Choice:
    """Choose what a bundle of `dtype` ("fp16" or "fp32") is made from.

    For fp16 half-precision weights do, where the repository has them and the component is not kept in float32: they are the same weights,
    rounded before instead of after the download. Without `exporting` (torch is not installed) ONNX graphs are preferred.
    Raises ExportError where nothing fits.
    """
    paths = [file.path for file in files]
    kinds = {
        Kind.BUNDLE: lambda: paths if MANIFEST in paths else None,
        Kind.CHECKPOINT: lambda: _checkpoint(paths, dtype),
        Kind.GRAPHS: lambda: _graphs(paths),
    }
    order = [Kind.BUNDLE, Kind.CHECKPOINT, Kind.GRAPHS] if exporting else [Kind.BUNDLE, Kind.GRAPHS, Kind.CHECKPOINT]
    for kind in order:
        wanted = kinds[kind]()
        if wanted:
            chosen = {path for path in wanted if not path.startswith(".") and not path.endswith(PICKLES)}
            return Choice(kind=kind, files=tuple(file for file in files if file.path in chosen))
    pickles = [path for path in paths if path.endswith(PICKLES)]
    if pickles:
        raise ExportError(f"{repo} has no safetensors of all components: {pickles[0]} is a pickle: {PICKLE_ADVICE}")
    singles = [path for path in paths if path.endswith(".safetensors") and "/" not in path]
    if singles:
        raise ExportError(
            f"{repo} is not in diffusers' layout; download {singles[0]} yourself and name the file in place of the repository"
        )
    raise ExportError(
        f"{repo} holds no Stable Diffusion checkpoint: expected diffusers' layout (unet/, vae/, text_encoder/), or ONNX graphs"
    )


def named_files(manifest: bytes, files: Sequence[HubFile]) -> tuple[HubFile, ...]:
    """Return the files that a bundle.json names, and itself. What is wrong in it, or missing, is for the bundle's reader to tell."""
    try:
        document = json.loads(manifest)
    except (ValueError, RecursionError):
        document = {}
    names = {MANIFEST}
    for component, entry in _entries(document, "components"):
        names |= {f"{entry.get('folder', component)}/{file}" for file, _ in _entries(entry, "files")}
    for name, entry in _entries(document, "files"):
        names.add(f"{entry['folder']}/{PurePosixPath(name).name}" if "folder" in entry else name)
    wanted = {str(PurePosixPath(name)) for name in names}
    return tuple(file for file in files if file.path in wanted)


def _entries(document: Any, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the objects by name in the object under `key`, none where there is none."""
    value = document.get(key) if isinstance(document, dict) else None
    for name, entry in (value if isinstance(value, dict) else {}).items():
        if isinstance(entry, dict):
            yield name, entry


def _is_inside(path: str) -> bool:
    """Tell whether a path stays in its folder, on any system."""
    return not set(path.split("/")) & {"", ".", ".."} and not set(path) & {"\\", "\0"} and re.match("[A-Za-z]:", path) is None


def _require(right: bool, got: str | None, expected: str) -> None:
    if not right:
        raise ExportError(f"the hub's listing has {got!r}, expected {expected}: the server (HF_ENDPOINT) is not to be trusted, use another")


def _checkpoint(paths: Sequence[str], dtype: str) -> list[str] | None:
    """Return what a diffusers checkpoint needs, None where a component has no safetensors."""
    upscaling = any(path.startswith("low_res_scheduler/") for path in paths)
    wanted = _configs(paths)
    for component, stem in WEIGHT_STEMS.items():
        if component not in ALWAYS and f"{component}/config.json" not in paths:
            continue
        half = component_dtype(component, dtype, "upscaling" if upscaling else "") == "float16"
        weights = next(filter(None, (_weights(paths, component, stem, infix) for infix in ((HALF, FULL) if half else (FULL, HALF)))), None)
        if weights is None:
            return None
        wanted += weights
    return wanted


def _weights(paths: Iterable[str], component: str, stem: str, infix: str) -> list[str]:
    """Return a component's weights of one precision, whole or in shards with their index; nothing where there are none."""
    whole = f"{component}/{stem}{infix}.safetensors"
    if whole in paths:
        return [whole]
    index = f"{component}/{stem}.safetensors.index{infix}.json"
    if index not in paths:
        return []
    patterns = (f"{component}/{stem}{infix}-?????-of-?????.safetensors", f"{component}/{stem}-?????-of-?????{infix}.safetensors")
    return [index, *(path for path in paths if any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns))]


def _graphs(paths: Sequence[str]) -> list[str] | None:
    """Return what optimum's layout needs, None where a graph that every model has is missing."""
    if any(f"{name}/model.onnx" not in paths for name in GRAPHS):
        return None
    names = (*GRAPHS, "vae_encoder")
    graphs = [path for path in paths if any(path.startswith(f"{name}/model.onnx") for name in names)]
    return [*_configs(paths), *graphs, *(f"{name}/config.json" for name in names if f"{name}/config.json" in paths)]


def _configs(paths: Iterable[str]) -> list[str]:
    """Return everything that is no weights: model_index.json, the tokenizer, and the JSON of known folders."""
    patterns = ("model_index.json", "tokenizer/*", *(f"{name}/*config.json" for name in CONFIG_FOLDERS))
    return [path for path in paths if any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)]
