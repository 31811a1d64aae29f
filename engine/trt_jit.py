"""Kernels that TensorRT-RTX compiles for this GPU when an engine is first loaded, kept on disk for the next time.

They lie beside the engines, in files of this user's alone, named by engine, GPU and driver. TensorRT-RTX checks itself whether a file
suits the machine; one that cannot be read or written only costs the time to compile again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

from sd2rt.engine.cache_access import check_owner
from sd2rt.engine.cuda import Driver
from sd2rt.engine.errors import EngineCacheError
from sd2rt.engine.store import KERNELS, CacheEntry


def kernel_file(entry: CacheEntry, driver: Driver) -> Path:
    """Return where the kernels of an engine lie for one GPU and driver: the name begins with the engine's key."""
    machine = f"{driver.name} {driver.capability} {driver.driver_version}"
    return entry.folder.parent / KERNELS / f"{entry.manifest.key}-{hashlib.sha256(machine.encode()).hexdigest()[:16]}.bin"


class KernelCache:
    """TensorRT-RTX's runtime cache of one engine, and its file."""

    def __init__(self, cache: Any, file: Path) -> None:
        """Read the file, if there is one of ours, into the cache."""
        self._cache = cache
        self._file = file
        self._content = b""
        with contextlib.suppress(OSError, EngineCacheError):
            check_owner(file.parent)
            check_owner(file)
            content = file.read_bytes()
            if cache.deserialize(content):
                self._content = content

    def save(self) -> None:
        """Write the file, whole or not at all, when there are kernels that it has not."""
        content = bytes(self._cache.serialize() or b"")
        if content in (b"", self._content):
            return
        with contextlib.suppress(OSError, EngineCacheError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            check_owner(self._file.parent)
            _replace(self._file, content)
            self._content = content


def _replace(file: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(prefix=".tmp-", dir=file.parent)  # 0600
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
