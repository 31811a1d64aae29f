"""The seam between the runtime and the backends: what every engine and every backend can do, whatever runs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy.typing as npt

from sd2rt.engine.manifest import Field
from sd2rt.engine.spec import BuildOptions, ComponentFiles, Range, TensorSpec
from sd2rt.engine.store import CacheEntry, Notify

if TYPE_CHECKING:
    from sd2rt.engine.cuda import Driver


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

        The arrays returned are the caller's: no later run writes to them.

        Raises InvalidArgument for a missing or unknown name, a wrong shape, or a dtype that cannot be cast so, such as floats
        where integers are expected, and EngineError when the backend fails or the engine is closed.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds; calling it again does nothing."""
        ...


class DeviceEngine(Protocol):
    """A component on a GPU that reads and writes device memory at fixed addresses and is launched without waiting.

    `inputs` and `outputs` name the axes that may vary, `ranges` says which sizes of them it takes: it may be bound anew to others of
    these. `scratch_bytes` is the memory it works in, which it may share with engines
    that never run at the same time. A `capturable` one may be recorded into a CUDA graph by its caller;
    one that `records_itself` has a graph of its own and is none the worse for not being so.
    """

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def ranges(self) -> Mapping[str, Range]: ...

    @property
    def scratch_bytes(self) -> int: ...

    @property
    def capturable(self) -> bool: ...

    @property
    def records_itself(self) -> bool: ...

    def bind(self, axes: Mapping[str, int], addresses: Mapping[str, int], scratch: int) -> None:
        """Fix the sizes of named axes, the device address of every input and output, and that of the scratch memory.

        Raises InvalidArgument for sizes that the engine was not built for, or a missing address.
        """
        ...

    def enqueue(self, stream: int) -> None:
        """Launch once on a CUDA stream (its handle) and return at once. Raises EngineError."""
        ...

    def close(self) -> None:
        """Free what the engine holds; calling it again does nothing."""
        ...


class Backend(Protocol):
    """What makes and loads the engines of a target: a module with these functions."""

    def fingerprint(self, options: BuildOptions) -> Mapping[str, Field]:
        """Return everything in the options, on this machine and in the backend's libraries that changes an engine: the cache key's part.

        Looked up whenever an engine is opened, so it imports nothing that only building needs.
        """
        ...

    def build(self, files: ComponentFiles, options: BuildOptions, folder: Path, notify: Notify) -> Mapping[str, Field]:
        """Write an engine of the component to an empty folder; return what its manifest should remember of the build.

        Raises MissingDependency, BundleError, BuildError, OSError.
        """
        ...

    def load(self, entry: CacheEntry, options: BuildOptions) -> Engine:
        """Load an engine whose files have been checked. Raises EngineError."""
        ...


class DeviceBackend(Backend, Protocol):
    """A backend whose engines run on a GPU."""

    def load_device(self, entry: CacheEntry, options: BuildOptions, driver: Driver, stream: int) -> DeviceEngine:
        """Load an engine whose files have been checked, to be launched on one stream. Raises EngineError."""
        ...
