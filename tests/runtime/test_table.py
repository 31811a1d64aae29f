"""What a row's numbers mean: noise levels and prediction types."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sd2rt.runtime.schedule import PredictionType
from sd2rt.runtime.table import Stage, assemble, basis

LEVELS = st.tuples(st.floats(0.01, 1.0), st.floats(0.01, 20.0))


def predict(prediction_type: PredictionType, clean: float, noise: float, alpha: float, sigma: float) -> float:
    """Give what a perfect model says of alpha * clean + sigma * noise."""
    scale = np.hypot(alpha, sigma)
    return {"epsilon": noise, "sample": clean, "v_prediction": float((alpha * noise - sigma * clean) / scale)}[prediction_type]


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@given(level=LEVELS, clean=st.floats(-3, 3), noise=st.floats(-3, 3))
def test_every_prediction_type_tells_clean_from_noise(
    prediction_type: PredictionType, level: tuple[float, float], clean: float, noise: float
) -> None:
    alpha, sigma = level
    stage = Stage(t=10.0, alpha=alpha, sigma=sigma, prediction_type=prediction_type)
    x, output, _ = basis(1)
    values = np.array([alpha * clean + sigma * noise, predict(prediction_type, clean, noise, alpha, sigma), 0.0])
    assert stage.denoised(x, output) @ values == pytest.approx(clean, abs=1e-9)
    assert stage.epsilon(x, output) @ values == pytest.approx(noise, abs=1e-9)
    row = stage.row(x)
    assert row.clean[0] * values[0] + row.clean[1] * values[1] == pytest.approx(clean, abs=1e-9)


@given(LEVELS)
def test_the_model_sees_latents_of_unit_variance(level: tuple[float, float]) -> None:
    alpha, sigma = level
    row = Stage(t=0.0, alpha=alpha, sigma=sigma, prediction_type="epsilon").row(basis(1)[0])
    assert row.in_scale**2 * (alpha**2 + sigma**2) == pytest.approx(1)


def test_v_prediction_holds_in_pure_noise() -> None:
    x, output, _ = basis(1)
    stage = Stage(t=999.0, alpha=0.0, sigma=1.0, prediction_type="v_prediction")
    np.testing.assert_array_equal(stage.denoised(x, output), -output)
    np.testing.assert_array_equal(stage.epsilon(x, output), x)


def test_timesteps_have_float32_precision() -> None:
    row = Stage(t=1 / 3, alpha=1.0, sigma=1.0, prediction_type="epsilon").row(basis(1)[0])
    assert row.t == float(np.float32(1 / 3))


def test_a_table_knows_whether_it_draws_noise() -> None:
    stage = Stage(t=5.0, alpha=1.0, sigma=2.0, prediction_type="epsilon")
    x, memory, _, noise = basis(2)
    quiet, noisy = stage.row(x, memory), stage.row(x, 0.5 * noise)
    assert (quiet.uses_noise, noisy.uses_noise) == (False, True)
    assert not assemble([quiet]).uses_noise
    table = assemble([quiet, noisy], init_scale=3.0)
    assert table.uses_noise
    assert (table.registers, table.init_scale, len(table.rows)) == (2, 3.0, 2)
    assert table.rows[0].weights.shape == (2, 4)
