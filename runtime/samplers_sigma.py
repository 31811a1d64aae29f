"""Solvers of dx/dsigma = (x - denoised) / sigma in x = clean + sigma * noise: Euler, Heun, LMS, DPM2 and their ancestral forms.

Each is one function from a plan to its table. Prediction types are the Stage's business, spacing of sigmas the Grid's.
"""

from sd2rt.runtime.samplers_grid import Plan, own_range_grid
from sd2rt.runtime.table import Table, basis, make


def euler(plan: Plan) -> Table:
    """Step along the slope: Karras et al. 2022 (arXiv:2206.00364) algorithm 1 without its second order correction and its churn."""
    grid = own_range_grid(plan, to_zero=plan.schedule.final_sigmas_type == "zero")
    x, output, _ = basis(1)
    rows = []
    for index, sigma, after in grid.pairs():
        here = grid.stage(index)
        rows.append(here.row(x + (after - sigma) * here.epsilon(x, output)))
    return make(rows, init_scale=grid.init_scale)
