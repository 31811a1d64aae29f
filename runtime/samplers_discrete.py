"""Solvers that step through the training timesteps themselves: DDIM, DDPM, PNDM (PLMS), LCM.

Each is one function from a plan to its table. Latents have unit variance: `alpha * clean + sigma * noise` with
alpha = sqrt(alpha_bar), sigma = sqrt(1 - alpha_bar). Prediction types are the Stage's business.
"""

from math import sqrt

import numpy as np

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.samplers_grid import Plan
from sd2rt.runtime.schedule import ZERO_SNR_ALPHA_BAR, Schedule
from sd2rt.runtime.table import Stage, Table, assemble, basis


def ddim(plan: Plan) -> Table:
    """Step along the implicit model: Song et al. 2021 (arXiv:2010.02502) equation 12, `eta` scaling equation 16's noise.

    As in diffusers the step goes down by `train steps // steps` timesteps, which is not quite the next timestep for linspace and
    some trailing spacings, and ends at alpha_bar 1 unless `set_alpha_to_one` is false.
    """
    schedule = plan.schedule
    plan.refuse_clipping("ddim")
    stride = schedule.train_steps // plan.steps
    x, output, noise = basis(1)
    rows = []
    for t in schedule.spaced(plan.steps, "leading").round()[plan.first :]:
        here, alpha_bar = _stage(schedule, t), _alpha_bar(schedule, t)
        next_alpha_bar = _alpha_bar(schedule, t - stride, final_is_one=schedule.set_alpha_to_one is not False)
        spread = plan.eta * sqrt((1 - next_alpha_bar) / (1 - alpha_bar) * (1 - alpha_bar / next_alpha_bar))
        towards_x = sqrt(max(1 - next_alpha_bar - spread**2, 0.0)) * here.epsilon(x, output)
        rows.append(here.row(sqrt(next_alpha_bar) * here.denoised(x, output) + towards_x + spread * noise))
    return assemble(rows)


def ddpm(plan: Plan) -> Table:
    """Sample the learned reverse chain, strided: Ho et al. 2020 (arXiv:2006.11239) equations 6 and 7."""
    schedule = plan.schedule
    plan.refuse_clipping("ddpm")
    timesteps = schedule.spaced(plan.steps, "leading").round()[plan.first :]
    x, output, noise = basis(1)
    rows = []
    for t, next_t in zip(timesteps, [*timesteps[1:], -1.0], strict=True):
        here, alpha_bar, next_alpha_bar = _stage(schedule, t), _alpha_bar(schedule, t), _alpha_bar(schedule, next_t)
        beta = 1 - alpha_bar / next_alpha_bar
        of_clean = sqrt(next_alpha_bar) * beta / (1 - alpha_bar)
        of_x = sqrt(alpha_bar / next_alpha_bar) * (1 - next_alpha_bar) / (1 - alpha_bar)
        variance = beta if schedule.variance_type == "fixed_large" else (1 - next_alpha_bar) / (1 - alpha_bar) * beta
        spread = sqrt(variance) if t > 0 else 0.0
        rows.append(here.row(of_clean * here.denoised(x, output) + of_x * x + spread * noise))
    return assemble(rows)


def pndm(plan: Plan) -> Table:
    """Step with linear multistep noise (PLMS): Liu et al. 2022 (arXiv:2202.09778) equations 11 and 12, without Runge-Kutta warm-up.

    The first step is taken twice, its second time with the mean of both outputs (a Heun step), so there are steps + 1 rows.
    Quirks of diffusers kept: model outputs are averaged before a v-prediction is turned into noise; and `first` leaves out rows, of
    which the doubled timestep has two, while the second row that is left stays the Heun one: from `first` 2 on, that repeats a
    step that the timesteps do not repeat, and the latents are a step noisier than their timestep says.
    """
    schedule = plan.schedule
    spaced = schedule.spaced(plan.steps, "leading").round()
    timesteps = np.concatenate([spaced[:2], spaced[1:]])[plan.first :] if plan.steps > 1 else spaced
    stride = schedule.train_steps // plan.steps
    x, old, older, oldest, output, _ = basis(4)  # until the third row `oldest` holds the latent that the first row began with
    rows = []
    for index, t in enumerate(timesteps):
        here = leaving = _stage(schedule, t, nonzero=True)
        start, next_t, kept = x, t - stride, (output, old, older)
        if index == 0:
            kept = (output, old, x)
        elif index == 1:
            leaving = _stage(schedule, t + stride, nonzero=True)
            start, next_t, kept = oldest, t, (old, older, older)
        epsilon = leaving.epsilon(start, _PLMS[min(index, 4)] @ np.stack([output, old, older, oldest]))
        after = _alpha_bar(schedule, next_t, nonzero=True, final_is_one=schedule.set_alpha_to_one is True)
        clean = (start - leaving.sigma * epsilon) / leaving.alpha
        rows.append(here.row(sqrt(after) * clean + sqrt(1 - after) * epsilon, *kept))
    return assemble(rows)


# Weights of the outputs, newest first, by row: Adams-Bashforth of order 1, the Heun mean, then orders 2, 3 and 4.
_PLMS = np.array(
    [[1, 0, 0, 0], [1 / 2, 1 / 2, 0, 0], [3 / 2, -1 / 2, 0, 0], [23 / 12, -16 / 12, 5 / 12, 0], [55 / 24, -59 / 24, 37 / 24, -9 / 24]]
)


def lcm(plan: Plan) -> Table:
    """Jump to the clean latents and noise them again: Luo et al. 2023 (arXiv:2310.04378) algorithm 3, c_skip and c_out of its section 4.

    The timesteps are a subset of the distillation's `original_inference_steps`, trailing; the config's spacing has no part in them.
    """
    schedule = plan.schedule
    plan.refuse_clipping("lcm")
    original = min(schedule.original_inference_steps, schedule.train_steps)
    if plan.steps > original:
        raise InvalidArgument(f"got {plan.steps} steps; lcm has at most the {original} of its distillation: ask for fewer")
    distilled = np.arange(original, 0, -1) * (schedule.train_steps // original) - 1
    timesteps = distilled[np.floor(np.linspace(0, original, plan.steps, endpoint=False)).astype(int)][plan.first :]
    x, output, noise = basis(1)
    rows = []
    for t, next_t in zip(timesteps, [*timesteps[1:], -1], strict=True):
        here, scaled_t = _stage(schedule, float(t)), float(t) * schedule.timestep_scaling
        c_skip, c_out = 0.25 / (scaled_t**2 + 0.25), scaled_t / sqrt(scaled_t**2 + 0.25)
        next_alpha_bar = _alpha_bar(schedule, float(next_t))
        clean = c_out * here.denoised(x, output) + c_skip * x
        rows.append(here.row(sqrt(next_alpha_bar) * clean + sqrt(1 - next_alpha_bar) * noise))
    return assemble(rows)


def _alpha_bar(schedule: Schedule, t: float, *, final_is_one: bool = True, nonzero: bool = False) -> float:
    """Give alpha_bar at a whole timestep; below 0 lies the end of the run, alpha_bar 1 or that of timestep 0."""
    if t < 0 and final_is_one:
        return 1.0
    alpha_bar = float(schedule.alphas_cumprod[max(int(t), 0)])
    return max(alpha_bar, ZERO_SNR_ALPHA_BAR) if nonzero else alpha_bar


def _stage(schedule: Schedule, t: float, *, nonzero: bool = False) -> Stage:
    """Give the evaluation at a whole timestep. Raises InvalidArgument where a noise prediction says nothing of the clean latents."""
    alpha_bar = _alpha_bar(schedule, t, nonzero=nonzero)
    if alpha_bar == 0 and schedule.prediction_type == "epsilon":
        raise InvalidArgument(
            f"got an epsilon model at timestep {t:g}, which is pure noise (zero terminal SNR); "
            "expected a v_prediction model: choose leading timestep spacing, or a solver with sigmas such as euler"
        )
    return Stage(t=float(t), alpha=sqrt(alpha_bar), sigma=sqrt(1 - alpha_bar), prediction_type=schedule.prediction_type)
