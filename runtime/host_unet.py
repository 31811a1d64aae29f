"""The UNet as a loop on the host calls it: a task's further inputs, a few rows at once, in tiles, and what DeepCache keeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from sd2rt.engine.spec import DEEP_FEATURES
from sd2rt.runtime.engine_plan import FORMED
from sd2rt.runtime.guidance import Floats
from sd2rt.runtime.networks import FULL, SHALLOW, Networks
from sd2rt.runtime.start import Start
from sd2rt.runtime.tiles import run_in_tiles

STATES = "encoder_hidden_states"
SMALL_CELLS = 32 * 32  # of latents
SMALL_ROWS, LARGE_ROWS = 64, 4  # that the UNet takes at once: so few keep all cores busy, more take memory and save no time


class HostUnet:
    """The UNet for one run that begins from `start`, in tiles of `tile` cells a side; see `guidance.Unet`.

    `tokens` says how many of its text states each image has; what follows them is not used. Images of one number are run together.
    With `deep`, whole evaluations keep the features that shallow ones are given: those of each tile, and of each row. A shallow
    evaluation of fewer rows takes the last ones, which are those of the positive prompts.
    """

    def __init__(self, networks: Networks, start: Start, tile: int | None, *, tokens: Sequence[int], deep: bool = False) -> None:
        self._networks = networks
        self._tokens = np.array(tokens)
        self._start = start
        self._tile = tile
        self._deep = deep
        self._features: list[npt.NDArray[Any]] = []  # of each tile

    def __call__(self, sample: Floats, timesteps: Floats, states: Floats, shallow: bool) -> Floats:
        """Predict for sample [N, C, h, w], timesteps [N] and text states [N, S, D]; `shallow` only after a whole evaluation."""
        start = self._start
        feeds: dict[str, npt.NDArray[Any]] = {"timestep": timesteps, STATES: states}
        copies = len(sample) // len(start.noise)  # of every image: without and with its prompt
        if start.extra is not None:
            sample = np.concatenate([sample, np.tile(start.extra, (copies, 1, 1, 1))], axis=1)
        if start.class_labels is not None:
            feeds["class_labels"] = np.tile(start.class_labels, copies)
        features = iter(self._features)
        if not shallow:
            self._features = []

        def predict(part: Floats) -> Floats:
            if shallow:
                return self._run({"sample": part, **feeds, DEEP_FEATURES: next(features)[-len(part) :]}, shallow)
            return self._run({"sample": part, **feeds}, shallow)

        return run_in_tiles(predict, sample, 1, self._tile)

    def _run(self, feeds: dict[str, npt.NDArray[Any]], shallow: bool) -> Floats:
        """Run all rows of a tile, keeping its features where another evaluation may take them."""
        form = SHALLOW if shallow else FULL if self._deep else None
        parts = list(self._parts(len(feeds["sample"]), *feeds["sample"].shape[2:]))
        done, kept = [], []
        for rows, tokens in parts:
            some = feeds if len(parts) == 1 else {name: array[rows] for name, array in feeds.items()}
            found = self._networks.run("unet", {**some, STATES: some[STATES][:, :tokens]}, form)
            done.append(found["out_sample"])
            if form is FULL:
                kept.append(found[DEEP_FEATURES])
        order = np.concatenate([rows for rows, _ in parts])
        if kept:
            self._features.append(_in_order(kept, order))
        return _in_order(done, order).astype(np.float32, copy=False)

    def _parts(self, total: int, height: int, width: int) -> Iterator[tuple[npt.NDArray[np.intp], int]]:
        """Yield which rows are run at once, and how many tokens they have: a few of one length; all where engines are for a number of rows.

        Parts end where a copy of all images does, and are as equal as they can be: OpenVINO compiles for every number of rows, and an
        evaluation of the positive prompts alone then comes in the parts of one of both.
        """
        images = len(self._tokens)
        most = total if self._networks.target in FORMED else SMALL_ROWS if height * width <= SMALL_CELLS else LARGE_ROWS
        for tokens in np.unique(self._tokens):
            members = np.flatnonzero(self._tokens == tokens)
            copies = [members + first for first in range(0, total, images)]
            if len(members) * len(copies) <= most:
                copies = [np.concatenate(copies)]
            for rows in copies:
                for part in np.array_split(rows, ceil(len(members) / most)):
                    yield part, int(tokens)


def _in_order(parts: Sequence[npt.NDArray[Any]], order: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
    """Join what was computed of rows in this order, and put them in theirs."""
    if len(parts) == 1:
        return parts[0]
    joined = np.concatenate(parts)
    ordered = np.empty_like(joined)
    ordered[order] = joined
    return ordered
