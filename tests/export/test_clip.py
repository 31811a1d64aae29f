"""CLIP's tokenizer without transformers."""

import json
from pathlib import Path

import pytest

from sd2rt.engine.errors import ExportError
from sd2rt.export.clip import copy_tokenizer, shared_tokenizer
from sd2rt.runtime.document import Document
from sd2rt.runtime.tokenizer import PromptTokenizer

SETTINGS = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}


@pytest.fixture
def classic(tmp_path: Path) -> Path:
    """What transformers 4 wrote."""
    model = json.loads((shared_tokenizer() / "tokenizer.json").read_text())["model"]
    rules = [rule if isinstance(rule, str) else " ".join(rule) for rule in model["merges"]]
    folder = tmp_path / "classic"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *rules, ""]))
    (folder / "tokenizer_config.json").write_text(json.dumps(SETTINGS | {"model_max_length": 77}))
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": {"content": "!"}, "additional": 1}))
    return folder


def open_tokenizer(folder: Path) -> PromptTokenizer:
    config = Document.parse((folder / "tokenizer_config.json").read_bytes(), "config")
    return PromptTokenizer.from_files((folder / "tokenizer.json").read_bytes(), config, 77)


def test_classic_files_become_the_one_that_ships(classic: Path, tmp_path: Path) -> None:
    copy_tokenizer(classic, tmp_path / "out")
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (shared_tokenizer() / "tokenizer.json").read_bytes()
    assert json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())["pad_token"] == "!"
    open_tokenizer(tmp_path / "out")


def test_a_tokenizer_json_is_taken_as_it_is(classic: Path, tmp_path: Path) -> None:
    (classic / "tokenizer.json").write_text('{"version": "1.0"}')
    copy_tokenizer(classic, tmp_path / "out")
    assert (tmp_path / "out" / "tokenizer.json").read_text() == '{"version": "1.0"}'


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("vocab.json", '{"a": 0}', "has a vocabulary of its own and no tokenizer.json: save one there"),
        ("merges.txt", "a b", "has a vocabulary of its own"),
        ("merges.txt", None, r"no tokenizer in .*: expected tokenizer\.json, or vocab\.json and merges\.txt"),
        ("tokenizer_config.json", "{}", "no bos_token in .*: expected tokenizer_config.json or special_tokens_map.json"),
        ("vocab.json", "no json", r"cannot read .*vocab\.json"),
        ("tokenizer.json", "no json", r"cannot read .*tokenizer\.json"),
    ],
)
def test_what_cannot_be_read_is_told(file: str, content: str | None, words: str, classic: Path, tmp_path: Path) -> None:
    (classic / file).unlink(missing_ok=True)
    if content is not None:
        (classic / file).write_text(content)
    with pytest.raises(ExportError, match=words):
        copy_tokenizer(classic, tmp_path / "out")
