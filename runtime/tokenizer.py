"""Prompts to token ids, exactly as transformers' CLIPTokenizer gives them with padding to the full length and truncation.

Owns the vocabulary file and the special tokens; knows nothing of embeddings. `tokenizers` (a Rust wheel) does the work.
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
class Tokens:
    """Ids of several prompts, int64 [N, length], and per prompt the text that did not fit (empty when all did)."""

    ids: npt.NDArray[np.int64]
    cut: tuple[str, ...]


class PromptTokenizer:
    """CLIP's byte-pair encoding with begin and end tokens, truncated and padded to one length."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

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
        pad = named[-1]
        tokenizer.enable_truncation(length)
        tokenizer.enable_padding(length=length, pad_id=tokenizer.token_to_id(pad), pad_token=pad)
        return cls(tokenizer)

    def __call__(self, prompts: Sequence[str]) -> Tokens:
        """Tokenize prompts that `check_text` passes; an empty one is begin, end and padding."""
        encodings = [self._tokenizer.encode(prompt) for prompt in prompts]
        ids = np.array([encoding.ids for encoding in encodings], np.int64)
        cut = tuple(
            prompt[encoding.overflowing[0].offsets[1][0] :] if encoding.overflowing else ""
            for prompt, encoding in zip(prompts, encodings, strict=True)
        )
        return Tokens(ids=ids, cut=cut)


def check_text(name: str, text: str) -> None:
    """Raise InvalidArgument, naming the argument, for a prompt that is absurdly long or not valid Unicode."""
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise InvalidArgument(
            f"{name}: got {len(text):,} characters, expected at most {MAX_PROMPT_CHARACTERS:,}; shorten it: "
            f"a model reads only the first few dozen words"
        )
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidArgument(f"{name}: got text that is not valid UTF-8; type it again")


def _special_token(config: Document, key: str) -> str:
    """Read one token, written as a string or, by older tokenizers, as an object with its content."""
    return config.child(key).text("content") if isinstance(config.fields.get(key), dict) else config.text(key)
