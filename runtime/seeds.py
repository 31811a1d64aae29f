"""The seeds of a call's images, from what its caller said: one each, and those of their variations. Draws no noise."""

from __future__ import annotations

from typing import get_args

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.checks import check_finite, check_integer
from sd2rt.runtime.noise import Variation
from sd2rt.runtime.options import Request, Rng

MAX_SEED = (1 << 63) - 1


def read_seeds(request: Request, count: int) -> tuple[tuple[int, ...], Variation | None]:
    """Return the seeds of `count` images and their variation. Raises InvalidArgument.

    Seeds count up; with a variation they stay, and its seeds count up, as in the web UI.
    """
    if request.rng not in get_args(Rng):
        raise InvalidArgument(f"rng: got {str(request.rng)[:80]!r}; expected one of {', '.join(get_args(Rng))}")
    strength = check_finite("variation_strength", request.variation_strength, 0.0, 1.0)
    if not strength:
        if request.variation_seed is not None:
            raise InvalidArgument(
                "variation_seed: got one with a variation_strength of 0; expected a strength above 0, up to 1, or no seed"
            )
        return _count_up("seed", request.seed, count), None
    if request.variation_seed is None:
        raise InvalidArgument(f"variation_seed: got none for a variation_strength of {strength:g}; expected a seed to go towards")
    if request.latents is not None:
        raise InvalidArgument("variation_strength: got latents too, which take the place of seeds; leave one of the two out")
    seed = check_integer("seed", request.seed, 0, MAX_SEED)
    return (seed,) * count, Variation(seeds=_count_up("variation_seed", request.variation_seed, count), strength=strength)


def _count_up(name: str, value: int, count: int) -> tuple[int, ...]:
    first = check_integer(name, value, 0, MAX_SEED - count + 1)
    return tuple(range(first, first + count))
