"""Engines: a bundle's components lowered for this machine, cached, and run on numpy arrays.

Backends import their own library lazily, in their own module; importing this package imports none of them.
"""

from sd2rt.engine.build import build_engine, open_engine
from sd2rt.engine.cache import CacheEntry, Verdict, cache_root, list_engines, prune_engines, verify_engines
from sd2rt.engine.errors import (
    BuildError,
    BundleError,
    EngineCacheError,
    EngineError,
    ExportError,
    InvalidArgument,
    MissingDependency,
    ModelNotFound,
    Sd2rtError,
    TargetUnavailable,
)
from sd2rt.engine.protocol import Engine
from sd2rt.engine.spec import BuildOptions, ComponentFiles, TensorSpec
from sd2rt.engine.targets import TargetStatus, probe_targets, resolve_target

__all__ = [
    "BuildError",
    "BuildOptions",
    "BundleError",
    "CacheEntry",
    "ComponentFiles",
    "Engine",
    "EngineCacheError",
    "EngineError",
    "ExportError",
    "InvalidArgument",
    "MissingDependency",
    "ModelNotFound",
    "Sd2rtError",
    "TargetStatus",
    "TargetUnavailable",
    "TensorSpec",
    "Verdict",
    "build_engine",
    "cache_root",
    "list_engines",
    "open_engine",
    "probe_targets",
    "prune_engines",
    "resolve_target",
    "verify_engines",
]
