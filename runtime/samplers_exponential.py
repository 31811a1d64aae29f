"""Exponential integrators in log SNR: the DPM-Solver++ family, UniPC and DEIS.

Each is one function from a plan to its table. Prediction types are the Stage's business, spacing of sigmas the Grid's. Below
lambda = log(alpha / sigma) is `log_snr`, and h a step in it; a step that ends without noise has h infinite and gives the target.
"""

from math import exp, expm1, log, sqrt

import numpy as np

from sd2rt.runtime.samplers_grid import Grid, Plan, alpha_of, full_range_grid, log_snr, own_range_grid
from sd2rt.runtime.samplers_sigma import split
from sd2rt.runtime.table import Table, Vector, assemble, basis

# As in diffusers, runs of fewer steps end with a step of first order even where noise is left.
LONG_RUN_STEPS = 15


def dpmpp_2m(plan: Plan) -> Table:
    """Step with the denoised latents extrapolated from the last two: DPM-Solver++(2M), Lu et al. 2022 (arXiv:2211.01095) algorithm 2.

    As in diffusers the last step is of first order when it ends without noise, and when there are fewer than 15 steps.
    """
    grid = full_range_grid(plan, to_zero=plan.schedule.final_sigmas_type == "zero")
    x, old, output, _ = basis(2)
    rows = []
    for index, sigma, after in grid.pairs():
        here, h = grid.stage(index), log_snr(after) - log_snr(sigma)
        denoised = here.denoised(x, output)
        target = _extrapolated(grid, index, denoised, old)
        rows.append(here.row(_scaled_sigma(after) / here.sigma * x - alpha_of(after) * expm1(-h) * target, denoised))
    return assemble(rows)


def dpmpp_2m_sde(plan: Plan) -> Table:
    """Step as `dpmpp_2m` along the reverse SDE: SDE-DPM-Solver++(2M), Lu et al. 2022 (arXiv:2211.01095) section 5."""
    grid = full_range_grid(plan, to_zero=plan.schedule.final_sigmas_type == "zero")
    x, old, output, noise = basis(2)
    rows = []
    for index, sigma, after in grid.pairs():
        here, h = grid.stage(index), log_snr(after) - log_snr(sigma)
        denoised = here.denoised(x, output)
        target = _extrapolated(grid, index, denoised, old)
        kept = _scaled_sigma(after) / here.sigma * exp(-h)
        spread = _scaled_sigma(after) * sqrt(-expm1(-2 * h))
        rows.append(here.row(kept * x - alpha_of(after) * expm1(-2 * h) * target + spread * noise, denoised))
    return assemble(rows)


def _extrapolated(grid: Grid, index: int, denoised: Vector, old: Vector) -> Vector:
    """Extrapolate the denoised latents to the middle of the step, in log SNR; the first step and some last ones take them as they are."""
    first, last = grid.plan.first, grid.plan.steps - 1
    if index == first or (index == last and (grid.sigmas[-1] == 0 or grid.plan.steps < LONG_RUN_STEPS)):
        return denoised
    before, here, after = (log_snr(sigma) for sigma in grid.sigmas[index - 1 : index + 2])
    return denoised + (after - here) / (2 * (here - before)) * (denoised - old)


def dpmpp_2s_ancestral(plan: Plan) -> Table:
    """Step with the denoised latents at the middle, below the next sigma, and make up with noise (k-diffusion, sample_dpmpp_2s_ancestral).

    DPM-Solver++(2S), Lu et al. 2022 (arXiv:2211.01095) algorithm 1, ancestral. diffusers has no counterpart.
    """
    grid = own_range_grid(plan)
    x, start, output, noise = basis(2)
    rows = []
    for index, sigma, after in grid.pairs():
        here, (down, up) = grid.stage(index), split(sigma, after)
        middle = sqrt(sigma * down)
        rows.append(here.row(_towards(middle / sigma, x, here.denoised(x, output)), x))
        if after > 0:
            half_way = grid.between(middle)
            rows.append(half_way.row(_towards(down / sigma, start, half_way.denoised(x, output)) + up * noise, start))
    return assemble(rows, init_scale=grid.init_scale)


def dpmpp_sde(plan: Plan) -> Table:
    """Step with the denoised latents at a noised middle: DPM-Solver++ along the reverse SDE (k-diffusion, sample_dpmpp_sde, r = 1/2).

    Both stages of a step hang on one Brownian path in sigma: the increment over the whole step is that over its first half, kept
    in a register as a unit normal, and an independent second half.
    """
    grid = own_range_grid(plan)
    x, start, first_half, output, noise = basis(3)
    rows = []
    for index, sigma, after in grid.pairs():
        here, middle = grid.stage(index), sqrt(sigma * after)
        if after == 0:
            rows.append(here.row(here.denoised(x, output), start, first_half))
            continue
        down, up = split(sigma, middle)
        rows.append(here.row(_towards(down / sigma, x, here.denoised(x, output)) + up * noise, x, noise))
        half_way, (down, up) = grid.between(middle), split(sigma, after)
        whole = (sqrt(sigma - middle) * first_half + sqrt(middle - after) * noise) / sqrt(sigma - after)
        rows.append(half_way.row(_towards(down / sigma, start, half_way.denoised(x, output)) + up * whole, start, first_half))
    return assemble(rows, init_scale=grid.init_scale)


def unipc(plan: Plan) -> Table:
    """Predict with the last two denoised latents, correct with the new one: UniPC-2, Zhao et al. 2023 (arXiv:2302.04867), B(h) = e^h - 1.

    Four registers: the predicted latents, the corrected ones they came from, and the last two denoised. As in diffusers the last
    step is of first order, and the first has no corrector.
    """
    grid = full_range_grid(plan, to_zero=plan.schedule.final_sigmas_type == "zero")
    x, corrected, old, older, output, _ = basis(4)
    rows = []
    order = 1
    for index in plan.kept:
        here = grid.stage(index)
        denoised, now = here.denoised(x, output), x
        if index > plan.first:
            now = _unipc_step(grid, index - 1, corrected, [old, older][:order], denoised)
        order = min(2, index - plan.first + 1, plan.steps - index)
        rows.append(here.row(_unipc_step(grid, index, now, [denoised, old][:order]), now, denoised, old))
    return assemble(rows)


def _unipc_step(grid: Grid, index: int, start: Vector, history: list[Vector], corrector: Vector | None = None) -> Vector:
    """Step from `index` to the next sigma with the denoised latents in `history`, newest first, and with those of the step's end.

    The paper's section 3: weights that make the step exact for denoised latents that are polynomials in log SNR. A lone
    difference has the weight 1/2 instead, which keeps the order.
    """
    sigma, after = grid.sigmas[index : index + 2]
    h = log_snr(after) - log_snr(sigma)
    exact = _scaled_sigma(after) / _scaled_sigma(sigma) * start - alpha_of(after) * expm1(-h) * history[0]
    places = [(log_snr(grid.sigmas[index - back]) - log_snr(sigma)) / h for back in range(1, len(history))]
    slopes = [(value - history[0]) / place for value, place in zip(history[1:], places, strict=True)]
    if corrector is not None:
        places, slopes = [*places, 1.0], [*slopes, corrector - history[0]]
    if not slopes:
        return exact
    weights = np.array([0.5]) if len(slopes) == 1 else _unipc_weights(-h, places)
    return exact - alpha_of(after) * expm1(-h) * sum((w * s for w, s in zip(weights, slopes, strict=True)), np.zeros_like(start))


def _unipc_weights(h: float, places: list[float]) -> Vector:
    """Solve sum_k weight_k place_k^(n - 1) = n! phi_{n+1}(h) h / B(h) for n = 1, 2, ..., with phi_1(h) = (e^h - 1) / h."""
    scale, factorial, right = expm1(h), 1, []
    phi = scale / h - 1  # phi_{n+1}(h) * h
    for n in range(1, len(places) + 1):
        right.append(factorial * phi / scale)
        factorial *= n + 1
        phi = phi / h - 1 / factorial
    return np.asarray(np.linalg.solve(np.vander(places, increasing=True).T, right))


def deis(plan: Plan) -> Table:
    """Integrate the line through the last two noises: DEIS, Zhang and Chen 2023 (arXiv:2204.13902), linear in log rho.

    Its rho is our sigma. As in diffusers it ends at the model's least sigma, not at 0, and with a first order step when there are
    fewer than 15.
    """
    grid = full_range_grid(plan, to_zero=False)
    x, old, output, _ = basis(2)
    rows = []
    for index, sigma, after in grid.pairs():
        here = grid.stage(index)
        epsilon = here.epsilon(x, output)
        move = (after - sigma) * epsilon
        if index > plan.first and not (index == plan.steps - 1 and plan.steps < LONG_RUN_STEPS):
            before = grid.sigmas[index - 1]
            curve = after * log(after / sigma) - (after - sigma)  # integral of log(rho / sigma) from sigma to the next sigma
            move = move + curve / log(sigma / before) * (epsilon - old)
        rows.append(here.row(alpha_of(after) * (x / here.alpha + move), epsilon))
    return assemble(rows)


def _towards(share: float, x: Vector, denoised: Vector) -> Vector:
    """Keep a share of x and go the rest of the way to the denoised latents: the exact step when they are constant."""
    return share * x + (1 - share) * denoised


def _scaled_sigma(sigma: float) -> float:
    return sigma * alpha_of(sigma)
