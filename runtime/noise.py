"""Seeds to unit normal noise, the numbers that torch's CPU generator draws, so that a seed means the same picture there and here.

Mersenne Twister (Matsumoto and Nishimura 1998) and Box-Muller, laid out as `torch.randn` does on the CPU (ATen,
`aten/src/ATen/native/cpu/DistributionTemplates.h`, `normal_fill`): 16 or more numbers are made in blocks of 16, fewer one pair
at a time in double precision. CUDA generators draw other numbers: `philox` has them. Knows nothing of samplers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sd2rt.runtime.options import Rng
from sd2rt.runtime.philox import CudaNormals

if TYPE_CHECKING:
    from numpy.random import RandomState

Floats = npt.NDArray[np.float32]
BLOCK = 16
FLAT = 1e-6  # the sine of an angle below which dividing by it loses more than a straight line does


class TorchNormals:
    """A stream of unit normals equal to that of `torch.Generator("cpu").manual_seed(seed)`, within 1e-6.

    As in torch only the low 32 bits of the seed count.
    """

    def __init__(self, seed: int) -> None:
        self._twister: RandomState = np.random.RandomState(seed & 0xFFFFFFFF)
        self._second: float | None = None  # Box-Muller gives pairs; the scalar path keeps the other one

    def draw(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Draw the next numbers as `torch.randn(shape, generator=...)` does, float32."""
        count = math.prod(shape)
        if count < BLOCK:
            return np.array([self._scalar() for _ in range(count)], np.float32).reshape(shape)
        uniform = self._uniform(count)
        blocks = count - count % BLOCK
        normals = np.empty(count, np.float32)
        normals[:blocks] = _box_muller(uniform[:blocks])
        if blocks != count:  # the last 16 are drawn afresh, over what the blocks left there
            normals[-BLOCK:] = _box_muller(self._uniform(BLOCK))
        return normals.reshape(shape)

    def _words(self, count: int) -> npt.NDArray[np.uint32]:
        return self._twister.randint(0, 1 << 32, size=count, dtype=np.uint32)

    def _uniform(self, count: int) -> npt.NDArray[np.float32]:
        """Draw float32 in [0, 1) of 24 random bits each."""
        return (self._words(count) & np.uint32(0xFFFFFF)).astype(np.float32) * np.float32(2.0**-24)

    def _scalar(self) -> float:
        """Draw one normal in double precision."""
        if self._second is not None:
            value, self._second = self._second, None
            return value
        words = [int(word) for word in self._words(4)]
        angle, magnitude = (((high << 32 | low) & (1 << 53) - 1) * 2.0**-53 for high, low in (words[:2], words[2:]))
        radius = math.sqrt(-2.0 * math.log1p(-magnitude))
        self._second = radius * math.sin(2.0 * math.pi * angle)
        return radius * math.cos(2.0 * math.pi * angle)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """How far each image's first noise is turned towards that of another seed: one seed per image, `strength` above 0 and up to 1."""

    seeds: tuple[int, ...]
    strength: float


class BatchNoise:
    """Noise for a batch in which every image has its own stream, so that it does not depend on the images beside it."""

    def __init__(self, seeds: Sequence[int], shape: tuple[int, ...], rng: Rng = "torch", variation: Variation | None = None) -> None:
        """Start one stream per seed; `shape` is that of one image's noise, [C, h, w]. `rng` says whose numbers they are."""
        self.count = len(seeds)
        self._rng = rng
        self._streams = [_stream(seed, rng) for seed in seeds]
        self._variation = variation
        self._shape = shape

    def draw(self, channels: int | None = None) -> Floats:
        """Draw the next noise, [N, C, h, w]; `channels` in place of the usual C."""
        shape = self._shape if channels is None else (channels, *self._shape[1:])
        return np.stack([stream.draw(shape) for stream in self._streams])

    def draw_first(self) -> Floats:
        """Draw the noise that a run begins from, [N, C, h, w], turned towards that of the variation if there is one.

        The variation's noise is the first of a stream of its own; what samplers draw later is that of the images' seeds alone.
        """
        noise = self.draw()
        if self._variation is None:
            return noise
        others = [_stream(seed, self._rng).draw(self._shape) for seed in self._variation.seeds]
        return np.stack([slerp(own, other, self._variation.strength) for own, other in zip(noise, others, strict=True)])


def slerp(low: Floats, high: Floats, share: float) -> Floats:
    """Go `share`, from 0 to 1, of the way from noise [C, h, w] to other noise along a great circle (Shoemake 1985), as the web UI does.

    It takes every column of every channel for a vector. Those that point the same way, or opposite ways, go along a line.
    """
    start, end = low.astype(np.float64), high.astype(np.float64)
    norms = np.linalg.norm(start, axis=1, keepdims=True) * np.linalg.norm(end, axis=1, keepdims=True)  # [C, 1, w]
    angle = np.arccos(np.clip((start * end).sum(axis=1, keepdims=True) / norms, -1.0, 1.0))
    sine = np.sin(angle)
    flat = sine < FLAT
    divisor = np.where(flat, 1.0, sine)
    left = np.where(flat, 1.0 - share, np.sin((1.0 - share) * angle) / divisor)
    right = np.where(flat, share, np.sin(share * angle) / divisor)
    turned: Floats = (left * start + right * end).astype(np.float32)
    return turned


def _stream(seed: int, rng: Rng) -> TorchNormals | CudaNormals:
    return CudaNormals(seed) if rng == "nv" else TorchNormals(seed)


def _box_muller(uniform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Turn uniforms in blocks of 16 into normals: the first 8 of a block give the radius, the last 8 the angle."""
    first, second = uniform.reshape(-1, 2, BLOCK // 2).swapaxes(0, 1)
    radius = np.sqrt(-2.0 * np.log(np.float32(1.0) - first))
    angle = np.float32(2.0 * math.pi) * second
    pairs: npt.NDArray[np.float32] = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)  # [blocks, 2, 8]
    return pairs.reshape(-1)
