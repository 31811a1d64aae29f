import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import CLIPTokenizer

from sd2rt.engine.errors import ExportError
from sd2rt.export.clip import shared_tokenizer
from sd2rt.export.tokenizer import write_tokenizer

pytestmark = pytest.mark.torch

PROMPTS = [
    "",
    "a large red sphere on the left and a small blue cube on the right, gray floor",
    "A PHOTO of a naïve café, 1990's style!! it's (very:1.2) 日本語 🙂 e\u0301",
    "word " * 200,
    "tabs\tand\nlines   and <|endoftext|> inside",
]


@pytest.fixture(scope="module")
def classic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SD2's files as published: vocab.json, merges.txt, and a pad token that only special_tokens_map.json has right."""
    folder = tmp_path_factory.mktemp("tokenizer")
    model = json.loads((shared_tokenizer() / "tokenizer.json").read_text())["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    bos, eos = "<|startoftext|>", "<|endoftext|>"
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": bos,
        "eos_token": eos,
        "unk_token": eos,
        "pad_token": eos,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    special = {"bos_token": {"content": bos, "lstrip": False}, "eos_token": eos, "unk_token": eos, "pad_token": "!"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    return folder


def ids(folder: Path, prompts: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in Tokenizer.from_file(str(folder / "tokenizer.json")).encode_batch(prompts)]


def test_classic_files_become_one_with_the_ids_of_transformers(classic: Path, tmp_path: Path) -> None:
    write_tokenizer(classic, tmp_path)
    reference = CLIPTokenizer.from_pretrained(classic, pad_token="!")
    expected = reference(PROMPTS, padding="max_length", max_length=77, truncation=True)["input_ids"]
    assert ids(tmp_path, PROMPTS) == expected
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["pad_token"] == "!"
    assert ids(tmp_path, ["a"])[0][:5] == [49406, 320, 49407, 0, 0]


def test_classic_files_and_the_shipped_tokenizer_agree(classic: Path, tmp_path: Path) -> None:
    write_tokenizer(classic, tmp_path / "classic")
    write_tokenizer(shared_tokenizer(), tmp_path / "shared")
    assert ids(tmp_path / "classic", PROMPTS) == ids(tmp_path / "shared", PROMPTS)


def test_pad_token_without_a_special_tokens_map_is_the_configs(classic: Path, tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((classic / name).read_bytes())
    write_tokenizer(tmp_path, tmp_path / "out")
    assert ids(tmp_path / "out", ["a"])[0][:5] == [49406, 320, 49407, 49407, 49407]


def test_an_installation_without_its_tokenizer_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toyless").mkdir()
    monkeypatch.setattr("sd2rt.export.clip.resources.files", lambda package: tmp_path / "toyless")
    with pytest.raises(ExportError, match=r"no CLIP tokenizer at .*toyless.*reinstall"):
        shared_tokenizer()


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no tokenizer in"):
        write_tokenizer(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_broken_files_are_one_clear_error(classic: Path, tmp_path: Path, name: str) -> None:
    for file in classic.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / name).write_text("{ not json")
    with pytest.raises(ExportError, match="cannot read"):
        write_tokenizer(tmp_path, tmp_path / "out")
