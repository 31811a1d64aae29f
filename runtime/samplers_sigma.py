"""Solvers of dx/dsigma = (x - denoised) / sigma in x = clean + sigma * noise: Euler, Heun, LMS, DPM2 and their ancestral forms.

Each is one function from a plan to its table. Prediction types are the Stage's business, spacing of sigmas the Grid's. As in
diffusers and k-diffusion a step that ends without noise is an Euler step, with one evaluation, whatever the solver's order.
"""

from math import sqrt

import numpy as np

from sd2rt.runtime.samplers_grid import Grid, Plan, own_range_grid
from sd2rt.runtime.table import Table, Vector, assemble, basis

LMS_ORDER = 4


def euler(plan: Plan) -> Table:
    """Step along the slope: Karras et al. 2022 (arXiv:2206.00364) algorithm 1 without its second order correction and its churn."""
    grid = own_range_grid(plan, to_zero=plan.schedule.final_sigmas_type == "zero")
    x, output, _ = basis(1)
    rows = []
    for index, sigma, after in grid.pairs():
        here = grid.stage(index)
        rows.append(here.row(x + (after - sigma) * here.epsilon(x, output)))
    return assemble(rows, init_scale=grid.init_scale)


def euler_ancestral(plan: Plan) -> Table:
    """Step below the next sigma and make up with noise: the ancestral sampling of Song et al. 2021 (arXiv:2011.13456) appendix F."""
    grid = own_range_grid(plan)
    x, output, noise = basis(1)
    rows = []
    for index, sigma, after in grid.pairs():
        here, (down, up) = grid.stage(index), split(sigma, after)
        rows.append(here.row(x + (down - sigma) * here.epsilon(x, output) + up * noise))
    return assemble(rows, init_scale=grid.init_scale)


def heun(plan: Plan) -> Table:
    """Step with the mean of the slopes at both ends: Karras et al. 2022 (arXiv:2206.00364) algorithm 1 without its churn."""
    plan.refuse_clipping("heun")
    grid = own_range_grid(plan)
    x, start, slope, output, _ = basis(3)
    rows = []
    for index, sigma, after in grid.pairs():
        here = grid.stage(index)
        slope_here = here.epsilon(x, output)
        rows.append(here.row(x + (after - sigma) * slope_here, x, slope_here))
        if after > 0:
            there = grid.stage(index + 1)
            mean = (slope + there.epsilon(x, output)) / 2
            rows.append(there.row(start + (after - sigma) * mean, start, slope))
    return assemble(rows, init_scale=grid.init_scale)


def dpm2(plan: Plan) -> Table:
    """Step with the slope at the geometric mean of both sigmas: DPM-Solver-2, Lu et al. 2022 (arXiv:2206.00927) algorithm 1."""
    return _midpoint(own_range_grid(plan, whole_karras_timesteps=True), ancestral=False)


def dpm2_ancestral(plan: Plan) -> Table:
    """Step as `dpm2` to below the next sigma and make up with noise (k-diffusion, sample_dpm_2_ancestral)."""
    return _midpoint(own_range_grid(plan, whole_karras_timesteps=True), ancestral=True)


def _midpoint(grid: Grid, *, ancestral: bool) -> Table:
    x, start, output, noise = basis(2)
    rows = []
    for index, sigma, after in grid.pairs():
        here, (down, up) = grid.stage(index), split(sigma, after) if ancestral else (after, 0.0)
        middle = sqrt(sigma * down)
        rows.append(here.row(x + (middle - sigma) * here.epsilon(x, output), x))
        if after > 0:
            half_way = grid.between(middle)
            rows.append(half_way.row(start + (down - sigma) * half_way.epsilon(x, output) + up * noise, start))
    return assemble(rows, init_scale=grid.init_scale)


def lms(plan: Plan) -> Table:
    """Step with the integral of the polynomial through the last slopes: variable-step Adams-Bashforth of order 4 (k-diffusion, sample_lms).

    Differs from diffusers in image to image: there the order counts the steps left out, so that the first steps use weights of
    slopes that were never taken; here it counts the slopes at hand.
    """
    grid = own_range_grid(plan)
    x, *slopes, output, _ = basis(LMS_ORDER)  # slopes, newest first
    rows = []
    for index, _, after in grid.pairs():
        here = grid.stage(index)
        taken = [here.epsilon(x, output), *slopes]
        order = min(index - plan.first + 1, LMS_ORDER)
        weights = _adams_bashforth(grid.sigmas[index - order + 1 : index + 1][::-1], after)
        step = sum((weight * slope for weight, slope in zip(weights, taken, strict=False)), np.zeros_like(x))
        rows.append(here.row(x + step, *taken[: LMS_ORDER - 1]))
    return assemble(rows, init_scale=grid.init_scale)


def _adams_bashforth(nodes: Vector, end: float) -> list[float]:
    """Integrate each Lagrange polynomial through `nodes` (at most 4) from the first node to `end`, by two-point Gauss quadrature: exact."""
    half = (end - nodes[0]) / 2
    points = nodes[0] + half * (1 + np.array([[-1], [1]]) / sqrt(3))
    weights = []
    for index, node in enumerate(nodes):
        others = np.delete(nodes, index)
        weights.append(float(half * np.prod((points - others) / (node - others), axis=1).sum()))
    return weights


def split(sigma: float, after: float) -> tuple[float, float]:
    """Split the next sigma into (what to step down to, noise to add), so that the noise levels add up and the variances fit."""
    up = after * sqrt(sigma**2 - after**2) / sigma
    return after**2 / sigma, up
