"""Open engines: choose the backend, take the engine from the cache or build it there, and load it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

from sd2rt.engine.cache import CacheEntry, Notify, Recipe, obtain
from sd2rt.engine.errors import BundleError, EngineError, InvalidArgument, TargetUnavailable, first_line
from sd2rt.engine.manifest import Field, file_record
from sd2rt.engine.protocol import Backend, DeviceBackend, DeviceEngine, Engine
from sd2rt.engine.spec import BuildOptions, ComponentFiles
from sd2rt.engine.targets import choose_target

if TYPE_CHECKING:
    from sd2rt.engine.cuda import Driver

Loaded = TypeVar("Loaded")
log = logging.getLogger("sd2rt.engine")


def _silent(message: str) -> None:
    """Tell nobody."""


def open_engine(files: ComponentFiles, options: BuildOptions, notify: Notify = _silent) -> Engine:
    """Load the component's engine for `options.target` ("auto" takes the best), building it first where the cache has none.

    Raises TargetUnavailable, BundleError, BuildError, EngineCacheError, MissingDependency, EngineError, and InvalidArgument for options
    that the target does not have.
    """
    chosen = replace(options, target=_choose(files, options))
    backend = _backend(chosen.target)
    return _open(files, chosen, backend, lambda entry: backend.load(entry, chosen), notify)


def open_device_engine(files: ComponentFiles, options: BuildOptions, driver: Driver, stream: int, notify: Notify = _silent) -> DeviceEngine:
    """Load the component's engine for a CUDA stream, building it first where the cache has none. Raises as `open_engine` does."""
    chosen = replace(options, target=choose_target(options.target))
    backend = _device_backend(chosen.target)
    return _open(files, chosen, backend, lambda entry: backend.load_device(entry, chosen, driver, stream), notify)


def build_engine(files: ComponentFiles, options: BuildOptions, notify: Notify = _silent) -> CacheEntry:
    """Have the engine in the cache without loading it, which is when its files are hashed; it may be for another machine.

    Raises as `open_engine` does.
    """
    target = _choose(files, options, building=True)
    return _obtain(files, replace(options, target=target), _backend(target), notify, hashed=False)


def engine_fields(files: ComponentFiles, options: BuildOptions, backend: Backend) -> dict[str, Field]:
    """Return everything that changes the component's engine: what its key is made from. Raises InvalidArgument."""
    if options.precision != "auto" and options.target != "openvino":
        raise InvalidArgument(f"precision: got {options.precision}; {options.target} has no choice: leave it out, or use --target openvino")
    return {"target": options.target, "files": dict(files.sha256), **backend.fingerprint(options)}


def wanted_fields(files: ComponentFiles, options: BuildOptions) -> dict[str, Field]:
    """Return `engine_fields` of a target by its name. Raises TargetUnavailable, and InvalidArgument for options that it does not have."""
    return engine_fields(files, options, _backend(options.target))


def _choose(files: ComponentFiles, options: BuildOptions, *, building: bool = False) -> str:
    """Return the target; of a component whose model is not known, "auto" judges by its own size."""
    size = sum(path.stat().st_size for path in files.paths if path.exists()) if options.target == "auto" else None
    return choose_target(options.target, building=building, model_bytes=size)


def _backend(target: str) -> Backend:
    """Return the backend of a target. Raises TargetUnavailable when its library is installed but broken."""
    if target == "openvino":
        return _openvino_backend()
    if target != "cpu":
        return _device_backend(target)
    try:
        from sd2rt.engine import ort
    except (ImportError, OSError) as error:
        raise _broken_onnxruntime(target, "cpu", error) from error
    return ort


def _device_backend(target: str) -> DeviceBackend:
    """As `_backend`, for targets whose engines run on a GPU. Raises InvalidArgument for others."""
    if target in ("tensorrt", "tensorrt-rtx"):
        from sd2rt.engine.trt import TensorRTBackend

        return TensorRTBackend(target)
    if target != "cuda":
        raise InvalidArgument(f"target: got {target}; expected one of tensorrt, tensorrt-rtx, cuda, whose engines run on a device")
    try:
        from sd2rt.engine import ort_cuda
    except (ImportError, OSError) as error:
        raise _broken_onnxruntime(target, "gpu", error) from error
    return ort_cuda


def _openvino_backend() -> Backend:
    """Return the backend of openvino. Raises TargetUnavailable as `_backend` does."""
    try:
        from sd2rt.engine import openvino
    except (ImportError, OSError) as error:
        remedy = "pip install --force-reinstall openvino"
        raise TargetUnavailable(f"target openvino: openvino cannot be imported ({first_line(error)}); {remedy}") from error
    return openvino


def _broken_onnxruntime(target: str, extra: str, error: Exception) -> TargetUnavailable:
    remedy = f"uninstall onnxruntime and onnxruntime-gpu, then pip install 'sd2rt[{extra}]'"
    return TargetUnavailable(f"target {target}: onnxruntime cannot be imported ({first_line(error)}); {remedy}")


def _open(files: ComponentFiles, options: BuildOptions, backend: Backend, load: Callable[[CacheEntry], Loaded], notify: Notify) -> Loaded:
    started = perf_counter()
    entry = _obtain(files, options, backend, notify)
    try:
        loaded = load(entry)
    except EngineError:
        if entry.folder.exists():
            raise
    else:
        log.debug("%s: %s engine %s, ready after %.2f s", files.name, options.target, entry.folder.name[:12], perf_counter() - started)
        return loaded
    return load(_obtain(files, options, backend, notify))  # another process pruned it just before it was loaded


def _obtain(files: ComponentFiles, options: BuildOptions, backend: Backend, notify: Notify, *, hashed: bool = True) -> CacheEntry:
    recipe = Recipe(component=files.name, target=options.target, fields=engine_fields(files, options, backend))

    def build(folder: Path) -> Mapping[str, Field]:
        check_files(files)
        try:
            return backend.build(files, options, folder, notify)
        except OSError:
            check_files(files)  # a bundle that cannot be read any more is to blame, rather than the cache
            raise

    return obtain(recipe, build, notify, hashed=hashed)


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
