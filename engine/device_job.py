"""What a device loop is given and gives back: plain values, and the check of a job against the engines' tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import InvalidArgument
from sd2rt.engine.feeds import check_feeds
from sd2rt.engine.protocol import DeviceEngine
from sd2rt.engine.spec import TensorSpec

Floats = npt.NDArray[np.float32]
Arrays = dict[str, npt.NDArray[Any]]

IDS = "input_ids"
INTERNAL = ("registers", "step", "noise", "encoder_hidden_states")  # inputs of the step that the loop fills by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopEngines:
    """The three engines of a loop, loaded for its stream; whoever opened them closes them, after the loop.

    `text_encoder` maps input_ids to last_hidden_state, `step` is a UNet's StepForm, `decoder` a VAE decoder's PixelForm.
    """

    text_encoder: DeviceEngine
    step: DeviceEngine
    decoder: DeviceEngine


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One job. `rows` of the table are run, from the first; `noise` holds the rows that use any, by their index.

    ids: int64 [batch x chunks, tokens], negative prompts first when guided; a row of the UNet reads `chunks` of them, one after the other
    weigh: what is done on the host to their states, float [batch x chunks, tokens, channels]; None: nothing
    latents: float32 [images, C, height, width], register 0 at the start
    table: float32 [TABLE_ROWS, ROW], see `step_table`
    noise: each float32 [images, C, height, width]
    guidance: scale and rescale; ignored by engines that do not guide
    conditions: the step's further inputs, such as "extra" or "class_labels", or "known", "known_noise" and "mask" of one that keeps
    """

    ids: npt.NDArray[np.int64]
    latents: Floats
    table: Floats
    rows: int
    noise: Mapping[int, Floats] = field(default_factory=dict)
    weigh: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] | None = None
    guidance: tuple[float, float] = (1.0, 0.0)
    conditions: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """Pictures, uint8 [images, H, W, 3] or, when asked for, float32 in [0, 1]; `finite` is False where NaN or infinities turned up."""

    pictures: npt.NDArray[np.uint8] | Floats
    finite: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopTimings:
    """Seconds that the device took: for the text encoder, for each step that was taken, and for the last decoding (0 without one)."""

    text: float
    steps: list[float]
    decode: float


def check_work(work: Work, engines: LoopEngines, axes: Mapping[str, int]) -> tuple[Arrays, Arrays]:
    """Return the arrays to upload in the engines' dtypes: the text encoder's and the step's inputs, `latents` among the latter.

    Raises InvalidArgument for shapes, names or a number of rows that do not fit.
    """
    specs = {spec.name: _resolved(spec, axes) for spec in engines.step.inputs}
    encoder = engines.text_encoder.inputs
    _check_rows(work, specs["table"].shape[0])
    latents = TensorSpec(name="latents", dtype="float32", shape=specs["noise"].shape)
    text = check_feeds("text encoder", tuple(_resolved(spec, text_axes(encoder, axes)) for spec in encoder), {"input_ids": work.ids})
    feeds: Arrays = {"latents": work.latents, "table": work.table, **work.conditions}
    if "guidance" in specs:
        feeds["guidance"] = np.array(work.guidance, np.float32)
    for noise in work.noise.values():
        check_feeds("job", (specs["noise"],), {"noise": noise})
    return text, check_feeds("job", (latents, *(spec for name, spec in specs.items() if name not in INTERNAL)), feeds)


def text_axes(inputs: tuple[TensorSpec, ...], axes: Mapping[str, int]) -> dict[str, int]:
    """Return the axes as the text encoder has them: its batch is of chunks, as many as make the UNet's context.

    Raises InvalidArgument when the context is no multiple of what the encoder of these `inputs` takes.
    """
    tokens = next((spec.shape[1] for spec in inputs if spec.name == IDS), None)
    if not isinstance(tokens, int) or axes["sequence"] % tokens:
        got = f"a context of {axes['sequence']} tokens for an encoder of {tokens or 'no tokens'}"
        raise InvalidArgument(f"text encoder: got {got}; expected a multiple: export the bundle again")
    return {**axes, "batch": axes["batch"] * axes["sequence"] // tokens}


def _resolved(spec: TensorSpec, axes: Mapping[str, int]) -> TensorSpec:
    return TensorSpec(name=spec.name, dtype=spec.dtype, shape=spec.resolve(axes))


def _check_rows(work: Work, most: int | str) -> None:
    if not 1 <= work.rows <= int(most):
        raise InvalidArgument(f"got {work.rows} model evaluations; expected 1 to {most}")
    strays = [row for row in work.noise if not 0 <= row < work.rows]
    if strays:
        raise InvalidArgument(f"got noise for row {strays[0]}; expected rows 0 to {work.rows - 1}")
