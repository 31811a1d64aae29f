"""Exponential integrators in log SNR: the DPM-Solver++ family, UniPC and DEIS.

Each is one function from a plan to its table. Prediction types are the Stage's business, spacing of sigmas the Grid's.
"""

from math import expm1

from sd2rt.runtime.samplers_grid import Grid, Plan, alpha_of, full_range_grid, log_snr
from sd2rt.runtime.table import Table, basis, make


def dpmpp_2m(plan: Plan) -> Table:
    """Step with the denoised latents extrapolated from the last two: DPM-Solver++(2M), Lu et al. 2022 (arXiv:2211.01095) algorithm 2.

    As in diffusers the last step is of first order when it ends without noise, and when there are fewer than 15 steps.
    """
    grid = full_range_grid(plan, to_zero=plan.schedule.final_sigmas_type == "zero")
    x, old, output, _ = basis(2)
    rows = []
    for index, sigma, after in grid.pairs():
        here = grid.stage(index)
        denoised = here.denoised(x, output)
        h = log_snr(after) - log_snr(sigma)
        target = denoised
        if index > plan.first and not _ends_first_order(grid, index):
            h_before = log_snr(sigma) - log_snr(grid.sigmas[index - 1])
            target = denoised + h / (2 * h_before) * (denoised - old)
        rows.append(here.row(after * alpha_of(after) / here.sigma * x - alpha_of(after) * expm1(-h) * target, denoised))
    return make(rows)


def _ends_first_order(grid: Grid, index: int) -> bool:
    last = grid.plan.steps - 1
    return index == last and (grid.sigmas[-1] == 0 or grid.plan.steps < 15)
