"""CLIP's tokenizer as the one file the runtime reads."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer

from sd2rt.engine.errors import ExportError
from sd2rt.export.writer import write_json

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")


def shared_tokenizer() -> Path:
    """Return the folder of CLIP's real tokenizer (49,408 words) that ships inside `sd2rt.toyworld`.

    Raises ExportError where the package was installed without its bundle.
    """
    shipped = Path(str(resources.files("sd2rt.toyworld"))) / "bundle" / "tokenizer"
    if not (shipped / "tokenizer.json").is_file():
        raise ExportError(f"no CLIP tokenizer at {shipped}: reinstall sd2rt with its embedded model, or export from a folder that has one")
    return shipped


def write_tokenizer(source: Path, out: Path) -> None:
    """Write tokenizer.json (padding and truncation to the model's length included) and tokenizer_config.json to the folder `out`.

    `source` holds either a tokenizer.json or CLIP's vocab.json and merges.txt. The pad token is that of special_tokens_map.json
    where there is one ("!" for SD2), else that of tokenizer_config.json. Raises ExportError where the files are missing or broken.
    """
    settings = _read(source / "tokenizer_config.json")
    settings |= {name: token for name, token in _read(source / "special_tokens_map.json").items() if name in SPECIAL_TOKENS}
    tokens = {name: token["content"] if isinstance(token, dict) else token for name, token in settings.items() if name in SPECIAL_TOKENS}
    length = min(int(settings.get("model_max_length", 77)), 77)
    if not any((source / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise ExportError(f"no tokenizer in {source}: expected tokenizer.json, or vocab.json and merges.txt")
    try:
        tokenizer = CLIPTokenizer.from_pretrained(source, local_files_only=True, **tokens)
    except (OSError, ValueError, TypeError) as error:
        raise ExportError(f"cannot read the tokenizer in {source}: {error}") from error
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(length)
    backend.enable_padding(length=length, pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token)
    out.mkdir(parents=True, exist_ok=True)
    backend.save(str(out / "tokenizer.json"), pretty=False)
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": length, "do_lower_case": True}
    config |= {name: str(getattr(tokenizer, name)) for name in SPECIAL_TOKENS}
    write_json(out / "tokenizer_config.json", config)


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExportError(f"cannot read {file}: {error}") from error
    return value if isinstance(value, dict) else {}
