"""Previews in the latents' own colours: their size, when a map is fitted, and what they refuse."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sd2rt.engine.errors import EngineError, InvalidArgument
from sd2rt.runtime.rgb_factors import FIELD
from tests.runtime.fakes import FakeEngine, fake_pipeline

GRAYS = {"weights": [[0.1, 0.1, 0.1]] * 4, "bias": [0.5, 0.5, 0.5]}


def unknown(document: dict[str, Any]) -> None:
    document["scaling_factor"] = 0.5


def gray(document: dict[str, Any]) -> None:
    document[FIELD] = GRAYS


def count_decodings(pipe: Any) -> Callable[[], int]:
    engine = pipe._painter.networks.open("vae_decoder")
    assert isinstance(engine, FakeEngine)
    return lambda: len(engine.feeds)


def test_a_preview_has_the_pictures_size_and_costs_no_decoder(tmp_path: Path) -> None:
    with fake_pipeline(tmp_path / "bundle", gray) as pipe:
        decoded = count_decodings(pipe)
        for state in pipe.steps("a red cube", steps=3, images_per_prompt=2, width=72, height=40):
            pictures = [np.asarray(image) for image in state.preview("latent")]
            assert [picture.shape for picture in pictures] == [(40, 72, 3)] * 2
            assert all((picture == picture[..., :1]).all() for picture in pictures)  # grays, as the map says
            assert decoded() == 0
        assert pictures[0].std() > 5


def test_an_unknown_autoencoder_is_fitted_at_the_first_preview_the_second_the_fourth_and_so_on(tmp_path: Path) -> None:
    with fake_pipeline(tmp_path / "bundle", unknown) as pipe:
        decoded, counts = count_decodings(pipe), []
        for state in pipe.steps("a red cube", steps=9):
            shown, whole = (np.asarray(state.preview(kind)[0]) for kind in ("latent", None))  # type: ignore[arg-type]
            counts.append(decoded() - state.index - 1)  # but for those of the comparison
        assert counts == [1, 2, 2, 3, 3, 3, 3, 4, 4]
        cells = [picture.reshape(8, 8, 6, 8, 3).mean(axis=(1, 3)) for picture in (shown, whole)]
        assert np.abs(cells[0] - cells[1]).mean() < 16  # of 255: tanh and smooth edges are not linear


def test_a_preview_of_what_is_not_finite_is_refused(tmp_path: Path) -> None:
    with fake_pipeline(tmp_path / "bundle", gray) as pipe:
        state = next(pipe.steps("a red cube", steps=3))
        state.decode.args[1]._step._output[:] = np.nan  # type: ignore[attr-defined]
        with pytest.raises(EngineError, match="the latents after step 1 are not finite"):
            state.preview("latent")


def test_previews_have_three_names(tmp_path: Path) -> None:
    with fake_pipeline(tmp_path / "bundle") as pipe:
        state = next(pipe.steps("a red cube", steps=3))
        with pytest.raises(InvalidArgument, match="decoder: got 'small'; expected one of vae, tiny"):
            state.preview("small")  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument, match="got 'tiny', but small has no tiny_vae_decoder"):
            state.preview("tiny")
