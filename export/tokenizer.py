"""CLIP's tokenizer as the one file the runtime reads."""

from pathlib import Path

from transformers import CLIPTokenizer

from sd2rt.engine.errors import ExportError
from sd2rt.export.clip import SPECIAL_TOKENS, read_special_tokens, write_settings


def write_tokenizer(source: Path, out: Path) -> None:
    """Write tokenizer.json (padding and truncation to the model's length included) and tokenizer_config.json to the folder `out`.

    `source` holds either a tokenizer.json or CLIP's vocab.json and merges.txt. The pad token is that of special_tokens_map.json
    where there is one ("!" for SD2), else that of tokenizer_config.json. Raises ExportError where the files are missing or broken.
    """
    tokens, length = read_special_tokens(source)
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
    write_settings(out, {name: str(getattr(tokenizer, name)) for name in SPECIAL_TOKENS}, length)
