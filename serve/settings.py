"""What a server is told when it starts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from sd2rt.engine.errors import InvalidArgument

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EMBEDDED = ("toyworld", "toyworld-inpainting", "toyworld-depth", "toyworld-upscaler")
Engines = Literal["built", "on demand", "elsewhere"]
"""Of targets that build engines for sizes and numbers of pictures: orders that those on disk do not do for are refused; or such
engines are built, while everybody waits; or nothing is known of them here, since other machines have and build their own."""
SHORTEST_TOKEN = 16  # characters
LEAST: dict[str, float] = {"threads": 0, "workers": 1, "port": 0, "queue": 1, "batch": 1, "batch_wait_ms": 0, "memory_bytes": 0}
LEAST |= {"drain_s": 0, "results_s": 0.001, "results_bytes": 0, "hang_s": 0}
"""What each number may be at least; all of `Limits` at least 1."""


def check_least(numbers: Mapping[str, float], least: Mapping[str, float]) -> None:
    """Raise InvalidArgument for a number that is less than it may be, or no finite one."""
    for name, number in numbers.items():
        if not (math.isfinite(number) and number >= least[name]):
            raise InvalidArgument(f"{name}: got {number}; expected at least {least[name]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one order may ask for at most, and how large a request body may be (bytes) before it is cut off while it streams in."""

    images: int = 8
    steps: int = 150
    prompt_characters: int = 8_192
    body_bytes: int = 20_000_000
    upload_pixels: int = 16_777_216
    native_squares: float = 4.0
    """Pixels of a picture, in squares of the model's native size."""

    def __post_init__(self) -> None:
        check_least(asdict(self), dict.fromkeys(asdict(self), 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """How to serve; models are names or folders, the first is the default one.

    `queue` is how many orders may wait, `batch` how many pictures are painted at once at most, `batch_wait_ms` how long the first of a
    batch waits for others while nothing is being painted. `memory_bytes` is what loaded models may take per worker before the one
    longest unused is closed; 0: all stay. Finished jobs are kept for `results_s`. On SIGTERM, what was taken has `drain_s` to finish.
    A worker that says nothing for `hang_s` while it opens a model or paints is taken for lost; 0: never.
    `tokens` are names and secrets: each name owns its jobs; without any, everybody is one owner, which only loopback addresses allow.
    """

    models: tuple[str, ...] = EMBEDDED
    target: str = "auto"
    engines: Engines = "built"
    threads: int = 0
    workers: int = 1
    host: str = "127.0.0.1"
    port: int = 7860
    tokens: tuple[tuple[str, str], ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    queue: int = 16
    batch: int = 8
    batch_wait_ms: float = 2.0
    memory_bytes: int = 0
    results_s: float = 600.0
    results_bytes: int = 512_000_000
    drain_s: float = 60.0
    hang_s: float = 900.0
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        check_least({name: getattr(self, name) for name in LEAST}, LEAST)
        if not self.models:
            raise InvalidArgument("models: got none; expected at least one to offer")
        if self.host not in LOOPBACK and not self.tokens:
            raise InvalidArgument(
                f"host: got {self.host}, which other machines reach, without a token; give one with --token-file, or serve on 127.0.0.1"
            )
        for name, secret in self.tokens:
            if len(secret) < SHORTEST_TOKEN:
                raise InvalidArgument(f"token of {name!r}: got {len(secret)} characters; expected at least {SHORTEST_TOKEN}")
            if not (secret.isascii() and secret.isprintable() and secret == secret.strip()):  # others are spelled in several ways
                raise InvalidArgument(f"token of {name!r}: got characters that headers cannot carry; expected printable ASCII ones")
