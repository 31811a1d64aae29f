"""CLIP's tokenizer without transformers: the one that ships with sd2rt, the special tokens of a folder, and what tells it from others."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

from sd2rt.engine.errors import ExportError
from sd2rt.export.writer import write_json

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")
LENGTH = 77  # tokens that CLIP's text encoders take at most


def shared_tokenizer() -> Path:
    """Return the folder of CLIP's real tokenizer (49,408 words) that ships inside `sd2rt.toyworld`.

    Raises ExportError where the package was installed without its bundle.
    """
    shipped = Path(str(resources.files("sd2rt.toyworld"))) / "bundle" / "tokenizer"
    if not (shipped / "tokenizer.json").is_file():
        raise ExportError(f"no CLIP tokenizer at {shipped}: reinstall sd2rt with its embedded model, or export from a folder that has one")
    return shipped


def read_special_tokens(source: Path) -> tuple[dict[str, str], int]:
    """Return the special tokens that a tokenizer's folder names, and how many tokens a prompt has.

    Those of special_tokens_map.json count ("!" pads SD2's prompts), else those of tokenizer_config.json. Raises ExportError.
    """
    settings = read_json(source / "tokenizer_config.json")
    settings |= {name: token for name, token in read_json(source / "special_tokens_map.json").items() if name in SPECIAL_TOKENS}
    tokens = {name: token["content"] if isinstance(token, dict) else token for name, token in settings.items() if name in SPECIAL_TOKENS}
    return tokens, min(int(settings.get("model_max_length", LENGTH)), LENGTH)


def write_settings(out: Path, tokens: dict[str, str], length: int) -> None:
    """Write tokenizer_config.json as the runtime reads it."""
    write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": length,
            "do_lower_case": True,
            **{name: tokens[name] for name in SPECIAL_TOKENS},
        },
    )


def copy_tokenizer(source: Path, out: Path) -> None:
    """Write to the folder `out` what the runtime reads of the tokenizer in `source`, without transformers.

    A tokenizer.json is taken as it is; CLIP's vocab.json and merges.txt are those that ship with sd2rt, or are refused.
    Raises ExportError where the files are missing, broken, or of another vocabulary.
    """
    tokens, length = read_special_tokens(source)
    missing = [name for name in SPECIAL_TOKENS if name not in tokens]
    if missing:
        raise ExportError(
            f"no {missing[0]} in {source}: expected tokenizer_config.json or special_tokens_map.json with CLIP's special tokens"
        )
    given = source / "tokenizer.json"
    out.mkdir(parents=True, exist_ok=True)
    if given.is_file():
        read_json(given)  # broken JSON is better told now
        (out / given.name).write_bytes(given.read_bytes())
    else:
        shipped = shared_tokenizer() / "tokenizer.json"
        if not _is_same(source, json.loads(shipped.read_text(encoding="utf-8"))["model"]):
            raise ExportError(
                f"{source} has a vocabulary of its own and no tokenizer.json: save one there with transformers' CLIPTokenizerFast"
            )
        (out / given.name).write_bytes(shipped.read_bytes())
    write_settings(out, tokens, length)


def _is_same(source: Path, model: dict[str, Any]) -> bool:
    """Tell whether vocab.json and merges.txt are those of a tokenizer.json. Raises ExportError where they are missing or broken."""
    try:
        merges = (source / "merges.txt").read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ExportError(f"no tokenizer in {source}: expected tokenizer.json, or vocab.json and merges.txt ({error})") from error
    rules = [line for line in merges.splitlines() if line and not line.startswith("#version")]
    known = [rule if isinstance(rule, str) else " ".join(rule) for rule in model["merges"]]
    return rules == known and read_json(source / "vocab.json") == model["vocab"]


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a file, an empty one where there is no file. Raises ExportError for what is no JSON."""
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExportError(f"cannot read {file}: {error}") from error
    return value if isinstance(value, dict) else {}
