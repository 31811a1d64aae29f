"""What the layers of a UNet read while it paints: the ranges that int8 needs, and how much each layer loses by it.

Pictures are painted with the bundle's own UNet on `cpu`, which computes in float32. At every evaluation the smallest and largest
value of all that layers read are noted, and some rows drawn, to choose ranges and to measure with. Knows no file and no graph:
`sd2rt quantize` puts both together.
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
from sd2rt.engine.int8_numbers import Floats, Range, RowSample, Window, draw_rows, narrow_range
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
ROWS = 2  # of every value at every evaluation
MOST_ROWS = 160  # kept of every value, those of 80 evaluations: 0.4 GB of SD2's UNet
SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One run of the UNet: what it was given, and gave."""

    feeds: Arrays
    outputs: Arrays


class Observer:
    """A UNet with further outputs, as the engine that it is without them: it looks at what `reads` names, or keeps evaluations.

    `samples` are of the rows that layers read, `extremes` the smallest and largest of all values, by name.
    """

    def __init__(self, engine: Engine, reads: Sequence[Read], output: str) -> None:
        """Take an engine that gives `output` and every value of `reads` that is none of its inputs."""
        self.inputs = engine.inputs
        self.outputs: tuple[TensorSpec, ...] = tuple(spec for spec in engine.outputs if spec.name == output)
        self._rng = np.random.default_rng(SEED)
        self.samples = {read: RowSample(MOST_ROWS, self._rng) for read in reads}
        self.extremes = {source: (np.inf, -np.inf) for source, _ in reads}
        self.kept: list[Evaluation] = []
        self.keeps = False
        self._engine = engine

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run once; see the protocol."""
        results = self._engine.run(feeds)
        outputs = {spec.name: results[spec.name] for spec in self.outputs}
        if self.keeps:
            self.kept.append(Evaluation(feeds=dict(feeds), outputs=outputs))
        else:
            self._look({**feeds, **results})
        return outputs

    def _look(self, values: Arrays) -> None:
        """Draw rows, and widen the extremes by those of the whole arrays."""
        for (source, window), sample in self.samples.items():
            sample.add(draw_rows(values[source], window, ROWS, self._rng))
        for source, (low, high) in self.extremes.items():
            self.extremes[source] = min(low, float(values[source].min())), max(high, float(values[source].max()))

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()


def check_calibration(bundle: Bundle, prompts: Sequence[str]) -> None:
    """Raise InvalidArgument for fewer than two prompts or a bundle of another task than text to image."""
    if bundle.task != "text-to-image":
        raise InvalidArgument(
            f"{bundle.name}: got a model for {bundle.task}; expected one for text-to-image, which prompts alone make paint"
        )
    if len(prompts) < 2:
        raise InvalidArgument(f"prompts: got {len(prompts)}; expected at least 2: the last is painted to compare")


def observe(bundle: Bundle, observer: Observer, prompts: Sequence[str], steps: int, notify: Notify) -> None:
    """Paint every prompt, one at a time, with `observer` as the UNet: it looks at what is read, and of the last prompt keeps evaluations.

    Raises as `check_calibration` does, EngineError, and as `load` does.
    """
    check_calibration(bundle, prompts)
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


def choose_ranges(observer: Observer, dtype: np.dtype[np.floating]) -> dict[str, Range]:
    """Return the range of everything that was looked at, by name: that of its extremes, or less where the rows drawn lose less by it."""
    values: dict[str, list[Floats]] = {}
    for (source, _), sample in observer.samples.items():
        values.setdefault(source, []).append(sample.rows.ravel())
    return {source: narrow_range(np.concatenate(parts), observer.extremes[source], dtype) for source, parts in values.items()}


def compare_evaluations(engine: Engine, kept: Sequence[Evaluation], gate: Gate) -> Accuracy:
    """Run an engine on what another was given; return the worst of all its outputs against that one's. Raises EngineError."""
    return worst(list(_compare(engine, kept, gate)))


def _compare(engine: Engine, kept: Sequence[Evaluation], gate: Gate) -> Iterator[Accuracy]:
    for one in kept:
        results = engine.run(one.feeds)
        for name, expected in one.outputs.items():
            yield compare(name, results[name], expected, gate)
