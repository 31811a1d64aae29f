"""Large files of the hub: fetched from where the last attempt stopped, hashed, and only then put into the library's cache.

    <cache>/models--owner--name/blobs/<sha256>               a whole file, as every tool of the hub keeps it
    <cache>/models--owner--name/blobs/<sha256>.sd2rt.part    what has come of one so far; the next attempt goes on there

Knows no model. The name of a blob is its SHA-256, as the hub's listing gives it.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock
from huggingface_hub import constants, hf_hub_url
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import build_hf_headers

from sd2rt.engine.errors import ExportError
from sd2rt.export.hub_files import HubFile

PART = ".sd2rt.part"
Notify = Callable[[str], None]


def check_space(repo: str, files: Sequence[HubFile]) -> None:
    """Raise ExportError where the disk of the cache has no room for what is still to come."""
    missing = sum(file.bytes - _have(_blob(repo, file)) for file in files)
    free = shutil.disk_usage(_nearest(Path(constants.HF_HUB_CACHE))).free
    if missing > free:
        raise ExportError(
            f"{repo}: {missing / 1e9:.1f} GB are to be downloaded and {constants.HF_HUB_CACHE} has {free / 1e9:.1f} GB left; "
            "free some, or set HF_HOME to another disk"
        )


def fetch_large_files(repo: str, commit: str, files: Sequence[HubFile], notify: Notify) -> None:
    """Put every file whose SHA-256 the hub tells into the cache, where it lacks it. Raises ExportError, and what the library raises."""
    missing = [file for file in files if file.sha256 is not None and not _blob(repo, file).is_file()]
    if missing:
        total = sum(file.bytes for file in missing)
        resumed = sum(_have(_blob(repo, file)) for file in missing)
        already = f", {resumed / 1e6:.0f} MB of them are there already" if resumed else ""
        notify(f"downloading {len(missing)} files of {repo}, {total / 1e6:,.0f} MB{already}, to {constants.HF_HUB_CACHE}")
    for file in missing:
        _fetch(repo, commit, file, _blob(repo, file))


def drop_damaged_files(repo: str, files: Sequence[HubFile]) -> None:
    """Remove files that the cache had before and that are not what the hub lists: other tools compare sizes alone."""
    for file in files:
        blob = _blob(repo, file)
        if blob.is_file() and not _is_right(blob, blob.name):
            blob.resolve().unlink()
            blob.unlink(missing_ok=True)  # where it was a link to a file that repositories share


def check_small_files(repo: str, folder: Path, files: Sequence[HubFile]) -> None:
    """Compare the files that are in git itself with git's own hash. Raises ExportError for one that differs, and removes it."""
    for file in files:
        if file.sha256 is None and not _is_right(folder / file.path, file.blob_id):
            (folder / file.path).resolve().unlink()
            raise ExportError(f"{repo}: {file.path} is not the file that the hub lists, git hash {file.blob_id[:12]}; start again")


def check_cached_files(repo: str, folder: Path) -> None:
    """Compare the files of a snapshot with their hashes where the hub is not asked: they are the names of what they link to.

    A system without links has no such names. Raises ExportError for a file that differs.
    """
    for path in sorted(folder.rglob("*")):
        blob = os.readlink(path) if path.is_symlink() and path.is_file() else ""
        name = Path(blob).name
        if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", name) is not None and not _is_right(path, name):
            raise ExportError(f"{repo}: {path} is damaged, its blob is named by another hash; connect and start again, or remove it")


def _fetch(repo: str, commit: str, file: HubFile, blob: Path) -> None:
    """Download one file, after what there is of it already."""
    blob.parent.mkdir(parents=True, exist_ok=True)
    part = blob.with_name(blob.name + PART)
    with FileLock(f"{part}.lock"):
        if blob.is_file():  # another process was faster
            return
        with part.open("ab") as stream:
            if stream.tell() > file.bytes:
                stream.truncate(0)
            stream.seek(0, os.SEEK_END)
            http_get(
                hf_hub_url(repo, file.path, revision=commit),
                stream,
                resume_size=stream.tell(),
                headers={**build_hf_headers(library_name="sd2rt"), "Accept-Encoding": "identity"},
                expected_size=file.bytes,
                displayed_filename=file.path,
            )
            stream.flush()
            os.fsync(stream.fileno())
        got = _sha256(part)
        if got != file.sha256:
            part.unlink()
            raise ExportError(f"{repo}: {file.path} came with SHA-256 {got[:12]}, the hub says {file.sha256[:12]}; start again")  # type: ignore[index]
        os.replace(part, blob)
    Path(f"{part}.lock").unlink(missing_ok=True)


def _is_right(path: Path, digest: str) -> bool:
    """Compare a file with the hash that the hub lists and its blob is named by: SHA-256, or git's own of small files."""
    if len(digest) == 64:
        return _sha256(path) == digest
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == digest


def _blob(repo: str, file: HubFile) -> Path:
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model") / "blobs" / (file.sha256 or file.blob_id)


def _have(blob: Path) -> int:
    """Return how many bytes of a file are on this machine."""
    part = blob.with_name(blob.name + PART)
    return blob.stat().st_size if blob.is_file() else part.stat().st_size if part.is_file() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _nearest(path: Path) -> Path:
    """Return the path, or its nearest parent that exists."""
    return next(parent for parent in (path, *path.absolute().parents) if parent.exists())
