"""The engine cache on disk: folders named by their key, that appear whole or not at all.

    <root>/<key>/manifest.json + engine files      one engine
    <root>/.locks/<key>.lock                       held by the one process that builds it
    <root>/.tmp-<key>-*                            a build under way, or what a killed one left: swept by the next of that key
    <root>/.times, <root>/timing                   how long builds took (times), what TensorRT measured (trt): they stay

The root is `engines` in $SD2RT_CACHE, or in the user's cache folder. It is ours alone (0700, files 0600): what is loaded from
it was built by this user. Knows nothing of backends, nor when to build; that is `cache`. Its locks are `cache_lock`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sd2rt.engine.cache_access import check_owner, reading, writing
from sd2rt.engine.manifest import MANIFEST_NAME, FileRecord, Manifest, engine_key, file_record, read_manifest, write_manifest
from sd2rt.engine.places import chosen_path

KEY_LENGTH = 64
KERNELS = "jit"  # the folder of what drivers compile for engines: files whose names begin with an engine's key and "-"
Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """One engine on disk. `last_used` is in seconds since the epoch."""

    folder: Path
    manifest: Manifest
    last_used: float

    @property
    def bytes(self) -> int:
        """The size of the engine's files."""
        return sum(record.bytes for record in self.manifest.files.values())


def cache_root() -> Path:
    """Return the folder that holds the engines; it need not exist yet. Raises InvalidArgument for a wrong SD2RT_CACHE."""
    chosen = chosen_path("SD2RT_CACHE")
    if chosen is not None:
        return chosen / "engines"
    import platformdirs  # not needed, and so not loaded, when the variable is set

    return platformdirs.user_cache_path("sd2rt") / "engines"


def engine_folders(root: Path) -> list[Path]:
    """Return the folders of all engines, whole or damaged. Raises EngineCacheError when the root cannot be read."""
    with reading(root):
        try:
            check_owner(root)
        except FileNotFoundError:
            return []
        return sorted(path for path in root.iterdir() if len(path.name) == KEY_LENGTH and path.is_dir())


def problems(folder: Path, *, hashed: bool = True) -> tuple[str, ...]:
    """Compare an engine's files with its manifest; return one line per file that is missing, added or changed.

    Without `hashed`, a file of the right size that nobody has written to since it was published is taken to be whole.
    """
    try:
        manifest = read_manifest(folder)
        found = {path.name for path in folder.iterdir()} - {MANIFEST_NAME}
    except (OSError, ValueError) as error:
        return (f"{MANIFEST_NAME} cannot be read ({error})",)
    if engine_key(manifest.fields) != folder.name or manifest.key != folder.name:
        return (f"{MANIFEST_NAME} belongs to another engine",)
    added = [f"{name} does not belong there" for name in sorted(found - manifest.files.keys())]
    since = None if hashed else _published(manifest)
    checked = [_problem(folder / name, record, since) for name, record in sorted(manifest.files.items())]
    return (*added, *(problem for problem in checked if problem))


def _published(manifest: Manifest) -> float | None:
    """Return when an engine was published, in seconds since the epoch: its files have this as their time of change."""
    try:
        return datetime.fromisoformat(manifest.created).timestamp()
    except (TypeError, ValueError):  # a damaged manifest
        return None


def _problem(path: Path, expected: FileRecord, unchanged_since: float | None) -> str:
    """Return what is wrong with one file, or ""."""
    try:
        status = path.stat()
        if status.st_size != expected.bytes:
            return f"{path.name} has {status.st_size} bytes, expected {expected.bytes}"
        if status.st_mtime == unchanged_since:
            return ""
        got = file_record(path).sha256
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    return "" if got == expected.sha256 else f"{path.name} has SHA-256 {got[:12]}, expected {expected.sha256[:12]}"


def read_entry(folder: Path) -> CacheEntry | None:
    """Return the engine in a folder without checking its files; None when its manifest cannot be read."""
    try:
        return _entry(folder)
    except (OSError, ValueError):
        return None


def _entry(folder: Path) -> CacheEntry:
    return CacheEntry(folder=folder, manifest=read_manifest(folder), last_used=(folder / MANIFEST_NAME).stat().st_mtime)


def touch(entry: CacheEntry) -> None:
    """Remember that the engine was used now. A cache that cannot be written stays as it is."""
    with contextlib.suppress(OSError):
        os.utime(entry.folder / MANIFEST_NAME)


@contextlib.contextmanager
def staging(root: Path, key: str) -> Iterator[Path]:
    """Give an empty folder to build in, beside the engines; whatever becomes of it, nothing of it stays. Call with the lock held."""
    sweep(root, key)
    with writing(root):
        folder = Path(tempfile.mkdtemp(prefix=f".tmp-{key}-", dir=root))
    try:
        with writing(root):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(root: Path, key: str) -> None:
    """Remove what killed builds of this key left. Call with the lock held."""
    for leftover in root.glob(f".tmp-{key}-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def publish(folder: Path, manifest: Manifest) -> CacheEntry:
    """Make a staged engine visible under its key in one step, once all of it is on disk. Raises OSError."""
    created = _published(manifest)
    assert created is not None, manifest.created
    for path in folder.iterdir():
        os.utime(path, times=(created, created))
    write_manifest(folder, manifest)
    for path in folder.iterdir():
        path.chmod(0o600)
        _sync(path)
    _sync(folder)
    final = folder.parent / manifest.key
    folder.rename(final)
    _sync(final.parent)
    return _entry(final)


def remove(folder: Path) -> None:
    """Delete an engine: it disappears from the cache in one step, then its files go. Raises EngineCacheError."""
    with writing(folder.parent):
        doomed = Path(tempfile.mkdtemp(prefix=f".tmp-{folder.name}-", dir=folder.parent))
        try:
            folder.rename(doomed / folder.name)
        finally:
            shutil.rmtree(doomed, ignore_errors=True)


def building(root: Path) -> set[str]:
    """Return the keys of the temporary folders: builds under way, or what killed ones left."""
    return {path.name.removeprefix(".tmp-")[:KEY_LENGTH] for path in root.glob(".tmp-*")}


def _sync(path: Path) -> None:
    """Have the system write a file or folder to disk."""
    if os.name != "posix":
        return  # Windows cannot open a folder, nor sync a file that is open for reading
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
