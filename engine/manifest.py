"""What is written beside an engine: what it was built from and the SHA-256 of each of its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sd2rt.engine.spec import Form

MANIFEST_NAME = "manifest.json"
SCHEMA = 1

Field = str | int | float | bool | list[int] | list[str] | Mapping[str, "Field"] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """The SHA-256 (64 hex digits) and length of one file."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One engine's record. `fields` is everything that changes the engine; `key` is their hash and the engine folder's name.

    `notes` is what the build found out, such as how the engine compares with the reference.
    """

    key: str
    component: str
    target: str
    fields: Mapping[str, Field]
    files: Mapping[str, FileRecord]
    build_seconds: float
    created: str
    sd2rt: str
    notes: Mapping[str, Field] = field(default_factory=dict)


def engine_key(fields: Mapping[str, Field]) -> str:
    """Return the SHA-256 of the fields' canonical JSON, 64 hex digits."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def form_field(form: Form) -> Field:
    """Return how a form stands among an engine's fields."""
    return None if form is None else {type(form).__name__: asdict(form)}


def file_record(path: Path) -> FileRecord:
    """Hash a file. Raises OSError."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return FileRecord(sha256=digest, bytes=stream.tell())


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into the engine's folder. Raises OSError."""
    (folder / MANIFEST_NAME).write_text(json.dumps({"schema": SCHEMA, **asdict(manifest)}, indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an engine's folder. Raises OSError, or ValueError when it is not one of ours."""
    content = json.loads((folder / MANIFEST_NAME).read_bytes())
    if not isinstance(content, dict) or content.pop("schema", None) != SCHEMA:
        raise ValueError(f"{folder / MANIFEST_NAME}: not a manifest of schema {SCHEMA}")
    try:
        files = {name: FileRecord(**record) for name, record in content.pop("files").items()}
        return Manifest(files=files, **content)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{folder / MANIFEST_NAME}: {error}") from error
