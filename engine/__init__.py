"""Engines: a bundle's components lowered for this machine, cached, and run on numpy arrays.

Backends import their own library lazily, in their own module; importing this package imports none of them.
"""

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

__all__ = [
    "BuildError",
    "BuildOptions",
    "BundleError",
    "ComponentFiles",
    "Engine",
    "EngineCacheError",
    "EngineError",
    "ExportError",
    "InvalidArgument",
    "MissingDependency",
    "ModelNotFound",
    "Sd2rtError",
    "TargetUnavailable",
    "TensorSpec",
]
