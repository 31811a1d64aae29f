"""What the UNet is given in a run with DeepCache: the features of the same tiles and rows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sd2rt.engine.spec import Form
from sd2rt.runtime import host_unet
from sd2rt.runtime.host_unet import HostUnet
from sd2rt.runtime.networks import FULL, SHALLOW, Networks
from sd2rt.runtime.start import Start

Floats = npt.NDArray[np.float32]
RNG = np.random.default_rng(0)
STATES = RNG.standard_normal((4, 3, 5), dtype=np.float32)
NOISE = np.zeros((2, 4, 16, 24), np.float32)


class Cut:
    """A UNet whose features are twice the sample in the whole form; in the shallow one it answers with the features it is given."""

    inputs = outputs = ()

    def __init__(self, form: Form) -> None:
        self._form = form

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        assert len({len(array) for array in feeds.values()}) == 1
        if self._form is SHALLOW:
            return {"out_sample": feeds["deep_features"] + 0}
        found = {"out_sample": feeds["sample"]}
        return {**found, "deep_features": 2 * feeds["sample"]} if self._form is FULL else found

    def close(self) -> None:
        """Free nothing."""


def predict(unet: HostUnet, sample: Floats, *, shallow: bool) -> Floats:
    return unet(sample, np.ones(len(sample), np.float32), STATES[: len(sample)], shallow)


def make_unet(tile: int | None, *, deep: bool, tokens: tuple[int, int] = (3, 3)) -> HostUnet:
    networks = Networks("fake", lambda name, form: Cut(form))
    return HostUnet(networks, Start(noise=NOISE, draw=lambda: NOISE), tile, tokens=tokens, deep=deep)


@pytest.mark.parametrize("tile", [None, 8])
@pytest.mark.parametrize("most", [64, 4, 2, 1])
@pytest.mark.parametrize("tokens", [(3, 3), (3, 2)])
def test_features_are_those_of_the_same_tiles_and_rows(
    tile: int | None, most: int, tokens: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_unet, "SMALL_ROWS", most)
    unet = make_unet(tile, deep=True, tokens=tokens)
    for _ in range(2):
        both = RNG.standard_normal((4, 4, 16, 24), dtype=np.float32)
        np.testing.assert_allclose(predict(unet, both, shallow=False), both, atol=1e-6)
        for _ in range(2):  # shallow evaluations leave the features as they are
            np.testing.assert_allclose(predict(unet, 0 * both, shallow=True), 2 * both, atol=1e-5)
            np.testing.assert_allclose(predict(unet, 0 * both[2:], shallow=True), 2 * both[2:], atol=1e-5)


def test_without_shallow_rows_no_features_are_asked_for() -> None:
    sample = RNG.standard_normal((2, 4, 16, 24), dtype=np.float32)
    np.testing.assert_array_equal(predict(make_unet(None, deep=False), sample, shallow=False), sample)
