"""Which seeds the images of a call get, and what is refused."""

from typing import Any

import numpy as np
import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.noise import Variation
from sd2rt.runtime.options import Request
from sd2rt.runtime.seeds import MAX_SEED, read_seeds


def test_seeds_count_up() -> None:
    assert read_seeds(Request(prompt="a", seed=5), 3) == ((5, 6, 7), None)
    assert read_seeds(Request(prompt="a", seed=MAX_SEED), 1) == ((MAX_SEED,), None)


def test_with_a_variation_its_seeds_count_up() -> None:
    request = Request(prompt="a", seed=5, variation_seed=0, variation_strength=1)
    assert read_seeds(request, 3) == ((5, 5, 5), Variation(seeds=(0, 1, 2), strength=1.0))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"rng": "cuda"}, "rng: got 'cuda'; expected one of torch, nv"),
        ({"rng": None}, "rng: got 'None'"),
        ({"seed": MAX_SEED}, "seed: got '9223372036854775807'; expected an integer from 0 to 9223372036854775806"),
        ({"seed": -1}, "seed: got '-1'"),
        ({"variation_seed": 3}, "variation_seed: got one with a variation_strength of 0; expected a strength above 0"),
        ({"variation_strength": 0.5}, "variation_seed: got none for a variation_strength of 0.5; expected a seed"),
        ({"variation_strength": 1.5, "variation_seed": 3}, "variation_strength: got '1.5'; expected a finite number from 0 to 1"),
        ({"variation_strength": 0.5, "variation_seed": -3}, "variation_seed: got '-3'"),
        ({"variation_strength": 0.5, "variation_seed": 3, "seed": 0.5}, "seed: got '0.5'"),
        ({"variation_strength": 0.5, "variation_seed": 3, "latents": np.zeros(1)}, "got latents too"),
    ],
)
def test_refused(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_seeds(Request(prompt="a", **asked), 2)
    assert words in str(caught.value)
