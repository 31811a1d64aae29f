"""Engines of the cuda target as the cache would have them."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from sd2rt.engine.manifest import Manifest
from sd2rt.engine.ort_cuda import build, fingerprint
from sd2rt.engine.spec import BuildOptions, ComponentFiles
from sd2rt.engine.store import CacheEntry


def built(files: ComponentFiles, options: BuildOptions, folder: Path) -> CacheEntry:
    """Build into a new folder and describe what came out, without a cache."""
    folder.mkdir()
    notes = build(files, options, folder, lambda message: None)
    manifest = Manifest(
        key="0" * 64,
        component=files.name,
        target="cuda",
        fields=fingerprint(options),
        files={},
        build_seconds=0,
        created="",
        sd2rt="0",
        notes=notes,
    )
    return CacheEntry(folder=folder, manifest=manifest, last_used=0)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Engines that several tests open, each built once: found again by what it is made from, as in the cache."""

    folder: Path
    entries: dict[str, CacheEntry] = field(default_factory=dict)

    def built(self, files: ComponentFiles, options: BuildOptions) -> CacheEntry:
        key = json.dumps([files.name, dict(files.sha256), fingerprint(options)], sort_keys=True)
        if key not in self.entries:
            self.entries[key] = built(files, options, self.folder / f"{files.name}-{len(self.entries)}")
        return self.entries[key]
