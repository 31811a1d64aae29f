"""Which engines lie in the cache, asked without opening or building any: their manifests are read once, and again after a change.

Whether one does for a request is `cover`; how they lie on disk is `store`.
"""

from __future__ import annotations

import time
from pathlib import Path

from sd2rt.engine.build import wanted_fields
from sd2rt.engine.cover import covers
from sd2rt.engine.manifest import MANIFEST_NAME, Field, engine_key
from sd2rt.engine.spec import BuildOptions, ComponentFiles
from sd2rt.engine.store import CacheEntry, cache_root, engine_folders, problems, read_entry

SETTLED_S = 2.0  # a folder changed less long ago may change again without a later time


class EngineIndex:
    """The cache's whole engines. `version` changes whenever they do."""

    def __init__(self) -> None:
        self.version = 0
        self._changed_ns = -1
        self._settled = False
        self._entries: tuple[CacheEntry, ...] = ()
        self._checked: dict[Path, tuple[object, bool]] = {}

    def refresh(self) -> None:
        """Read the manifests, where engines came or went. Raises EngineCacheError for a cache that cannot be read."""
        root = cache_root()
        try:
            changed_ns = root.stat().st_mtime_ns
        except OSError:
            changed_ns = 0
        if self._settled and changed_ns == self._changed_ns:
            return
        settled = time.time_ns() - changed_ns > SETTLED_S * 1e9
        self._checked = {folder: self._check(folder) for folder in engine_folders(root)}
        entries = tuple(entry for entry in map(read_entry, (folder for folder, (_, whole) in self._checked.items() if whole)) if entry)
        if [entry.folder for entry in entries] != [entry.folder for entry in self._entries]:
            self.version += 1
        self._entries = entries
        self._changed_ns, self._settled = changed_ns, settled  # not before it was read: an error is one the next time too

    def _check(self, folder: Path) -> tuple[object, bool]:
        """Return what a folder looks like, and whether its engine is whole: files are read only where something looks different."""
        try:
            looks = _looks(folder)
        except OSError:
            return None, False
        before = self._checked.get(folder)
        return before if before is not None and before[0] == looks else (looks, not problems(folder, hashed=False))

    def has(self, files: ComponentFiles, options: BuildOptions) -> bool:
        """Whether a component can be opened without building. Raises as `wanted_fields` does."""
        fields = wanted_fields(files, options)
        key = engine_key(fields)
        return any(entry.folder.name == key or covers(entry.manifest.fields, fields) for entry in self._entries)

    def axes(self, files: ComponentFiles, options: BuildOptions) -> tuple[Field, ...]:
        """Return the sizes of all engines that differ from what these options ask for in nothing else: axes to [least, usual, most]."""
        wanted = wanted_fields(files, options)
        found = (entry.manifest.fields for entry in self._entries)
        return tuple(fields["axes"] for fields in found if "axes" in fields and covers(fields, {**wanted, "axes": fields["axes"]}))


def _looks(folder: Path) -> object:
    """Return an engine's manifest, which is touched when the engine is used, and the sizes and times of its files. Raises OSError."""
    files = sorted(path for path in folder.iterdir() if path.name != MANIFEST_NAME)
    states = [(path.name, path.stat()) for path in files]
    return (folder / MANIFEST_NAME).read_bytes(), [(name, state.st_size, state.st_mtime_ns) for name, state in states]
