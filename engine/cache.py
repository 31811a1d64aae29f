"""The engine cache: give the engine of a key, building it once when there is none; list, verify and prune what is there.

Every file of an engine is compared with its SHA-256 before the engine is used. A damaged engine is removed and built again.
Knows no backend: what fills an engine's folder is passed in. How it lies on disk is `store`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sd2rt.engine.cache_access import check_owner, reading, writing
from sd2rt.engine.cache_lock import locked, locked_if_free
from sd2rt.engine.cover import covers
from sd2rt.engine.errors import InvalidArgument
from sd2rt.engine.heartbeat import heartbeat
from sd2rt.engine.manifest import Field, Manifest, engine_key, file_record
from sd2rt.engine.store import (
    KERNELS,
    CacheEntry,
    Notify,
    building,
    cache_root,
    engine_folders,
    problems,
    publish,
    read_entry,
    remove,
    staging,
    sweep,
    touch,
)
from sd2rt.engine.times import last_seconds, remember_seconds

__all__ = ["CacheEntry", "Notify", "Recipe", "Verdict", "cache_root", "list_engines", "obtain", "prune_engines", "verify_engines"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What an engine is: `fields` is everything that changes it, `component` and `target` are for people."""

    component: str
    target: str
    fields: Mapping[str, Field]

    @property
    def key(self) -> str:
        """The engine's name in the cache."""
        return engine_key(self.fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is wrong with one engine: nothing when `problems` is empty. `entry` is None when its manifest cannot be read."""

    folder: Path
    entry: CacheEntry | None
    problems: tuple[str, ...]


def obtain(recipe: Recipe, build: Callable[[Path], Mapping[str, Field]], notify: Notify, *, hashed: bool = True) -> CacheEntry:
    """Return the recipe's engine, its files checked. Where there is none, `build` fills a folder with one while others wait.

    Without `hashed`, which is for engines that are not loaded now, files that nobody has written to are not read to check them.
    Raises EngineCacheError when the cache cannot be used, and whatever `build` raises; neither leaves anything behind.
    """
    root = cache_root()
    folder = root / recipe.key
    with reading(root):
        if folder.exists():
            check_owner(root)
        entry = _sound(folder, hashed) or _stand_in(root, recipe, hashed)
    if entry is None:
        with locked(root, recipe.key, notify):
            entry = _sound(folder, hashed)  # another process may have built it by now
            if entry is None:
                _remove_damaged(folder, recipe, notify)
                entry = _build(root, recipe, build, notify)
    touch(entry)
    return entry


def _sound(folder: Path, hashed: bool) -> CacheEntry | None:
    """Return the engine in a folder if there is one and nothing is wrong with its files."""
    return None if not folder.exists() or problems(folder, hashed=hashed) else read_entry(folder)


def _stand_in(root: Path, recipe: Recipe, hashed: bool) -> CacheEntry | None:
    """Return an engine of another key that does all that the recipe's would, the most recently used first."""
    if not root.exists():
        return None
    entries = [read_entry(folder) for folder in engine_folders(root)]
    fitting = [entry for entry in entries if entry is not None and covers(entry.manifest.fields, recipe.fields)]
    ordered = sorted(fitting, key=lambda entry: -entry.last_used)
    return next((entry for entry in ordered if not problems(entry.folder, hashed=hashed)), None)


def _remove_damaged(folder: Path, recipe: Recipe, notify: Notify) -> None:
    if folder.exists():
        notify(f"the cached {recipe.component} engine is damaged ({'; '.join(problems(folder))}): removing it")
        remove(folder)


def _build(root: Path, recipe: Recipe, build: Callable[[Path], Mapping[str, Field]], notify: Notify) -> CacheEntry:
    """Build in a temporary folder, describe what came out and publish it. Call with the lock held."""
    from importlib.metadata import version

    engine = f"the {recipe.target} engine of {recipe.component}"
    last = last_seconds(root, recipe.key)
    before = "" if last is None else f"; it took {last:.1f} s the last time"
    notify(f"building {engine} (once; it is kept in {root}{before})")
    start = time.perf_counter()
    with staging(root, recipe.key) as folder:
        with heartbeat(lambda seconds: notify(f"still building {engine}: {seconds:.0f} s so far{before}")):
            notes = build(folder)
        manifest = Manifest(
            key=recipe.key,
            component=recipe.component,
            target=recipe.target,
            fields=recipe.fields,
            files={path.name: file_record(path) for path in sorted(folder.iterdir())},
            build_seconds=round(time.perf_counter() - start, 3),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            sd2rt=version("sd2rt"),
            notes=notes,
        )
        entry = publish(folder, manifest)
    remember_seconds(root, recipe.key, manifest.build_seconds)
    notify(f"built {engine} in {manifest.build_seconds:.1f} s")
    return entry


def list_engines() -> tuple[CacheEntry, ...]:
    """Return the cached engines whose manifest can be read, the most recently used first. Their files are not checked."""
    entries = [read_entry(folder) for folder in engine_folders(cache_root())]
    return tuple(sorted((entry for entry in entries if entry), key=lambda entry: -entry.last_used))


def verify_engines() -> tuple[Verdict, ...]:
    """Compare every file of every cached engine with its SHA-256."""
    folders = engine_folders(cache_root())
    return tuple(Verdict(folder=folder, entry=read_entry(folder), problems=problems(folder)) for folder in folders)


def prune_engines(*, unused_for: timedelta | None = None, max_bytes: int | None = None, everything: bool = False) -> tuple[Path, ...]:
    """Remove engines and return their folders: those unused for so long, the least recently used beyond a total size, or all.

    Damaged engines and what killed builds left always go. An engine that is being built stays.
    Raises InvalidArgument for a negative limit, EngineCacheError when the cache cannot be written.
    """
    if max_bytes is not None and max_bytes < 0:
        raise InvalidArgument(f"max_bytes: got {max_bytes}; expected 0 or more")
    root = cache_root()
    found = engine_folders(root)
    doomed = set(found) if everything else _beyond(unused_for, max_bytes)
    candidates = [folder for folder in found if folder in doomed or problems(folder)]
    removed = tuple(folder for folder in candidates if _remove_unless_locked(root, folder, only_damaged=folder not in doomed))
    for key in building(root):
        with locked_if_free(root, key) as (_, free):
            if free:
                sweep(root, key)
    _remove_stray_kernels(root)
    return removed


def drop_engine(folder: Path) -> bool:
    """Remove one engine and say whether it was there and in nobody's hands. Raises EngineCacheError."""
    return _remove_unless_locked(folder.parent, folder, only_damaged=False)


def _remove_stray_kernels(root: Path) -> None:
    """Remove what was compiled for engines that are gone."""
    folder = root / KERNELS
    with writing(root):
        for file in folder.iterdir() if folder.is_dir() else ():
            if not (root / file.name.partition("-")[0]).is_dir():
                file.unlink(missing_ok=True)


def _beyond(unused_for: timedelta | None, max_bytes: int | None) -> set[Path]:
    """Return the engines not used recently enough, and those that do not fit beside the more recent ones."""
    oldest = time.time() - unused_for.total_seconds() if unused_for is not None else 0.0
    beyond, total = set[Path](), 0
    for entry in list_engines():
        total += entry.bytes
        if entry.last_used < oldest or (max_bytes is not None and total > max_bytes):
            beyond.add(entry.folder)
    return beyond


def _remove_unless_locked(root: Path, folder: Path, *, only_damaged: bool) -> bool:
    """Remove an engine and say whether it was: another process may be building it, or have removed or mended it by now."""
    with locked_if_free(root, folder.name) as (_, free):
        if not free or not folder.exists() or (only_damaged and not problems(folder)):
            return False
        remove(folder)
        return True
