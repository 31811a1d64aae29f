"""Prompts to text states, the UNet's conditioning: tokenizer, then text encoder, all different prompts of a call in one batch.

Knows no guidance and no sampler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sd2rt.engine.protocol import Engine
from sd2rt.runtime.tokenizer import PromptTokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Text states of several prompts, float [N, S, D], and the ends of prompts that were too long for the encoder, each once."""

    states: npt.NDArray[np.float32]
    cut: tuple[str, ...]


def encode_prompts(tokenizer: PromptTokenizer, text_encoder: Engine, prompts: Sequence[str]) -> Encoded:
    """Encode prompts in order; equal ones are encoded once. Raises InvalidArgument for prompts that are too long."""
    different = list(dict.fromkeys(prompts))
    rows = [different.index(prompt) for prompt in prompts]
    tokens = tokenizer(different)
    states = text_encoder.run({"input_ids": tokens.ids})["last_hidden_state"]
    return Encoded(states=states[rows], cut=tuple(text for text in tokens.cut if text))
