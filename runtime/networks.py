"""The networks of a bundle on one target, opened when they are first run: all kept open, or one component at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt

from sd2rt.engine.errors import EngineError
from sd2rt.engine.protocol import Engine
from sd2rt.engine.spec import DeepForm, DeepPart, Form
from sd2rt.runtime.decoders import COMPONENTS as DECODERS
from sd2rt.runtime.options import Decoder

COMPONENTS = ("text_encoder", "unet", "vae_decoder")  # that every model has
DEEP_BRANCH = 1  # what a shallow evaluation computes of the UNet: its first and last layer
FULL = DeepForm(part=DeepPart.FULL, branch=DEEP_BRANCH)
SHALLOW = DeepForm(part=DeepPart.SHALLOW, branch=DEEP_BRANCH)
OpenNetwork = Callable[[str, Form], Engine]
"""Open a component of the bundle by name, in a form; None: as it is."""


class Networks:
    """What a painter on the host runs. With `one_at_a_time`, opening a component closes the others: less memory, and time at every turn.

    A component is open in one form that holds all its weights: opening it in another closes that. `target` is what they run on.
    """

    def __init__(self, target: str, open_network: OpenNetwork, *, one_at_a_time: bool = False) -> None:
        self.target = target
        self._open_network = open_network
        self._one_at_a_time = one_at_a_time
        self._opened: dict[tuple[str, Form], Engine] = {}
        self._closed = False

    def open_usual(self, *, deep: bool = False, decoder: Decoder = "vae", text: Form = None) -> None:
        """Open what every picture takes: text encoder in a form, UNet (for DeepCache if `deep`) and a decoder; all or none.

        Nothing where one is open at a time.
        """
        if self._one_at_a_time:
            return
        try:
            for name, form in (("text_encoder", text), ("unet", FULL if deep else None), (DECODERS[decoder], None)):
                self.open(name, form)
        except BaseException:
            self.close()
            raise

    def open(self, name: str, form: Form = None) -> Engine:
        """Return a component's engine, opening it first where it is not. Raises EngineError after `close`, and as opening does."""
        if self._closed:
            raise EngineError(f"the pipeline on {self.target} is closed; load the model again")
        key = (name, form)
        if key not in self._opened:
            for other in [other for other in self._opened if self._makes_way(other, key)]:
                self._opened.pop(other).close()
            self._opened[key] = self._open_network(name, form)
        return self._opened[key]

    def run(self, name: str, feeds: Mapping[str, npt.NDArray[Any]], form: Form = None) -> dict[str, npt.NDArray[Any]]:
        """Run a component on named arrays, opening it first where it is not. Raises as `open` does, and as an engine's `run`."""
        return self.open(name, form).run(feeds)

    def close(self) -> None:
        """Free all engines; calling it again does nothing."""
        self._closed = True
        for engine in self._opened.values():
            engine.close()
        self._opened = {}

    def _makes_way(self, opened: tuple[str, Form], wanted: tuple[str, Form]) -> bool:
        """Return whether an open engine is closed before another opens."""
        if opened[0] != wanted[0]:
            return self._one_at_a_time
        return SHALLOW not in (opened[1], wanted[1])
