"""Prompts to text states, the UNet's conditioning: weights, chunks and tokens of all prompts of a call, then the text encoder.

Chunks of a prompt are encoded each by itself and stand one after the other in the UNet's context. An image's prompt and its negative
prompt must be equally long there: each is repeated up to their least common multiple, since attention to a context twice is attention to
it once. So no prompt depends on another one. Only where that would be more than MOST_CHUNKS are shorter ones filled up with empty chunks.
Knows no guidance and no sampler.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import BundleError
from sd2rt.engine.protocol import Engine
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.engine_plan import prompt_length
from sd2rt.runtime.prompt_chunks import Chunk, Token, split_chunks
from sd2rt.runtime.prompt_weights import Floats, Section, read_sections, weigh
from sd2rt.runtime.tokenizer import PromptTokenizer

MOST_CHUNKS = 64  # as many as make the context about as long as a native picture has cells: 4,928 tokens, 4,096 cells
Texts = tuple[str, ...]
"""What one image is painted with: its prompt, and its negative prompt where it is guided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How prompts are read: whether brackets are weights; how many chunks the UNet takes at most, or `fixed`, exactly.

    With `together` all images of a call are brought to the same length, for engines that take them at once.
    """

    weighting: bool = True
    most: int = MOST_CHUNKS
    fixed: bool = False
    together: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Different chunks, `ids` int64 and `weights` float32 [M, tokens], and which of them, in order, make the context of a text.

    `rows[i][j]` are the chunks of image i's text j; all of an image's texts have as many. `cut` holds the ends that were left out.
    """

    ids: npt.NDArray[np.int64]
    weights: Floats
    rows: tuple[tuple[tuple[int, ...], ...], ...]
    cut: tuple[str, ...]

    def chunks(self) -> tuple[int, ...]:
        """Return how many chunks the contexts of each image have."""
        return tuple(len(texts[0]) for texts in self.rows)

    def column(self, text: int) -> tuple[tuple[int, ...], ...]:
        """Return the chunks of every image's text of this number."""
        return tuple(texts[text] for texts in self.rows)


def choose_reading(bundle: Bundle, *, weighting: bool, together: bool = False) -> Reading:
    """Return how a bundle's prompts are read: an UNet that takes a context of one length alone gets that. Raises BundleError."""
    length = prompt_length(bundle)
    for tensor in bundle.component("unet").inputs:
        if tensor.name == "encoder_hidden_states" and len(tensor.shape) == 3 and isinstance(tensor.shape[1], int):
            chunks, rest = divmod(tensor.shape[1], length)
            if rest or not chunks:
                what = f"{bundle.folder}: unet takes {tensor.shape[1]} text states, text_encoder gives {length}"
                raise BundleError(f"{what}; expected a multiple: export the model again")
            return Reading(weighting=weighting, most=chunks, fixed=True, together=together)
    return Reading(weighting=weighting, together=together)


def lay_out(tokenizer: PromptTokenizer, images: Sequence[Texts], reading: Reading) -> Layout:
    """Read all texts of a call. Equal chunks are there once; texts that are longer than `reading.most` chunks lose their end."""
    sections = {text: read_sections(text, weighting=reading.weighting) for text in _in_order(images)}
    whole = {text: _split(tokenizer, parts) for text, parts in sections.items()}
    kept = {text: chunks[: reading.most] for text, chunks in whole.items()}
    cut = [_text_after(tokenizer, sections[text], sum(map(len, kept[text]))) for text in whole if len(kept[text]) < len(whole[text])]
    lengths = [_length([len(kept[text]) for text in texts], reading) for texts in images]
    if reading.together:
        lengths = [_length(lengths, reading)] * len(images)
    table: dict[Chunk, int] = {}
    numbered = {text: tuple(table.setdefault(chunk, len(table)) for chunk in chunks) for text, chunks in kept.items()}
    rows = tuple(tuple(_fill(numbered[text], length, table) for text in texts) for texts, length in zip(images, lengths, strict=True))
    ids = np.stack([tokenizer.frame([token.id for token in chunk]) for chunk in table])
    weights = np.ones(ids.shape, np.float32)
    for row, chunk in enumerate(table):
        weights[row, 1 : len(chunk) + 1] = [token.weight for token in chunk]
    return Layout(ids=ids, weights=weights, rows=rows, cut=tuple(filter(None, cut)))


def find_cut(bundle: Bundle, texts: Sequence[Texts], *, weighting: bool) -> tuple[str, ...]:
    """Return the ends of texts that a bundle's text encoder does not see, each once. Raises BundleError."""
    tokenizer = PromptTokenizer.from_bundle(bundle, prompt_length(bundle))
    return lay_out(tokenizer, texts, choose_reading(bundle, weighting=weighting)).cut


def encode(layout: Layout, text_encoder: Engine) -> Floats:
    """Return the weighted text states of the layout's different chunks, float [M, tokens, D]."""
    states = text_encoder.run({"input_ids": layout.ids})["last_hidden_state"]
    return weigh(states, layout.weights)


def gather(states: Floats, rows: Sequence[tuple[int, ...]]) -> Floats:
    """Put the states of chunks [M, tokens, D] one after the other: [rows, S, D], shorter rows with zeros at their end."""
    tokens, width = states.shape[1:]
    longest = max(map(len, rows), default=0)
    if all(len(row) == longest for row in rows):
        return states[np.array(rows, np.int64).reshape(len(rows), longest)].reshape(len(rows), longest * tokens, width)
    gathered = np.zeros((len(rows), longest * tokens, width), states.dtype)
    for target, row in zip(gathered, rows, strict=True):
        target[: len(row) * tokens] = states[list(row)].reshape(-1, width)
    return gathered


def _in_order(images: Sequence[Texts]) -> Iterable[str]:
    """Return every different text: all prompts, then all negative prompts."""
    return dict.fromkeys(text for column in zip(*images, strict=True) for text in column)


def _split(tokenizer: PromptTokenizer, sections: Sequence[Section]) -> tuple[Chunk, ...]:
    """Return the chunks of a prompt."""
    tokens = ([Token(id, piece.weight) for piece in section for id in tokenizer.encode(piece.text)[0]] for section in sections)
    return split_chunks(tokens, tokenizer.size, tokenizer.comma)


def _text_after(tokenizer: PromptTokenizer, sections: Sequence[Section], count: int) -> str:
    """Return what a prompt says after so many tokens, without its brackets."""
    left: list[str] = []
    for section in sections:
        for piece in section:
            begins = tokenizer.encode(piece.text)[1]
            if count < len(begins):
                left.append(piece.text[begins[count] :])
            count = max(count - len(begins), 0)
        left += [" "] if left else []
    return "".join(left).rstrip()


def _length(counts: Sequence[int], reading: Reading) -> int:
    """Return to how many chunks contexts of different ones are brought."""
    if reading.fixed:
        return reading.most
    common = math.lcm(*counts)
    return common if common <= MOST_CHUNKS else max(counts)


def _fill(chunks: tuple[int, ...], length: int, table: dict[Chunk, int]) -> tuple[int, ...]:
    """Repeat chunks up to a length, or add empty ones where that is no multiple of theirs."""
    if length % len(chunks) == 0:
        return chunks * (length // len(chunks))
    return chunks + (table.setdefault((), len(table)),) * (length - len(chunks))
