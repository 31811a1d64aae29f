"""How far arrays are from a reference: `python -m benchmarks.workers.difference REFERENCE.npy OTHER.npy ...`."""

from __future__ import annotations

import json
import sys

import numpy as np
import numpy.typing as npt


def difference(reference: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> dict[str, float]:
    """Return the largest error, absolute and by the reference's spread (standard deviation), and the PSNR over its range in dB."""
    error = np.abs(other.astype(np.float64) - reference)
    span, mean_square = float(np.ptp(reference)), float(np.square(error).mean())
    psnr = 10 * np.log10(span**2 / mean_square) if mean_square else 999.0
    return {"max_abs": float(error.max()), "max_abs_by_spread": float(error.max() / reference.std()), "psnr_db": float(psnr)}


def psnr_db(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Return the peak signal-to-noise ratio of two uint8 pictures; 99 when they are equal."""
    error = np.square(np.asarray(one, np.float64) - np.asarray(other, np.float64)).mean()
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


if __name__ == "__main__":
    first = np.load(sys.argv[1])
    print(json.dumps([difference(first, np.load(path)) for path in sys.argv[2:]]))
