"""Batches and events as bytes, for processes on other machines: JSON, then the files that it speaks of. Nothing is ever unpickled.

    4 bytes: how long the JSON is; the JSON: {"sd2rt": version, "files": [lengths], "said": ...}; the files

Both ends must be of one version of sd2rt.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any

from sd2rt.serve.backend import Task
from sd2rt.serve.errors import ServeError
from sd2rt.serve.order import Cancelled, Event, Failed, Finished, Order, Previewed, Started, Stepped

LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A line for the server's log, of a level as `logging` counts; of no task."""

    level: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evicted:
    """A model was closed to make room; of no task."""

    model: str


Told = Event | LogLine | Evicted
EVENTS: Mapping[str, type[Told]] = {
    kind.__name__: kind for kind in (Started, Stepped, Previewed, Finished, Failed, Cancelled, LogLine, Evicted)
}
TUPLES = ("parameters", "notes")  # of Finished


def encode_batch(batch: Sequence[Task]) -> bytes:
    """Return the tasks of a batch as bytes."""
    said: list[dict[str, Any]] = []
    files: list[bytes] = []
    for task in batch:
        order = {field.name: getattr(task.order, field.name) for field in fields(Order) if field.name != "pictures"}
        said.append({"id": task.id, "order": {**order, "options": dict(task.order.options)}, "pictures": list(task.order.pictures)})
        files += task.order.pictures.values()
    return _pack(said, files)


def decode_batch(content: bytes) -> tuple[Task, ...]:
    """Return what `encode_batch` was given. Raises ServeError for bytes of another version of sd2rt."""
    said, files = _unpack(content)
    left = iter(files)
    return tuple(
        Task(id=task["id"], order=Order(**task["order"], pictures={name: next(left) for name in task["pictures"]})) for task in said
    )


def encode_event(task_id: str, event: Told) -> bytes:
    """Return an event of a task, or of none (""), as bytes."""
    said = asdict(event)
    files = said.pop("pictures", ())
    return _pack({"id": task_id, "kind": type(event).__name__, "event": said}, files)


def decode_event(content: bytes) -> tuple[str, Told]:
    """Return what `encode_event` was given. Raises ServeError for bytes of another version of sd2rt."""
    said, files = _unpack(content)
    kind = EVENTS[said["kind"]]
    event = said["event"] | {name: tuple(said["event"][name]) for name in TUPLES if name in said["event"]}
    if kind in (Previewed, Finished):
        event["pictures"] = tuple(files)
    return said["id"], kind(**event)


def _pack(said: Any, files: Sequence[bytes]) -> bytes:
    head = json.dumps({"sd2rt": _version(), "files": [len(file) for file in files], "said": said}).encode()
    return b"".join((LENGTH.pack(len(head)), head, *files))


def _unpack(content: bytes) -> tuple[Any, list[bytes]]:
    (length,) = LENGTH.unpack_from(content)
    begin = LENGTH.size + length
    head = json.loads(content[LENGTH.size : begin])
    if head["sd2rt"] != _version():
        raise ServeError(f"got a message of sd2rt {head['sd2rt']}; expected {_version()}: install one version on all machines")
    files = []
    for size in head["files"]:
        files.append(content[begin : begin + size])
        begin += size
    return head["said"], files


@cache
def _version() -> str:
    from importlib.metadata import version

    return version("sd2rt")
