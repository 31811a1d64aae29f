"""What the solvers are for: on Gaussian data, where the ideal model and the exact solution are known, errors fall at the solver's order.

The clean latents are normal with mean MEAN and deviation SPREAD, each element for itself, so the ideal model is affine in the
latents, the probability flow maps normals to normals, and mean and variance can be followed through the rows exactly.
"""

from math import log2, sqrt

import numpy as np
import pytest

from sd2rt.runtime.denoise import denoise
from sd2rt.runtime.samplers import make_table
from sd2rt.runtime.schedule import Schedule
from sd2rt.runtime.table import Row, Table

MEAN, SPREAD = 0.7, 0.5
SD2 = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "epsilon"}
SCHEDULE = Schedule.from_config(SD2)


def variance_at(row: Row) -> float:
    """Give the variance of register 0 at a row's noise level."""
    return row.alpha**2 * SPREAD**2 + row.sigma**2


def ideal_epsilon(row: Row) -> tuple[float, float]:
    """Give (slope, constant) of the ideal noise prediction in register 0."""
    slope = row.sigma / variance_at(row)
    return slope, -slope * row.alpha * MEAN


def trajectory_error(sampler: str, steps: int) -> float:
    """Give the error of the latents before the last row, one sigma from the mean at the start, against the probability flow.

    The last row goes to sigma 0 or nearly there in one step, an error that does not depend on the number of steps.
    """
    table = make_table(sampler, SCHEDULE, steps)

    def model(x: np.ndarray, t: float, index: int) -> np.ndarray:
        row = table.rows[index]
        slope, constant = ideal_epsilon(row)
        return slope * x / row.in_scale + constant

    first, last = table.rows[0], table.rows[-1]
    start = first.alpha * MEAN + sqrt(variance_at(first))
    exact = last.alpha * MEAN + sqrt(variance_at(last))
    before_last = [step.latents for step in denoise(table, model, np.array([[start / table.init_scale]]))][-2]
    return abs(float(before_last[0, 0]) - exact)


@pytest.mark.parametrize(
    ("sampler", "order"),
    [
        ("ddim", 1),
        ("euler", 1),
        ("euler karras", 1),
        ("euler exponential", 1),
        ("heun karras", 2),
        ("dpm2 karras", 2),
        ("dpm++ 2m karras", 2),
        ("dpm++ 2m exponential", 2),
        ("deis karras", 2),
        ("deis exponential", 2),
        ("unipc karras", 3),  # order 2, and one more from the corrector
        ("lms karras", 3.5),  # order 4, after a start of lower order
        ("pndm", 1.4),  # order 2 in the limit: its warm-up and its spacing cost more than its order gains at these steps
    ],
)
def test_errors_fall_at_the_order_of_the_solver(sampler: str, order: float) -> None:
    """Twice the steps: an order 1 error halves, an order 2 error falls to a quarter."""
    coarse, middle, fine = (trajectory_error(sampler, steps) for steps in (25, 50, 100))
    slopes = log2(coarse / middle), log2(middle / fine)
    assert min(slopes) > order - 0.1
    assert max(slopes) < order + 0.35


def final_moments(table: Table) -> tuple[float, float]:
    """Follow mean and variance of register 0 to the end, over start noise and drawn noise; exact, the rows being affine."""
    mean = np.zeros(table.registers)
    covariance = np.zeros((table.registers, table.registers))
    covariance[0, 0] = table.init_scale**2
    for row in table.rows:
        slope, constant = ideal_epsilon(row)
        outputs = np.vstack([np.eye(table.registers), np.zeros((2, table.registers))])
        outputs[-2, 0] = slope
        step, noise = row.weights @ outputs, row.weights[:, -1]
        mean = step @ mean + row.weights[:, -2] * constant
        covariance = step @ covariance @ step.T + np.outer(noise, noise)
    return float(mean[0]), float(covariance[0, 0])


@pytest.mark.parametrize(
    "sampler",
    [
        "ddpm",
        "euler a",
        "euler a karras",
        "dpm2 a karras",
        "dpm++ 2s a karras",
        "dpm++ 2m sde karras",
        "dpm++ sde karras",
        "dpm++ sde exponential",
    ],
)
def test_stochastic_solvers_tend_to_the_distribution_of_the_data(sampler: str) -> None:
    errors = []
    for steps in (25, 100):
        mean, variance = final_moments(make_table(sampler, SCHEDULE, steps))
        errors.append(max(abs(mean - MEAN), abs(sqrt(variance) - SPREAD)))
    assert errors[1] < 0.03
    assert errors[1] < errors[0] / 2
