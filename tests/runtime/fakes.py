"""Engines in a few lines of numpy behind the real protocol, and a tokenizer of single bytes: a pipeline without files."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from sd2rt.engine.spec import Form, TensorSpec
from sd2rt.runtime.bundle import Bundle, read_bundle
from sd2rt.runtime.document import Document
from sd2rt.runtime.host import HostPainter
from sd2rt.runtime.networks import Networks
from sd2rt.runtime.text_to_image import TextToImage
from sd2rt.runtime.tokenizer import PromptTokenizer
from tests.runtime.bundles import TENSORS, write_bundle

Arrays = dict[str, npt.NDArray[Any]]
LENGTH = 77
WIDTH = 8


class FakeEngine:
    """A component whose maths is one function; keeps every feed it was given."""

    def __init__(self, component: str, compute: Callable[[Mapping[str, npt.NDArray[Any]]], npt.NDArray[Any]]) -> None:
        inputs, outputs = TENSORS[component]
        self.inputs = tuple(TensorSpec(name=name, dtype=dtype, shape=tuple(shape)) for name, dtype, shape in inputs)
        self.outputs = tuple(TensorSpec(name=name, dtype=dtype, shape=tuple(shape)) for name, dtype, shape in outputs)
        self.compute = compute
        self.feeds: list[Arrays] = []
        self.closed = False

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        assert set(feeds) == {tensor.name for tensor in self.inputs}
        assert not self.closed
        self.feeds.append(dict(feeds))
        return {self.outputs[0].name: self.compute(feeds).astype(np.float32)}

    def close(self) -> None:
        self.closed = True


def text_states(feeds: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Depend on every id and its place, [N, 77, WIDTH]."""
    ids = feeds["input_ids"]
    place = np.arange(1, LENGTH + 1)[:, None] * np.arange(1, WIDTH + 1)
    return np.sin(ids[:, :, None] * 0.1 + place)


def noise_prediction(feeds: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Depend on the sample, the timestep and the whole text, without mixing rows."""
    sample, states = feeds["sample"], feeds["encoder_hidden_states"]
    text = states.reshape(len(states), -1, 4).sum(axis=1)[:, :, None, None] / 8
    return np.tanh(sample * 0.9 + text + feeds["timestep"][:, None, None, None] / 2000)


def pixels(feeds: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Enlarge three latent channels eightfold."""
    return np.tanh(feeds["latent_sample"][:, :3] / 5).repeat(8, axis=2).repeat(8, axis=3)


COMPUTE = {"text_encoder": text_states, "unet": noise_prediction, "vae_decoder": pixels}


def fake_networks(*, one_at_a_time: bool = False) -> Networks:
    """Return three engines that together behave like a model: deterministic, row by row."""

    def open_network(name: str, form: Form) -> FakeEngine:
        assert form is None
        return FakeEngine(name, COMPUTE[name])

    networks = Networks("fake", open_network, one_at_a_time=one_at_a_time)
    networks.open_usual()
    return networks


def byte_tokenizer_files() -> dict[str, bytes]:
    """Return the files of a tokenizer of single bytes with CLIP's begin, end and pad tokens."""
    names = ["!", *sorted(set(pre_tokenizers.ByteLevel.alphabet()) - {"!"}), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {name: index for index, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ends = [(name, vocabulary[name]) for name in ("<|endoftext|>", "<|startoftext|>")]
    tokenizer.post_processor = processors.RobertaProcessing(*ends, trim_offsets=False, add_prefix_space=False)
    config = {"bos_token": names[-2], "eos_token": names[-1], "unk_token": names[-1], "pad_token": "!"}
    return {"tokenizer/tokenizer.json": tokenizer.to_str().encode(), "tokenizer/tokenizer_config.json": json.dumps(config).encode()}


def byte_tokenizer(length: int = LENGTH) -> PromptTokenizer:
    """Return that tokenizer, loaded."""
    tokenizer, config = byte_tokenizer_files().values()
    return PromptTokenizer.from_files(tokenizer, Document.parse(config, "config"), length)


def fake_pipeline(folder: Path, edit: Callable[[dict[str, Any]], None] = lambda document: None) -> TextToImage:
    """Return a pipeline over fake engines and a small bundle written to `folder`."""
    bundle: Bundle = read_bundle(write_bundle(folder, edit))
    return TextToImage(bundle, HostPainter(bundle, byte_tokenizer(), fake_networks()))
