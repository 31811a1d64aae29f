"""The sampler that diffusers has no counterpart of, against the form k-diffusion publishes.

Written from the published formulas: x is clean + sigma * noise, `denoise(x, sigma, t)` the model as a denoiser.
"""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest

from sd2rt.runtime.denoise import denoise
from sd2rt.runtime.samplers import make_table
from sd2rt.runtime.schedule import Schedule

Array = npt.NDArray[np.float64]
Denoiser = Callable[[Array, float, float], Array]
Grid = tuple[list[float], list[float]]  # sigmas without the final 0, and their timesteps
SD2 = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SHAPE = (2, 4, 3, 5)


def model(x: Array, t: float, row: int = 0) -> Array:
    return np.tanh(x * (1 + 0.3 * np.cos(t / 100)) + np.sin(t / 70)) + 0.1 * x


def denoiser(prediction_type: str) -> Denoiser:
    """Wrap the model as k-diffusion's DiscreteEpsDDPMDenoiser and DiscreteVDDPMDenoiser do."""

    def of_epsilon(x: Array, sigma: float, t: float) -> Array:
        return x - sigma * model(x / np.sqrt(sigma**2 + 1), t)

    def of_v(x: Array, sigma: float, t: float) -> Array:
        return x / (sigma**2 + 1) - sigma / np.sqrt(sigma**2 + 1) * model(x / np.sqrt(sigma**2 + 1), t)

    def of_sample(x: Array, sigma: float, t: float) -> Array:
        return model(x / np.sqrt(sigma**2 + 1), t)

    return {"epsilon": of_epsilon, "v_prediction": of_v, "sample": of_sample}[prediction_type]


def sigma_to_t(sigma: float, schedule: Schedule) -> float:
    """Interpolate log sigma linearly between the two training steps around it."""
    logs = np.log(((1 - schedule.alphas_cumprod) / schedule.alphas_cumprod) ** 0.5)
    low = min(int((np.log(sigma) >= logs).sum()) - 1, len(logs) - 2)
    return float(low + (np.log(sigma) - logs[low]) / (logs[low + 1] - logs[low]))


def own_sigmas(schedule: Schedule, steps: int) -> Grid:
    training = ((1 - schedule.alphas_cumprod) / schedule.alphas_cumprod) ** 0.5
    timesteps = np.linspace(999, 0, steps)
    return [float(sigma) for sigma in np.interp(timesteps, np.arange(1000), training)], [float(t) for t in timesteps]


def karras_sigmas(schedule: Schedule, steps: int) -> Grid:
    ends, _ = own_sigmas(schedule, steps)
    high, low, ramp = ends[0] ** (1 / 7), ends[-1] ** (1 / 7), np.linspace(0, 1, steps)
    sigmas = [float(sigma) for sigma in (high + ramp * (low - high)) ** 7]
    return sigmas, [sigma_to_t(sigma, schedule) for sigma in sigmas]


def exponential_sigmas(schedule: Schedule, steps: int) -> Grid:
    ends, _ = own_sigmas(schedule, steps)
    sigmas = [float(sigma) for sigma in np.exp(np.linspace(np.log(ends[0]), np.log(ends[-1]), steps))]
    return sigmas, [sigma_to_t(sigma, schedule) for sigma in sigmas]


def get_ancestral_step(sigma_from: float, sigma_to: float) -> tuple[float, float]:
    sigma_up = min(sigma_to, (sigma_to**2 * (sigma_from**2 - sigma_to**2) / sigma_from**2) ** 0.5)
    return (sigma_to**2 - sigma_up**2) ** 0.5, sigma_up


def sample_dpmpp_2s_ancestral(
    denoised_at: Denoiser, x: Array, grid: Grid, to_t: Callable[[float], float], draw: Callable[[], Array]
) -> Iterator[Array]:
    """Ancestral sampling with DPM-Solver++(2S) second-order steps, giving x after each evaluation."""
    for sigma, after, t_of_sigma in zip(grid[0], [*grid[0][1:], 0.0], grid[1], strict=True):
        denoised = denoised_at(x, sigma, t_of_sigma)
        sigma_down, sigma_up = get_ancestral_step(sigma, after)
        if sigma_down == 0:
            x = x + (x - denoised) / sigma * (sigma_down - sigma)
        else:
            t, t_next = -np.log(sigma), -np.log(sigma_down)
            r, h = 1 / 2, t_next - t
            s = t + r * h
            x_2 = np.exp(-s) / np.exp(-t) * x - np.expm1(-h * r) * denoised
            yield x_2
            denoised_2 = denoised_at(x_2, np.exp(-s), to_t(np.exp(-s)))
            x = np.exp(-t_next) / np.exp(-t) * x - np.expm1(-h) * denoised_2
        if after > 0:
            x = x + draw() * sigma_up
        yield x


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(
    ("name", "spaced"), [("dpm++ 2s a", own_sigmas), ("dpm++ 2s a karras", karras_sigmas), ("dpm++ 2s a exponential", exponential_sigmas)]
)
@pytest.mark.parametrize("first", [0, 2])
def test_dpmpp_2s_ancestral_is_that_of_k_diffusion(
    name: str, spaced: Callable[[Schedule, int], Grid], prediction_type: str, first: int
) -> None:
    schedule = Schedule.from_config({**SD2, "prediction_type": prediction_type})
    for steps in (3, 5, 10, 25, 50):
        rng, theirs, ours = np.random.default_rng(steps), np.random.default_rng(7), np.random.default_rng(7)
        noise, image = rng.standard_normal(SHAPE), rng.standard_normal(SHAPE)
        sigmas, timesteps = spaced(schedule, steps)
        expected = sample_dpmpp_2s_ancestral(
            denoiser(prediction_type),
            image * (first > 0) + sigmas[first] * noise,
            (sigmas[first:], timesteps[first:]),
            lambda sigma: sigma_to_t(sigma, schedule),
            lambda rng=theirs: rng.standard_normal(SHAPE),
        )
        table = make_table(name, schedule, steps, first=first)
        taken = denoise(table, model, noise, lambda rng=ours: rng.standard_normal(SHAPE), image if first else None)
        for step, x in zip(taken, expected, strict=True):
            assert np.abs(step.latents - x).max() <= 1e-5 * x.std(), f"{steps} steps, row {step.index}"
