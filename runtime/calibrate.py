"""What the layers of a UNet read while it paints: the ranges that int8 needs, and how much each layer loses by it.

Pictures are painted with the bundle's own UNet on `cpu`, which computes in float32, and some rows of what every layer reads are drawn
at every evaluation. Knows no file and no graph: `sd2rt quantize` puts both together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sd2rt.engine.accuracy import Accuracy, Arrays, Gate, compare, worst
from sd2rt.engine.build import open_engine
from sd2rt.engine.errors import InvalidArgument
from sd2rt.engine.int8_numbers import Floats, Range, Window, choose_range, draw_rows
from sd2rt.engine.protocol import Engine
from sd2rt.engine.spec import BuildOptions, Form, TensorSpec
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.engine_plan import prompt_length
from sd2rt.runtime.host import HostPainter
from sd2rt.runtime.networks import Networks
from sd2rt.runtime.text_to_image import TextToImage
from sd2rt.runtime.tokenizer import PromptTokenizer

Notify = Callable[[str], None]
Read = tuple[str, Window | None]
"""What a layer reads: the name of a value, and the window of a convolution."""
ROWS = 2  # of every value at every evaluation: 80 evaluations of SD2's UNet keep 0.4 GB
SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One run of the UNet: what it was given, and gave."""

    feeds: Arrays
    outputs: Arrays


class Observer:
    """A UNet with further outputs, as the engine that it is without them; draws rows of what `reads` names, or keeps evaluations."""

    def __init__(self, engine: Engine, reads: Sequence[Read], output: str) -> None:
        """Take an engine that gives `output` and every value of `reads` that is none of its inputs."""
        self.inputs = engine.inputs
        self.outputs: tuple[TensorSpec, ...] = tuple(spec for spec in engine.outputs if spec.name == output)
        self.rows: dict[Read, list[Floats]] = {read: [] for read in reads}
        self.kept: list[Evaluation] = []
        self.keeps = False
        self._engine = engine
        self._rng = np.random.default_rng(SEED)

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run once; see the protocol."""
        results = self._engine.run(feeds)
        outputs = {spec.name: results[spec.name] for spec in self.outputs}
        if self.keeps:
            self.kept.append(Evaluation(feeds=dict(feeds), outputs=outputs))
        else:
            for (source, window), rows in self.rows.items():
                rows.append(draw_rows(results[source] if source in results else feeds[source], window, ROWS, self._rng))
        return outputs

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()


def observe(bundle: Bundle, observer: Observer, prompts: Sequence[str], steps: int, notify: Notify) -> None:
    """Paint every prompt, one at a time, with `observer` as the UNet: it draws rows, and of the last prompt keeps evaluations.

    Raises InvalidArgument for fewer than two prompts or a bundle of another task than text to image, EngineError, and as `load` does.
    """
    if bundle.task != "text-to-image":
        raise InvalidArgument(
            f"{bundle.name}: got a model for {bundle.task}; expected one for text-to-image, which prompts alone make paint"
        )
    if len(prompts) < 2:
        raise InvalidArgument(f"prompts: got {len(prompts)}; expected at least 2: the last is painted to compare")
    options = BuildOptions(target="cpu")

    def open_network(name: str, form: Form) -> Engine:
        return observer if name == "unet" else open_engine(bundle.component(name).files, options, notify)

    tokenizer = PromptTokenizer.from_bundle(bundle, prompt_length(bundle))
    painter = HostPainter(bundle, tokenizer, Networks("cpu", open_network))
    with closing(TextToImage(bundle, painter)) as pipe:
        for index, prompt in enumerate(prompts):
            observer.keeps = index == len(prompts) - 1
            notify(f"painting {index + 1} of {len(prompts)}: {prompt}")
            pipe(prompt, steps=steps, seed=SEED + index, output="latents")


def choose_ranges(rows: Mapping[Read, Sequence[Floats]], dtype: np.dtype[np.floating]) -> dict[str, Range]:
    """Return the range of every value that rows were drawn of."""
    values: dict[str, list[Floats]] = {}
    for (source, _), drawn in rows.items():
        values.setdefault(source, []).extend(part.ravel() for part in drawn)
    return {source: choose_range(np.concatenate(parts), dtype) for source, parts in values.items()}


def compare_evaluations(engine: Engine, kept: Sequence[Evaluation], gate: Gate) -> Accuracy:
    """Run an engine on what another was given; return the worst of all its outputs against that one's. Raises EngineError."""
    return worst(list(_compare(engine, kept, gate)))


def _compare(engine: Engine, kept: Sequence[Evaluation], gate: Gate) -> Iterator[Accuracy]:
    for one in kept:
        results = engine.run(one.feeds)
        for name, expected in one.outputs.items():
            yield compare(name, results[name], expected, gate)
