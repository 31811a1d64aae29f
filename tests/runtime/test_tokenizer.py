"""Token ids against transformers' CLIPTokenizer on random Unicode, and what happens to prompts that do not fit."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sd2rt.engine.errors import BundleError, InvalidArgument
from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.document import Document
from sd2rt.runtime.tokenizer import PromptTokenizer, check_text
from tests.runtime.bundles import write_bundle
from tests.runtime.fakes import byte_tokenizer, byte_tokenizer_files

PIECES = [
    *(chr(code) for code in range(32, 127)),
    *("!", "'s", "'LL", "<|endoftext|>", "<|startoftext|>", "\t", "\n", "\r\n", "\u3000", "\u200d", "\0", "\ufeff"),
    *("\u0130", "\u00e9", "e\u0301", "\u00df", "\ufb01", "\u4e2d\u6587", "\U0001f469\u200d\U0001f680", "\u0661", "\u00bd"),
    *("photo", "sphere", "red ", " blue", "cats", "1234"),
]


def _random_text(rng: random.Random) -> str:
    length = rng.choice([0, 1, 3, 10, 40, 100, 300])
    return "".join(rng.choice(PIECES) if rng.random() < 0.7 else _random_character(rng) for _ in range(length))


def _random_character(rng: random.Random) -> str:
    code = rng.randrange(0x110000 - 0x800)
    return chr(code if code < 0xD800 else code + 0x800)


@pytest.mark.torch
@pytest.mark.parametrize("declared", [True, False])
def test_ids_are_those_of_transformers(declared: bool, tmp_path: Path) -> None:
    """With the special tokens listed in tokenizer.json, and with them named in tokenizer_config.json alone."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from sd2rt.export.clip import shared_tokenizer

    document = json.loads((shared_tokenizer() / "tokenizer.json").read_text())
    config: dict[str, Any] = json.loads((shared_tokenizer() / "tokenizer_config.json").read_text())
    if not declared:
        document |= {"added_tokens": [], "padding": None, "truncation": None}
        config["pad_token"] = {"__type": "AddedToken", "content": "!", "normalized": False}
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    reference = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    tokenizer = PromptTokenizer.from_files((tmp_path / "tokenizer.json").read_bytes(), Document(config, "config"), 77)
    rng = random.Random(0)
    prompts = ["", "!", "Hello! World!!", "a photo of a cat", "x" * 8192, *(_random_text(rng) for _ in range(3000))]
    ids = [tokenizer.encode(prompt)[0] for prompt in prompts]
    whole = reference(prompts).input_ids
    assert [prompt for prompt, own, other in zip(prompts, ids, whole, strict=True) if own != other[1:-1]] == []
    expected = reference(prompts, padding="max_length", truncation=True, max_length=77, return_tensors="np").input_ids
    framed = np.stack([tokenizer.frame(own[:75]) for own in ids])
    np.testing.assert_array_equal(framed, expected)
    assert framed.dtype == np.int64
    assert sum(len(own) > 75 for own in ids) > 500
    assert whole[1][1] == 0, "the padding's own id may be a word's"
    assert reference(",").input_ids[1:-1] == [tokenizer.comma]


def test_ids_are_framed_by_begin_end_and_padding() -> None:
    tokenizer = byte_tokenizer(6)
    begin, end = 256, 257
    assert tokenizer.frame([]).tolist() == [begin, end, 0, 0, 0, 0]
    assert tokenizer.frame([5, 6, 7, 8]).tolist() == [begin, 5, 6, 7, 8, end]
    assert (tokenizer.length, tokenizer.size) == (6, 4)


def test_ids_come_with_their_places() -> None:
    ids, begins = byte_tokenizer().encode("aüb")
    assert len(ids) == 4
    assert begins == [0, 1, 1, 2]
    assert byte_tokenizer().encode("") == ([], [])


def test_a_comma_by_itself_is_known_where_the_vocabulary_has_one() -> None:
    tokenizer = byte_tokenizer()
    assert [tokenizer.comma] == tokenizer.encode(",")[0]
    without = json.loads(byte_tokenizer_files()["tokenizer/tokenizer.json"])
    without["model"]["unk_token"] = None
    del without["model"]["vocab"][","]
    config = Document.parse(byte_tokenizer_files()["tokenizer/tokenizer_config.json"], "config")
    assert PromptTokenizer.from_files(json.dumps(without).encode(), config, 77).comma is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x" * 8193, "negative_prompt: got 8,193 characters, expected at most 8,192"),
        ("a\udc80", "negative_prompt: got text that is not valid UTF-8"),
    ],
)
def test_unreadable_texts_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        check_text("negative_prompt", text)


@pytest.mark.parametrize("text", ["", "x" * 8192, "ß" * 8192, "\U0001f680", "\ufffd\ue000\ud7ff"])
def test_readable_texts_pass(text: str) -> None:
    check_text("prompt", text)
    with pytest.raises(InvalidArgument, match="prompt: got text that is not valid UTF-8"):
        check_text("prompt", text[1:] + "\udc80")


def test_a_damaged_tokenizer_is_a_bundle_error() -> None:
    config = Document(dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), "!"), "config")
    with pytest.raises(BundleError, match=r"tokenizer/tokenizer.json is damaged"):
        PromptTokenizer.from_files(b"{}", config, 77)


def test_a_bundle_without_special_tokens_is_refused(tmp_path: Path) -> None:
    files = byte_tokenizer_files() | {"tokenizer/tokenizer_config.json": b"{}"}
    bundle = read_bundle(write_bundle(tmp_path / "small", contents=files))
    with pytest.raises(BundleError, match="bos_token: got nothing"):
        PromptTokenizer.from_bundle(bundle, 77)
