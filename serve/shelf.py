"""The models that a process holds open: opened when they are first wanted, the longest unused closed to make room for others."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sd2rt.runtime import load
from sd2rt.runtime.bundle import Bundle, read_bundle
from sd2rt.runtime.models import find_model
from sd2rt.runtime.text_to_image import TextToImage
from sd2rt.serve.errors import UnknownModel
from sd2rt.serve.first_engines import build_first

WIDENED = {"float16": 2}  # by how much weights grow in the float32 that engines on the processor compute in
OpenModel = Callable[[str], TextToImage]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShelfSettings:
    """`models` are what `runtime.load` takes, by the names that orders use; `memory_bytes` is what they may take together, 0: any.

    `first_batch`, where it is not 0, has engines built for the first model's own size and up to so many pictures, where it has none.
    """

    models: Mapping[str, str]
    target: str = "auto"
    threads: int = 0
    memory_bytes: int = 0
    first_batch: int = 0


class Shelf:
    """Open models by name, within a memory budget that a single model may exceed. `evicted` is told what was closed."""

    def __init__(
        self,
        settings: ShelfSettings,
        evicted: Callable[[str], None] = lambda model: None,
        notify: Callable[[str], None] = lambda message: None,
        open_model: OpenModel | None = None,
    ) -> None:
        self._settings = settings
        self._evicted = evicted
        self._notify = notify
        self._open_model = open_model or (lambda model: load(model, settings.target, settings.threads, notify))
        self._pipes: dict[str, TextToImage] = {}  # the longest unused first
        self._sizes: dict[str, int] = {}  # of all that were ever opened, in bytes
        self._grown: dict[str, int] = {}  # by how much memory grew for what is open
        self._before = 0

    @property
    def models(self) -> tuple[str, ...]:
        """The names of what is open, the longest unused first."""
        return tuple(self._pipes)

    def open(self, name: str) -> TextToImage:
        """Return a model, opening it first where it is not; others may be closed for it. Raises UnknownModel, and as `runtime.load`."""
        if name not in self._settings.models:
            raise UnknownModel(f"model: got {name[:80]!r}; expected one of {', '.join(self._settings.models)}")
        if name in self._pipes:
            self._pipes[name] = self._pipes.pop(name)
            return self._pipes[name]
        model = self._settings.models[name]
        if name not in self._sizes:
            self._sizes[name] = weights_bytes(read_bundle(find_model(model)))
        self._make_room(self._sizes[name])
        self._before = resident_bytes()
        if self._settings.first_batch and name == next(iter(self._settings.models)):
            build_first(read_bundle(find_model(model)), self._settings.target, self._settings.first_batch, self._notify)
        self._pipes[name] = self._open_model(model)
        self._grown[name] = 0
        self.measure(name)
        return self._pipes[name]

    def measure(self, name: str) -> None:
        """Count what memory grew by since the model was asked for as the model's: its engines, and what painting made them take.

        Where it is too much now, others are closed.
        """
        now = resident_bytes()
        self._grown[name] += max(now - self._before, 0)
        self._sizes[name] = max(self._sizes[name], self._grown[name])
        self._make_room(0, keep=name)
        self._before = resident_bytes()

    def close(self) -> None:
        """Close all."""
        for pipe in self._pipes.values():
            pipe.close()
        self._pipes = {}

    def _make_room(self, wanted: int, keep: str = "") -> None:
        """Close models, the longest unused first and `keep` never, until there is room for so many bytes more, or nothing to close."""
        budget = self._settings.memory_bytes
        for name in [name for name in self._pipes if name != keep]:
            if not budget or wanted + sum(self._sizes[name] for name in self._pipes) <= budget:
                return
            self._pipes.pop(name).close()
            self._evicted(name)


def weights_bytes(bundle: Bundle) -> int:
    """Return what a bundle's weights take at least, once they are loaded."""
    return sum(
        sum(path.stat().st_size for path in component.files.data) * WIDENED.get(component.dtype, 1)
        for component in bundle.components.values()
    )


def resident_bytes(process: int | None = None) -> int:
    """Return what this or another process has in memory; 0 where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{process or 'self'}/statm").read_text().split()[1])
    except (OSError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
