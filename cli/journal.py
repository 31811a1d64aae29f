"""What a batch has finished, on disk: killed at any moment, the next run loses no row and paints none twice.

    DIR/batch.jsonl          a line for every finished row: its key, its pictures' names, what it was
    DIR/.sd2rt-batch/lock    held by the one batch that writes there; the system frees it when its holder dies
    DIR/.sd2rt-batch/new/    a folder for the pictures of each row that is being written

A row is finished with its line in the journal: its pictures, whole and on disk, are then in `new` or already have their names in DIR,
and the next run moves the rest. Without the line, what is in `new` goes. Knows no row's options.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sd2rt.cli.output import free_names
from sd2rt.engine.errors import InvalidArgument

JOURNAL = "batch.jsonl"
OWN = ".sd2rt-batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A finished row: `key` says what was asked for; names of pictures in the folder, in order; `new` is where they were before.

    `said` is for readers.
    """

    key: str
    pictures: tuple[str, ...]
    new: str
    said: Mapping[str, object]


class Journal:
    """The journal of a folder, open for one batch."""

    def __init__(self, folder: Path) -> None:
        """Read it and finish what a killed run left. Call with the lock held. Raises InvalidArgument for a damaged line, and OSError."""
        self._folder = folder
        self._path = folder / JOURNAL
        self._new = folder / OWN / "new"
        self._left: defaultdict[str, list[Entry]] = defaultdict(list)
        self._new.mkdir(parents=True, exist_ok=True)
        leftovers = {path.name for path in self._new.iterdir()}
        for entry in self._read():
            if entry.new in leftovers:
                self._publish(entry)
            self._left[entry.key].append(entry)
        for name in leftovers:
            shutil.rmtree(self._new / name, ignore_errors=True)

    def take(self, key: str) -> Entry | None:
        """Return a finished row of this key, each once; None where there is none left whose pictures all still exist."""
        entries = self._left[key]
        while entries:
            entry = entries.pop(0)
            if all((self._folder / name).is_file() for name in entry.pictures):
                return entry
        return None

    def finish(self, key: str, names: Sequence[str], write: Callable[[Path, int], None], said: Mapping[str, object]) -> tuple[Path, ...]:
        """Write a row's pictures and its line, and return the pictures' paths; `write` puts picture `index` into a file.

        A name that is taken gets a number. Raises what `write` raises, and OSError; the row is not finished then.
        """
        taken: list[str] = []
        new = self._new / os.urandom(8).hex()
        new.mkdir()
        for index, name in enumerate(names):
            free = (path.name for path in free_names(self._folder / name))
            taken.append(next(other for other in free if other not in taken))
            write(new / taken[-1], index)
            _sync(new / taken[-1])
        _sync(new)
        entry = Entry(key=key, pictures=tuple(taken), new=new.name, said=said)
        self._append(entry)
        return self._publish(entry)

    def _append(self, entry: Entry) -> None:
        """Write an entry's line, whole or not at all. Raises OSError."""
        line = json.dumps({"key": entry.key, "pictures": entry.pictures, "new": entry.new, **entry.said}, ensure_ascii=False)
        left = line.encode() + b"\n"
        with self._path.open("ab", buffering=0) as stream:  # or closing it would write what had no room
            size = stream.tell()
            try:
                while left:
                    left = left[stream.write(left) :]
                os.fsync(stream.fileno())
            except OSError:  # a part of a line, which the next one would follow
                stream.truncate(size)
                raise

    def _publish(self, entry: Entry) -> tuple[Path, ...]:
        """Give a finished row's pictures their names. One that somebody else took since gets a number."""
        paths = []
        for name in entry.pictures:
            path, new = self._folder / name, self._new / entry.new / name
            if new.exists():
                path = next(free_names(path))
                new.rename(path)
            paths.append(path)
        _sync(self._folder)
        (self._new / entry.new).rmdir()
        return tuple(paths)

    def _read(self) -> Iterator[Entry]:
        """Yield the entries; a last line that was cut is cut off, since its row is not finished."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self._path, len(whole))
        for number, line in enumerate(whole.splitlines(), 1):
            yield _read_entry(line, f"{self._path}, line {number}")


def _read_entry(line: bytes, where: str) -> Entry:
    try:
        said = json.loads(line)
        key, pictures, new = said.pop("key"), said.pop("pictures"), said.pop("new")
        sound = all(isinstance(name, str) and Path(name).name == name for name in (key, new, *pictures))
    except (ValueError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise InvalidArgument(f"{where}: damaged; mend it, or choose another --out-dir to paint all rows anew")
    return Entry(key=key, pictures=tuple(pictures), new=new, said=said)


@contextlib.contextmanager
def open_journal(folder: Path) -> Iterator[Journal]:
    """Hold a folder's journal, making both. Raises InvalidArgument when it cannot be written, or another batch is at work there."""
    from filelock import FileLock, Timeout

    try:
        (folder / OWN).mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / OWN / "lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise InvalidArgument(f"--out-dir: {folder}: another batch is writing there; wait for it, or choose another folder") from None
    except OSError as error:
        raise InvalidArgument(f"--out-dir: got {str(folder)[:200]}: cannot write there ({error.strerror}); choose another folder") from None
    try:
        yield Journal(folder)
    finally:
        lock.release()


def _sync(path: Path) -> None:
    """Have a file, or a folder's names, on disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
