"""Seeds to the unit normal noise of a CUDA generator, so that a seed means the same picture as on an NVIDIA GPU with torch.

Philox 4x32-10 (Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3") and Box-Muller, laid out as
`torch.randn` does on CUDA: element i of draw n has the block of counter (n, 0, i, 0) and of the seed as key, and takes its first two words.
That holds as long as a GPU has a thread for each element (270,336 on an H100; a picture of 512 x 512 pixels takes 16,384); beyond it
torch's numbers depend on the GPU, and these are those of one that is large enough, as the web UI's "NV" are.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]
ROUNDS = 10
MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (0x9E3779B9, 0xBB67AE85)  # added to the key after every round
LOW = np.uint64(0xFFFFFFFF)
TO_UNIT = np.float32(2.0**-32)
TO_ANGLE = np.float32(2.0**-32 * 2.0 * math.pi)


def philox_4x32(counters: Words, key: tuple[int, int]) -> Words:
    """Return the blocks of counters uint32 [4, N] under a key of two 32-bit words, uint32 [4, N]."""
    first, second, third, fourth = counters
    for number in range(ROUNDS):
        keys = [np.uint32((word + number * step) & 0xFFFFFFFF) for word, step in zip(key, WEYL, strict=True)]
        products = first * MULTIPLIERS[0], third * MULTIPLIERS[1]  # uint64
        high = [(product >> np.uint64(32)).astype(np.uint32) for product in products]
        low = [(product & LOW).astype(np.uint32) for product in products]
        first, second, third, fourth = high[1] ^ second ^ keys[0], low[1], high[0] ^ fourth ^ keys[1], low[0]
    return np.stack([first, second, third, fourth])


class CudaNormals:
    """A stream of unit normals equal to that of `torch.Generator("cuda").manual_seed(seed)`, within 2e-6; all 64 bits of the seed count."""

    def __init__(self, seed: int) -> None:
        self._key = (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF)
        self._draws = 0

    def draw(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Draw the next numbers as `torch.randn(shape, generator=..., device="cuda")` does, float32."""
        count = math.prod(shape)
        counters = np.zeros((4, count), np.uint32)
        counters[0] = self._draws
        counters[2] = np.arange(count, dtype=np.uint32)
        self._draws += 1
        first, second, _, _ = philox_4x32(counters, self._key)
        return _box_muller(first, second).reshape(shape)


def _box_muller(first: Words, second: Words) -> npt.NDArray[np.float32]:
    """Turn pairs of words into normals: the first gives the radius, the second the angle, whose sine counts. Rounded where a GPU rounds."""
    uniform = first.astype(np.float32) * TO_UNIT + TO_UNIT / np.float32(2)  # in (0, 1]
    exact = second.astype(np.float32).astype(np.float64) * TO_ANGLE + TO_ANGLE / np.float32(2)
    angle = exact.astype(np.float32)  # rounded once: a GPU fuses the two
    normals: npt.NDArray[np.float32] = np.sqrt(np.float32(-2.0) * np.log(uniform)) * np.sin(angle)
    return normals
