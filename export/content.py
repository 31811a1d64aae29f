"""A checkpoint's key: a hash of all its files. What each file hashes to is remembered with its size and time, as git does, so that it is
read once."""

import hashlib
import json
import os
import tempfile
from pathlib import Path

from sd2rt.engine.errors import ExportError
from sd2rt.export.layout import PICKLES

KEY_LENGTH = 12
MOST_FILES = 1000


def content_key(source: Path, index: Path) -> str:
    """Return 12 hex digits of a file, or of all files of a folder with their names, pickles and hidden ones apart.

    `index` is where hashes are remembered; one that is damaged or cannot be written is not used. Raises ExportError for files that cannot
    be read.
    """
    known = _read_index(index)
    digest = hashlib.sha256()
    try:
        for name, file in _files(source):
            digest.update(f"{name}\0{_hash(file, known)}\n".encode())
    except OSError as error:
        raise ExportError(f"{error.filename or source} cannot be read: {error.strerror}") from error
    _write_index(index, known)
    return digest.hexdigest()[:KEY_LENGTH]


def _files(source: Path) -> list[tuple[str, Path]]:
    """Return the names and paths of what is hashed; that of a single file has no name, so that it may be renamed."""
    if source.is_file():
        return [("", source)]
    found = [path for path in source.rglob("*") if path.is_file() and path.suffix not in PICKLES]
    named = [(path.relative_to(source).as_posix(), path) for path in found]
    kept = sorted((name, path) for name, path in named if not any(part.startswith(".") for part in name.split("/")))
    if len(kept) > MOST_FILES:
        raise ExportError(f"{source} has {len(kept)} files; expected the folder of one model")
    return kept


def _hash(file: Path, known: dict[str, list[object]]) -> str:
    status = file.stat()
    where, state = str(file.resolve()), [status.st_size, status.st_mtime_ns, status.st_ino]
    entry = known.get(where)
    if entry is None or entry[:-1] != state:
        with file.open("rb") as stream:
            entry = [*state, hashlib.file_digest(stream, "sha256").hexdigest()]
        known[where] = entry
    return str(entry[-1])


def _read_index(index: Path) -> dict[str, list[object]]:
    try:
        known = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    fits = isinstance(known, dict) and all(isinstance(entry, list) and len(entry) == 4 for entry in known.values())
    return known if fits else {}


def _write_index(index: Path, known: dict[str, list[object]]) -> None:
    """Replace the index in one step, without files that are gone."""
    kept = {where: entry for where, entry in known.items() if os.path.exists(where)}
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".hashes-", dir=index.parent)
    except OSError:
        return  # a folder that cannot be written: files are hashed again the next time
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(kept, stream)
        os.replace(temporary, index)
    except OSError:  # a full disk
        Path(temporary).unlink()
