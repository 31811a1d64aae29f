"""Open engines: choose the backend, take the engine from the cache or build it there, and load it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sd2rt.engine.cache import CacheEntry, Notify, Recipe, obtain
from sd2rt.engine.errors import BundleError, EngineError, TargetUnavailable, first_line
from sd2rt.engine.manifest import Field, file_record
from sd2rt.engine.protocol import Backend, Engine
from sd2rt.engine.spec import BuildOptions, ComponentFiles
from sd2rt.engine.targets import choose_target


def _silent(message: str) -> None:
    """Tell nobody."""


def open_engine(files: ComponentFiles, options: BuildOptions, notify: Notify = _silent) -> Engine:
    """Load the component's engine for `options.target` ("auto" takes the best), building it first where the cache has none.

    Raises TargetUnavailable, BundleError, BuildError, EngineCacheError, MissingDependency, EngineError.
    """
    target = choose_target(options.target)
    backend = _backend(target)
    entry = _obtain(files, replace(options, target=target), backend, notify)
    try:
        return backend.load(entry, options)
    except EngineError:
        if entry.folder.exists():
            raise
    # another process pruned it just before it was loaded
    return backend.load(_obtain(files, replace(options, target=target), backend, notify), options)


def build_engine(files: ComponentFiles, options: BuildOptions, notify: Notify = _silent) -> CacheEntry:
    """Have the engine in the cache, whole and checked, without loading it. Raises as `open_engine` does."""
    target = choose_target(options.target)
    return _obtain(files, replace(options, target=target), _backend(target), notify)


def _backend(target: str) -> Backend:
    """Import the backend of a target; each is a module. Raises TargetUnavailable when its library is installed but broken."""
    assert target == "cpu", target  # the only one so far
    try:
        from sd2rt.engine import ort
    except (ImportError, OSError) as error:
        remedy = "uninstall onnxruntime and onnxruntime-gpu, then pip install 'sd2rt[cpu]'"
        raise TargetUnavailable(f"target {target}: onnxruntime cannot be imported ({first_line(error)}); {remedy}") from error
    return ort


def _obtain(files: ComponentFiles, options: BuildOptions, backend: Backend, notify: Notify) -> CacheEntry:
    recipe = Recipe(
        component=files.name,
        target=options.target,
        fields={"target": options.target, "files": dict(files.sha256), **backend.fingerprint(options)},
    )

    def build(folder: Path) -> Mapping[str, Field]:
        check_files(files)
        try:
            return backend.build(files, options, folder, notify)
        except OSError:
            check_files(files)  # a bundle that cannot be read any more is to blame, rather than the cache
            raise

    return obtain(recipe, build, notify)


def check_files(files: ComponentFiles) -> None:
    """Compare the component's files with their SHA-256. Raises BundleError that names the file and what to do."""
    for path in files.paths:
        try:
            got = file_record(path).sha256
        except OSError as error:
            raise BundleError(f"{path}: {error.strerror}; export the bundle again") from error
        expected = files.sha256[path.name]
        if got != expected:
            reason = f"got SHA-256 {got[:12]}, bundle.json says {expected[:12]}: the file was changed or damaged"
            raise BundleError(f"{path}: {reason}; export the bundle again")
