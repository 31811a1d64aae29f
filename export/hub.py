"""Checkpoints on the Hugging Face hub: just the files that are needed, resumed where a download was cut off, every file checked.

`huggingface_hub` speaks to the hub and owns the cache, its folder (HF_HOME), token (HF_TOKEN), endpoint (HF_ENDPOINT) and offline mode
(HF_HUB_OFFLINE). Two things it does not do (looked up in 2.4): it throws away what an interrupted download has got, and it compares
sizes, not hashes. `hub_fetch` does both for the large files, in the library's own cache.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache
from huggingface_hub import errors as hub_errors
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import disable_progress_bars, logging

from sd2rt.engine.errors import ExportError, ModelNotFound, Sd2rtError, first_line
from sd2rt.export.aliases import repositories
from sd2rt.export.hub_fetch import check_cached_files, check_small_files, check_space, drop_damaged_files, fetch_large_files
from sd2rt.export.hub_files import FULL, HALF, MANIFEST, Choice, HubFile, Kind, choose_files, named_files
from sd2rt.export.layout import ALWAYS, WEIGHT_STEMS, has_weights, is_graph_folder

Notify = Callable[[str], None]
NETWORK = ("httpx", "httpx2", "requests", "huggingface_hub")  # whose exceptions say that the hub could not be used


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A repository's files on this machine."""

    repo: str
    kind: Kind
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A repository at one commit, and what of it is wanted."""

    repo: str
    commit: str
    choice: Choice


def download(
    name: str,
    dtype: str = "fp16",
    notify: Notify = lambda line: None,
    *,
    offline: bool = False,
    exporting: bool = True,
    check: Callable[[str, Kind], None] = lambda repo, kind: None,
) -> Download:
    """Return the local folder of what an alias or hub id names, downloading what the cache lacks.

    `dtype` and `exporting` are as in `choose_files`; `check` may raise before anything large is downloaded. Offline (or with
    HF_HUB_OFFLINE set) the cache's copy is taken, whatever it holds. Raises ModelNotFound for a repository that does not exist or is
    closed to this user, ExportError where the hub cannot be reached and the cache has no copy, where a download is cut off, where it or
    the copy is damaged, or where there is nothing to export.
    """
    candidates = repositories(name)
    logging.set_verbosity_error()  # what it warns of, it tries again or raises
    if not sys.stderr.isatty():
        hide_bars()
    if offline or constants.HF_HUB_OFFLINE:
        return _checked(_cached(candidates))
    try:
        listing = _find(candidates, dtype, exporting)
    except ExportError as unreachable:
        try:
            found = _cached(candidates)
        except ExportError:
            raise unreachable from None
        notify(f"{unreachable}; the copy in {found.folder} is used")
        return _checked(found)
    check(listing.repo, listing.choice.kind)
    return _fetch(_only_named(listing, notify) if listing.choice.kind is Kind.BUNDLE else listing, notify)


def hide_bars() -> None:
    """Show no progress, which terminals alone are shown as it is."""
    disable_progress_bars()


def _find(candidates: tuple[str, ...], dtype: str, exporting: bool) -> Listing:
    """Return the first of the repositories that there is. Raises as `download`, for the first where there is none."""
    missing: list[ModelNotFound] = []
    for repo in candidates:
        try:
            return _list(repo, dtype, exporting)
        except ModelNotFound as error:
            missing.append(error)
    if len(missing) > 1:
        raise ModelNotFound(f"{missing[0]} (nor was any of {', '.join(candidates[1:])} found)") from missing[0]
    raise missing[0]


def _list(repo: str, dtype: str, exporting: bool) -> Listing:
    api = HfApi(library_name="sd2rt")
    with _translated(repo):
        commit = str(api.model_info(repo).sha)
        entries = [entry for entry in api.list_repo_tree(repo, recursive=True, revision=commit) if isinstance(entry, RepoFile)]
    files = [
        HubFile(path=entry.path, bytes=entry.size, blob_id=entry.blob_id, sha256=None if entry.lfs is None else entry.lfs.sha256)
        for entry in entries
    ]
    return Listing(repo=repo, commit=commit, choice=choose_files(repo, files, dtype, exporting=exporting))


def _only_named(listing: Listing, notify: Notify) -> Listing:
    """Leave of a bundle's repository what its manifest names, which is fetched for that."""
    manifest = tuple(file for file in listing.choice.files if file.path == MANIFEST)
    first = replace(listing, choice=replace(listing.choice, files=manifest))
    content = (_fetch(first, notify, revision=listing.commit).folder / MANIFEST).read_bytes()
    return replace(listing, choice=replace(listing.choice, files=named_files(content, listing.choice.files)))


def _fetch(listing: Listing, notify: Notify, revision: str | None = None) -> Download:
    """Get the files. Without a `revision` the commit becomes the one that the cache has of the repository."""
    repo, files = listing.repo, listing.choice.files
    drop_damaged_files(repo, files)
    check_space(repo, files)
    with _translated(repo):
        fetch_large_files(repo, listing.commit, files, notify)
        patterns = [_literal(file.path) for file in files]
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=patterns, library_name="sd2rt"))
    if folder.name != listing.commit:
        raise ExportError(f"{repo} was changed on the hub during the download; start again")
    check_small_files(repo, folder, files)
    return Download(repo=repo, kind=listing.choice.kind, folder=folder)


def _cached(candidates: tuple[str, ...]) -> Download:
    """Return the copy that the cache has of one of the repositories. Raises ExportError."""
    for repo in candidates:
        for kind, mark in ((Kind.BUNDLE, MANIFEST), (Kind.CHECKPOINT, "model_index.json"), (Kind.GRAPHS, "model_index.json")):
            found = try_to_load_from_cache(repo, mark)
            if isinstance(found, str) and _is_whole(Path(found).parent, kind):
                return Download(repo=repo, kind=kind, folder=Path(found).parent)
    hint = "unset HF_HUB_OFFLINE and leave --offline out to download it, or name a local folder or file"
    raise ExportError(f"offline, and {constants.HF_HUB_CACHE} has no complete copy of {' or '.join(candidates)}; {hint}")


def _checked(found: Download) -> Download:
    """Return the cache's copy whose files are what they were. Raises ExportError."""
    check_cached_files(found.repo, found.folder)
    return found


def _is_whole(folder: Path, kind: Kind) -> bool:
    """Tell whether a cached snapshot has what its kind needs; a file that is not there yet has no link in the snapshot either."""
    if kind is Kind.BUNDLE:
        return True  # read_bundle says what is missing
    if kind is Kind.GRAPHS:
        return is_graph_folder(folder)
    expected = [name for name in WEIGHT_STEMS if name in ALWAYS or (folder / name).is_dir()]
    return all(
        has_weights(folder / name, WEIGHT_STEMS[name], FULL) or has_weights(folder / name, WEIGHT_STEMS[name], HALF) for name in expected
    )


def _literal(path: str) -> str:
    """Return the pattern that this path alone matches."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in path)


@contextmanager
def _translated(repo: str) -> Iterator[None]:
    """Turn what the library raises into one line of ours."""
    try:
        yield
    except Sd2rtError:
        raise
    except Exception as error:  # httpx's errors, which the library lets through, have another root from one version to the next
        raise _translate(repo, error) from error


def _translate(repo: str, error: Exception) -> Exception:
    if isinstance(error, hub_errors.GatedRepoError):
        return ModelNotFound(f"{repo} is closed to you: accept its terms on its page and log in with `hf auth login`, or set HF_TOKEN")
    if isinstance(error, hub_errors.RepositoryNotFoundError):
        return ModelNotFound(f"the hub has no repository {repo} that you can read; check the name, or export from a local folder")
    if _status(error) == 401:
        return ModelNotFound(f"{repo}: the hub refuses your token (401); set HF_TOKEN to a valid one, or unset it, or run `hf auth login`")
    if type(error).__module__.split(".")[0] in NETWORK or isinstance(error, OSError | ValueError):
        endpoint = "" if constants.ENDPOINT == "https://huggingface.co" else f" from {constants.ENDPOINT}"
        said = f"{type(error).__name__}: {first_line(error)[:200]}"
        return ExportError(f"cannot download {repo}{endpoint} ({said}); connect and start again, which goes on where it stopped")
    return error


def _status(error: Exception) -> int | None:
    response: Any = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    return status if isinstance(status, int) else None
