"""A model into the models folder: downloaded where a name or hub id says so, then exported, imported or copied. Knows no verb."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sd2rt.cli.console import Console, size_text
from sd2rt.engine.errors import InvalidArgument, MissingDependency
from sd2rt.export.aliases import ALIASES, repositories
from sd2rt.runtime.model_store import HUB_SLASH, check_name, folder_bytes, models_root, stored_folder
from sd2rt.runtime.models import MANIFESTS

TORCH = ("torch", "diffusers", "transformers")
INSTALL = "pip install 'sd2rt[export,cpu]'"
INSTALL_HUB = "pip install 'sd2rt[hub]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to add: `source` is a bundle, a folder of optimum's or diffusers', a .safetensors file, an alias or a hub id.

    `name` is what it is called from then on; `dtype` and `preset` are as for `sd2rt export`; `force` replaces a model of that name, `keep`
    takes it where it is there by now.
    """

    source: str
    name: str
    dtype: str = "fp16"
    preset: str | None = None
    force: bool = False
    keep: bool = False
    offline: bool = False

    @property
    def path(self) -> Path | None:
        """Where the source lies on this machine; None for an alias or hub id. An alias is one whatever lies here."""
        return None if self.source in ALIASES else local_path(self.source)


def local_path(source: str) -> Path | None:
    """Return where a source lies on this machine, or None where it does not, or is what no path can be."""
    try:
        path = Path(source).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):  # too long; ~ of nobody; with a NUL
        return None


def add_model(console: Console, wish: Wish) -> Path:
    """Put a model into the models folder and return its bundle, which is there whole or not at all. One process at a time makes a name.

    Raises InvalidArgument for a name that is taken or impossible, ModelNotFound for a source that is not there, MissingDependency for what
    is to be installed, and as downloading and exporting do.
    """
    folder = models_root() / check_name(wish.name)
    if wish.name in MANIFESTS:  # it would never be found
        raise InvalidArgument(f"name: got {wish.name}, which is the name of an embedded model; choose another --name")
    with _locked(console, wish.name):
        if stored_folder(wish.name) is not None and wish.keep:
            return folder
        if stored_folder(wish.name) is not None and not wish.force:
            raise InvalidArgument(
                f"name: got {wish.name}, which is in {models_root()} already; choose another --name, or replace it: --force"
            )
        _put(console, wish.path or _download(console, wish), folder, wish)
    console.note(f"{wish.name} is in {folder}, {size_text(folder_bytes(folder))}")
    return folder


def safe_name(source: str) -> str:
    """Return a model's name for a source: an alias as it is, owner--name for a hub id, for a path its last part without ending."""
    path = None if source in ALIASES else local_path(source)
    if path is not None:
        source = path.resolve().stem if path.is_file() else path.resolve().name
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", source.replace("/", HUB_SLASH)).strip("-._")[:80] or "model"


def require_torch(why: str) -> None:
    """Raise MissingDependency, with the reason and what to install, where exporting is not possible."""
    missing = [name for name in TORCH if find_spec(name) is None]
    if missing:
        raise MissingDependency(f"{why} takes {missing[0]}, which is not installed: {INSTALL} (painting does not need it)")


def _download(console: Console, wish: Wish) -> Path:
    """Fetch what an alias or hub id names. Raises as `add_model`."""
    repositories(wish.source)  # a name that is none is better told before what is not installed
    if find_spec("huggingface_hub") is None:
        raise MissingDependency(f"downloading {wish.source} takes huggingface_hub, which is not installed: {INSTALL}, or {INSTALL_HUB}")
    from sd2rt.export.hub import download, hide_bars

    if console.quiet:
        hide_bars()
    exporting = all(find_spec(name) for name in TORCH)
    return download(wish.source, wish.dtype, console.note, offline=wish.offline, exporting=exporting, check=_check_kind).folder


def _check_kind(repo: str, kind: str) -> None:
    """Raise MissingDependency before a checkpoint is downloaded that could not be exported."""
    if kind == "checkpoint":
        require_torch(f"{repo} is a checkpoint: exporting it")


def _put(console: Console, source: Path, folder: Path, wish: Wish) -> None:
    """Make the bundle from what lies on this machine, by what it is. Raises as `add_model`."""
    from sd2rt.export.layout import is_graph_folder

    if (source / "bundle.json").is_file() or source.suffix == ".json":
        _copy_bundle(source, folder, wish, linked=wish.path is None)
    elif source.is_dir() and is_graph_folder(source):
        from sd2rt.export.optimum import import_graphs

        import_graphs(source, folder, wish.name, console.note, replace=wish.force)
    else:
        require_torch(f"{wish.source} is a checkpoint: exporting it")
        from sd2rt.export import ExportOptions, export

        options = ExportOptions(dtype=wish.dtype, preset=wish.preset, name=wish.name, replace=wish.force)
        console.note(f"exporting {source} to {folder} in {wish.dtype}, once")
        export(source, folder, options, console.note)


def _copy_bundle(source: Path, folder: Path, wish: Wish, *, linked: bool) -> None:
    """Link or copy a bundle's files: those that the manifest names, or all where they are the hub's links. Raises BundleError."""
    from sd2rt.export.writer import link_or_copy, new_folder
    from sd2rt.runtime.bundle import read_bundle

    if linked:
        manifest, files = source / "bundle.json", [path for path in source.rglob("*") if path.is_file()]
    else:
        bundle = read_bundle(source)
        manifest = bundle.manifest
        files = [path for component in bundle.components.values() for path in component.files.paths]
        files += [file.path for file in bundle.files.values()]
    with new_folder(folder, replace=wish.force) as made:
        for path in dict.fromkeys(file for file in files if file != manifest):
            target = made / path.relative_to(manifest.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(path.resolve(), target)
        (made / "bundle.json").write_bytes(manifest.read_bytes())
        read_bundle(made)  # what came from the hub is checked before it gets its name


@contextmanager
def _locked(console: Console, name: str) -> Iterator[None]:
    """Hold the lock of a name while its model is made. Raises InvalidArgument where the models folder cannot be written."""
    from filelock import FileLock, Timeout

    root = models_root()
    try:
        (root / ".locks").mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / ".locks" / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            console.note(f"another process is making {name}: waiting for it")
            lock.acquire()
    except OSError as error:
        raise InvalidArgument(f"cannot write to the models folder {root}: {error.strerror}; set SD2RT_MODELS to another one") from error
    try:
        yield
    finally:
        lock.release()
