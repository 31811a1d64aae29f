"""The noise schedule read from scheduler configs."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.schedule import ZERO_SNR_ALPHA_BAR, Schedule

SD2 = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
X4 = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "scaled_linear"}


def test_reads_the_schedule_of_sd2() -> None:
    schedule = Schedule.from_config({**SD2, "prediction_type": "v_prediction"})
    assert schedule.train_steps == 1000
    assert schedule.prediction_type == "v_prediction"
    assert schedule.alphas_cumprod.dtype == np.float64
    assert schedule.alphas_cumprod[[0, -1]] == pytest.approx([0.99915, 0.00466010], rel=1e-5)
    assert schedule.sigmas[[0, -1]] == pytest.approx([0.0291675, 14.614647], rel=1e-5)


def test_reads_the_schedule_of_the_x4_upscaler() -> None:
    schedule = Schedule.from_config(X4)
    assert schedule.alphas_cumprod[-1] == pytest.approx(7.334e-4, rel=1e-3)
    assert schedule.sigmas[-1] == pytest.approx(36.912, rel=1e-4)


def test_leaves_open_what_the_config_does_not_name() -> None:
    schedule = Schedule.from_config({**SD2, "trained_betas": None, "timestep_spacing": None, "sigma_min": None})
    assert schedule.timestep_spacing is None
    assert schedule.set_alpha_to_one is None
    assert (schedule.sigma_min, schedule.sigma_max) == (None, None)
    assert (schedule.steps_offset, schedule.clip_sample) == (1, False)  # as diffusers' pipelines force them
    assert (schedule.prediction_type, schedule.final_sigmas_type, schedule.variance_type) == ("epsilon", "zero", "fixed_small")


@pytest.mark.torch
@pytest.mark.parametrize(
    "config",
    [
        SD2,
        X4,
        {**SD2, "rescale_betas_zero_snr": True},
        {**X4, "rescale_betas_zero_snr": True},
        {},
        {"beta_schedule": "squaredcos_cap_v2"},
        {**SD2, "num_train_timesteps": 500},
        {**SD2, "num_train_timesteps": 777},
        {"trained_betas": [0.01, 0.02, 0.05, 0.3]},
    ],
)
def test_alphas_cumprod_are_those_of_diffusers(config: Mapping[str, object]) -> None:
    scheduling_ddim = pytest.importorskip("diffusers.schedulers.scheduling_ddim")
    expected = scheduling_ddim.DDIMScheduler(**config).alphas_cumprod.double().numpy()
    np.testing.assert_allclose(Schedule.from_config(config).alphas_cumprod, expected, rtol=1e-6)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("scheduling_heun_discrete", "HeunDiscreteScheduler"),
        ("scheduling_k_dpm_2_discrete", "KDPM2DiscreteScheduler"),
        ("scheduling_k_dpm_2_ancestral_discrete", "KDPM2AncestralDiscreteScheduler"),
        ("scheduling_dpmsolver_sde", "DPMSolverSDEScheduler"),
        ("scheduling_lcm", "LCMScheduler"),
        ("scheduling_euler_discrete", "EulerDiscreteScheduler"),
    ],
)
def test_betas_left_out_are_those_of_the_class(module: str, name: str) -> None:
    module_of = pytest.importorskip(f"diffusers.schedulers.{module}")
    expected = getattr(module_of, name)().alphas_cumprod.double().numpy()
    np.testing.assert_allclose(Schedule.from_config({"_class_name": name}).alphas_cumprod, expected, rtol=1e-6)


def test_zero_terminal_snr_ends_in_pure_noise_and_starts_where_it_did() -> None:
    plain = Schedule.from_config(SD2)
    zero = Schedule.from_config({**SD2, "rescale_betas_zero_snr": True})
    assert zero.alphas_cumprod[-1] == 0
    assert zero.alphas_cumprod[0] == pytest.approx(plain.alphas_cumprod[0], rel=1e-6)
    assert zero.sigmas[-1] == pytest.approx(((1 - ZERO_SNR_ALPHA_BAR) / ZERO_SNR_ALPHA_BAR) ** 0.5)


@pytest.mark.parametrize(
    ("spacing", "after_last", "expected"),
    [
        ("leading", False, [801, 601, 401, 201, 1]),
        ("linspace", False, [999, 749.25, 499.5, 249.75, 0]),
        ("trailing", False, [999, 799, 599, 399, 199]),
        ("leading", True, [831, 665, 499, 333, 167]),
        ("linspace", True, [999, 799.2, 599.4, 399.6, 199.8]),
        ("trailing", True, [999, 799, 599, 399, 199]),
    ],
)
def test_spaces_timesteps(spacing: str, after_last: bool, expected: list[float]) -> None:
    named = Schedule.from_config({**SD2, "timestep_spacing": spacing})
    np.testing.assert_allclose(named.spaced(5, "leading", after_last=after_last), expected)
    np.testing.assert_allclose(Schedule.from_config(SD2).spaced(5, spacing, after_last=after_last), expected)


@given(steps=st.integers(1, 998), spacing=st.sampled_from(["leading", "linspace", "trailing"]), after_last=st.booleans())
def test_timesteps_fall_within_the_training_range(steps: int, spacing: str, after_last: bool) -> None:
    timesteps = Schedule.from_config(SD2).spaced(steps, spacing, after_last=after_last)
    assert len(timesteps) == steps
    assert timesteps.max() <= 999
    assert timesteps.min() >= 0
    assert (np.diff(timesteps) < 0).all()


@given(st.floats(0, 999))
def test_timestep_of_is_the_inverse_of_log_sigma(t: float) -> None:
    schedule = Schedule.from_config(SD2)
    sigma = float(np.exp(np.interp(t, np.arange(1000), np.log(schedule.sigmas))))
    assert schedule.timestep_of(sigma) == pytest.approx(t, abs=1e-6)


def test_timestep_of_stays_in_range() -> None:
    schedule = Schedule.from_config(SD2)
    assert schedule.timestep_of(0.0) == 0
    assert schedule.timestep_of(1e9) == 999


@pytest.mark.parametrize("steps", [0, -1])
def test_refuses_no_steps(steps: int) -> None:
    with pytest.raises(InvalidArgument, match="expected at least 1"):
        Schedule.from_config(SD2).spaced(steps, "leading")


@pytest.mark.parametrize(
    ("steps", "spacing", "after_last"),
    [(1000, "leading", False), (1001, "linspace", False), (1001, "trailing", False), (1000, "linspace", True)],
)
def test_refuses_more_steps_than_there_are_timesteps(steps: int, spacing: str, after_last: bool) -> None:
    with pytest.raises(InvalidArgument, match=f"got {steps} steps; .*ask for fewer"):
        Schedule.from_config(SD2).spaced(steps, spacing, after_last=after_last)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("prediction_type", "flow_prediction", "prediction_type is 'flow_prediction', expected one of epsilon, v_prediction, sample"),
        ("beta_schedule", "sigmoid", "beta_schedule is 'sigmoid', expected one of linear, scaled_linear, squaredcos_cap_v2"),
        ("timestep_spacing", "even", "timestep_spacing is 'even', expected one of leading, linspace, trailing"),
        ("final_sigmas_type", "one", "final_sigmas_type is 'one', expected one of zero, sigma_min"),
        ("variance_type", "learned_range", "variance_type is 'learned_range', expected one of fixed_small"),
        ("beta_start", "small", "beta_start is 'small', expected a number of at least 0"),
        ("beta_start", True, "beta_start is True, expected a number"),
        ("beta_end", float("nan"), "beta_end is nan, expected a number"),
        ("beta_start", 10**400, "expected a number of at least 0"),
        ("beta_end", 1e308, "expected a number of at least 0 and at most 1"),
        ("trained_betas", 0.5, "expected a list of betas above 0 and below 1"),
        ("beta_start", -1, "beta_start is -1, expected a number of at least 0"),
        ("beta_end", 1.0, "expected a list of betas above 0 and below 1"),
        ("num_train_timesteps", 0, "num_train_timesteps is 0, expected a number of at least 1 and at most 100000"),
        ("num_train_timesteps", 10.5, "num_train_timesteps is 10.5, expected a whole number"),
        ("trained_betas", "many", "trained_betas is 'many', expected a list of numbers"),
        ("trained_betas", [], "expected a list of betas above 0 and below 1"),
        ("trained_betas", [[0.1]], "expected a list of betas above 0 and below 1"),
        ("trained_betas", [0.1, 0.0], "expected a list of betas above 0 and below 1"),
        ("steps_offset", 1001, "steps_offset is 1001, expected a number of at least 0 and at most 1000"),
        ("original_inference_steps", 0, "original_inference_steps is 0, expected a number of at least 1"),
        ("thresholding", True, "thresholding is True, which the sampler tables cannot express; expected False"),
        ("use_flow_sigmas", True, "use_flow_sigmas is True"),
        ("interpolation_type", "log_linear", "interpolation_type is 'log_linear'.*expected 'linear'"),
    ],
)
def test_refuses_what_it_cannot_express(key: str, value: object, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Schedule.from_config({**SD2, key: value})


def test_continuous_timesteps_matter_to_v_prediction_alone() -> None:
    config = {**SD2, "timestep_type": "continuous"}
    assert Schedule.from_config(config).prediction_type == "epsilon"
    with pytest.raises(InvalidArgument, match=r"timestep_type is 'continuous'.*expected 'discrete'"):
        Schedule.from_config({**config, "prediction_type": "v_prediction"})
