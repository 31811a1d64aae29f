"""Engines of the cuda target as the cache would have them."""

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
