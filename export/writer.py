"""Bundle folders: written beside their place, hashed, and moved there when they are complete."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from sd2rt.engine.errors import ExportError, InvalidArgument

FOLDER_MODE = 0o755


@contextlib.contextmanager
def new_folder(out: Path, *, replace: bool) -> Iterator[Path]:
    """Give an empty folder beside `out` that becomes `out` when the block ends, and vanishes when it fails.

    Parents of `out` are made as needed, and vanish with it. Raises InvalidArgument where `out` is a file, the current folder, a
    mount point, or a folder with something in it and not `replace`; ExportError where its parent cannot be written, or the disk
    is full.
    """
    _check_free(out, replace=replace)
    out = Path(os.path.realpath(out))  # "a/.." has a name and a parent too
    made = [folder for folder in out.parents if not os.path.exists(folder)]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        _remove_empty(made)
        raise ExportError(f"cannot write in {out.parent}: {error.strerror or error}") from error
    try:
        yield temporary
        temporary.chmod(FOLDER_MODE)
        _put_in_place(temporary, out)
    except OSError as error:
        raise ExportError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # not there any more when all went well
        _remove_empty(made)


def _remove_empty(folders: list[Path]) -> None:
    """Remove those folders, innermost first, that hold nothing."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _check_free(out: Path, *, replace: bool) -> None:
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise InvalidArgument(f"out: {out} exists and is not a folder; name a new one")
    if Path.cwd().is_relative_to(os.path.realpath(out)):
        raise InvalidArgument(f"out: {out} is the current folder or around it and cannot be moved; name a new folder")
    if out.is_mount():
        raise InvalidArgument(f"out: {out} is a mount point and cannot be moved; name a new folder in it")
    if out.is_dir() and any(out.iterdir()):
        if not (out / "bundle.json").is_file():
            raise InvalidArgument(f"out: {out} is not empty and holds no bundle.json, so it is not replaced; name a new folder")
        if not replace:
            raise InvalidArgument(f"out: {out} is not empty; name a new folder or let its bundle be replaced (--force)")


def _put_in_place(temporary: Path, out: Path) -> None:
    """Rename `temporary` to `out`; an old bundle there is set aside first and removed last."""
    if not out.is_dir():
        os.replace(temporary, out)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.old.", dir=out.parent))
    os.replace(out, aside)
    try:
        os.replace(temporary, out)
    except OSError:
        os.replace(aside, out)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def write_json(file: Path, value: Mapping[str, object]) -> None:
    """Write a JSON object, making the file's folder where needed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def describe_files(files: list[Path], root: Path) -> dict[str, dict[str, object]]:
    """Return {"path under root": {"sha256": 64 hex digits, "bytes": n}} for each file."""
    described = {}
    for file in sorted(files):
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        described[file.relative_to(root).as_posix()] = {"sha256": digest, "bytes": file.stat().st_size}
    return described


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has none to give: another disk, or no links at all.

    Raises OSError, FileExistsError where there is a `target`: writing there would change whatever else it is a name of.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, target)
