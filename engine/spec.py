"""What an engine is made from and what it takes: plain values, checked when they are made.

Knows no backend, no cache and no bundle: the runtime fills these in from `bundle.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sd2rt.engine.errors import InvalidArgument


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One input or output of an engine.

    `dtype` is numpy's name ("float32", "float16", "int64", "int32"); `shape` holds an int for a fixed axis and a name
    for one that may vary, such as `("batch", 4, "height", "width")`.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentFiles:
    """One component of a bundle on disk: the graph, its external weights, and what their SHA-256 must be.

    `name` is the component's ("unet", "vae_decoder", ...); `sha256` maps each file's name (no folder) to 64 hex digits.
    Raises InvalidArgument when a file has no hash.
    """

    name: str
    onnx: Path
    data: tuple[Path, ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [file.name for file in self.paths if file.name not in self.sha256]
        if missing:
            raise InvalidArgument(f"{self.name}: got no sha256 for {', '.join(missing)}; expected one for every file of the component")

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file of the component, the graph first."""
        return (self.onnx, *self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What the caller decides about an engine: where it runs and on how many threads, 0 for one per core.

    `target` is part of the cache key; engines are the same for any number of threads. Raises InvalidArgument for threads below 0.
    """

    target: str
    threads: int = 0

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise InvalidArgument(f"threads: got {self.threads}; expected at least 1, or 0 for one per core")
