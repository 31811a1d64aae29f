"""The seam between the runtime and the backends: what every engine and every backend can do, whatever runs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from sd2rt.engine.manifest import Field
from sd2rt.engine.spec import BuildOptions, ComponentFiles, TensorSpec
from sd2rt.engine.store import CacheEntry


class Engine(Protocol):
    """A loaded component that maps named arrays to named arrays.

    Shapes and dtypes are those of `inputs` and `outputs`. CPU engines compute in float32 whatever the bundle's dtype.
    """

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run once. Feeds are cast to the input's dtype: floats and integers of any width, integers to floats too.

        Raises InvalidArgument for a missing or unknown name, a wrong shape, or a dtype that cannot be cast so, such as floats
        where integers are expected, and EngineError when the backend fails or the engine is closed.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds; calling it again does nothing."""
        ...


class Backend(Protocol):
    """What makes and loads the engines of a target: a module with these functions."""

    def fingerprint(self) -> Mapping[str, Field]:
        """Return everything on this machine and in the backend's libraries that changes an engine: part of the cache key.

        Looked up whenever an engine is opened, so it imports nothing that only building needs.
        """
        ...

    def build(self, files: ComponentFiles, folder: Path) -> None:
        """Write an engine of the component to an empty folder. Raises MissingDependency, BundleError, BuildError, OSError."""
        ...

    def load(self, entry: CacheEntry, options: BuildOptions) -> Engine:
        """Load an engine whose files have been checked. Raises EngineError."""
        ...
