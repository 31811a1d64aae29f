"""Texts to token ids, as transformers' CLIPTokenizer gives them, and ids framed by begin, end and padding as the text encoder takes them.

Owns the vocabulary file and the special tokens; knows nothing of weights, chunks and embeddings. `tokenizers` (a Rust wheel) does the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import BundleError, InvalidArgument
from sd2rt.runtime.document import Document

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from sd2rt.runtime.bundle import Bundle

TOKENIZER_FILE = "tokenizer/tokenizer.json"
CONFIG_FILE = "tokenizer/tokenizer_config.json"
MAX_PROMPT_CHARACTERS = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Specials:
    """The ids of the tokens around a text: begin, end, and what fills the rest, which differs among models."""

    begin: int
    end: int
    pad: int


class PromptTokenizer:
    """CLIP's byte-pair encoding, for a text encoder that takes `length` tokens at once: begin, up to `size` ids, end, padding.

    `comma` is the id of a comma standing by itself; None in a vocabulary that has none.
    """

    def __init__(self, tokenizer: Tokenizer, specials: Specials, length: int) -> None:
        self._tokenizer = tokenizer
        self._specials = specials
        self.length = length
        self.size = length - 2
        ids = self.encode(",")[0]
        self.comma = ids[0] if len(ids) == 1 else None

    @classmethod
    def from_bundle(cls, bundle: Bundle, length: int) -> PromptTokenizer:
        """Load the bundle's tokenizer for sequences of `length` tokens. Raises BundleError when its files are damaged."""
        config = Document.parse(bundle.read_file(CONFIG_FILE), str(bundle.folder / CONFIG_FILE))
        return cls.from_files(bundle.read_file(TOKENIZER_FILE), config, length)

    @classmethod
    def from_files(cls, tokenizer_json: bytes, config: Document, length: int) -> PromptTokenizer:
        """Load a `tokenizer.json`; the special tokens are those that `config` (a tokenizer_config.json) names."""
        from tokenizers import AddedToken, Tokenizer

        try:
            tokenizer = Tokenizer.from_buffer(tokenizer_json)
        except ValueError as error:
            raise BundleError(f"{TOKENIZER_FILE} is damaged ({error}): export the model again") from None
        named = [_special_token(config, key) for key in ("bos_token", "eos_token", "unk_token", "pad_token")]
        tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in dict.fromkeys(named)])
        tokenizer.no_truncation()
        tokenizer.no_padding()
        begin, end, _, pad = (_special_id(tokenizer, token) for token in named)
        return cls(tokenizer, Specials(begin=begin, end=end, pad=pad), length)

    def encode(self, text: str) -> tuple[list[int], list[int]]:
        """Tokenize a text that `check_text` passes; return its ids and, for each, where in the text it begins."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return encoding.ids, [begin for begin, _ in encoding.offsets]

    def frame(self, ids: Sequence[int]) -> npt.NDArray[np.int64]:
        """Return up to `size` ids as the text encoder takes them, int64 [length]."""
        assert len(ids) <= self.size
        framed = np.full(self.length, self._specials.pad, np.int64)
        framed[: len(ids) + 2] = [self._specials.begin, *ids, self._specials.end]
        return framed


def check_text(name: str, text: str) -> None:
    """Raise InvalidArgument, naming the argument, for a prompt that is absurdly long or not valid Unicode."""
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise InvalidArgument(f"{name}: got {len(text):,} characters, expected at most {MAX_PROMPT_CHARACTERS:,}; shorten it")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidArgument(f"{name}: got text that is not valid UTF-8; type it again")


def _special_id(tokenizer: Tokenizer, token: str) -> int:
    """Return the id of a token that was added."""
    found = tokenizer.token_to_id(token)
    assert found is not None
    return found


def _special_token(config: Document, key: str) -> str:
    """Read one token, written as a string or, by older tokenizers, as an object with its content."""
    return config.child(key).text("content") if isinstance(config.fields.get(key), dict) else config.text(key)
