"""The sigmas and timesteps that a solver steps through. Knows no solver's formula."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, log
from typing import Literal

import numpy as np

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.schedule import Floats, Schedule
from sd2rt.runtime.table import Stage

Sigmas = Literal["", "karras", "exponential"]
RHO = 7.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a solver is asked for: a schedule, `steps` of it from step `first` on, where the sigmas lie, and DDIM's eta."""

    schedule: Schedule
    steps: int
    sigmas: Sigmas = ""
    first: int = 0
    eta: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InvalidArgument(f"got {self.steps} steps; expected at least 1")
        if not 0 <= self.first < self.steps:
            raise InvalidArgument(f"got first step {self.first}; expected 0 to {self.steps - 1}, so that one of {self.steps} steps is left")
        if not 0 <= self.eta <= 1:
            raise InvalidArgument(f"got eta {self.eta}; expected 0 (deterministic) to 1")

    @property
    def kept(self) -> range:
        """Indices of the steps to run."""
        return range(self.first, self.steps)

    def refuse_clipping(self, solver: str) -> None:
        """Refuse what is not linear: for solvers that clip in diffusers, whose Stable Diffusion pipelines switch it off."""
        if self.schedule.clip_sample:
            raise InvalidArgument(
                f"scheduler config: clip_sample is true, which {solver} would obey and latents do not want; "
                "set it to false in scheduler_config.json, or choose a solver that does not clip, such as euler"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """Sigmas to step through, float64 [steps + 1], the last one where the run ends, and the timestep of each but the last.

    Latents are `clean + sigma * noise` (`scaled` False: Euler and its kin), or that divided by sqrt(1 + sigma^2), of unit
    variance (`scaled` True: DPM-Solver++, UniPC, DEIS), as diffusers keeps them.
    """

    plan: Plan
    sigmas: Floats
    timesteps: Floats
    scaled: bool

    def stage(self, index: int) -> Stage:
        """Give the evaluation at step `index`."""
        return self._stage(self.sigmas[index], self.timesteps[index])

    def between(self, sigma: float) -> Stage:
        """Give an evaluation off the grid."""
        return self._stage(sigma, self.plan.schedule.timestep_of(sigma))

    def pairs(self) -> Iterator[tuple[int, float, float]]:
        """Walk the kept steps: (index, sigma, next sigma)."""
        for index in self.plan.kept:
            yield index, float(self.sigmas[index]), float(self.sigmas[index + 1])

    @property
    def init_scale(self) -> float:
        """What unit noise is multiplied by to start."""
        if self.scaled:
            return 1.0
        return float(np.hypot(self.sigmas[0], 1.0) if self.plan.schedule.timestep_spacing == "leading" else self.sigmas[0])

    def _stage(self, sigma: float, t: float) -> Stage:
        alpha = alpha_of(sigma) if self.scaled else 1.0
        return Stage(t=float(t), alpha=alpha, sigma=float(sigma) * alpha, prediction_type=self.plan.schedule.prediction_type)


def own_range_grid(plan: Plan, *, to_zero: bool = True, whole_karras_timesteps: bool = False) -> Grid:
    """Space sigmas as k-diffusion's solvers do in diffusers (Euler, LMS, Heun, DPM2, DPM++ SDE).

    `steps` timesteps (linspace unless the config names a spacing), their sigmas interpolated; karras and exponential sigmas run
    between the first and the last of these, their timesteps fractional, or rounded (`whole_karras_timesteps`: DPM2).
    """
    schedule = plan.schedule
    timesteps = schedule.spaced(plan.steps, "linspace")
    sigmas = np.interp(timesteps, np.arange(schedule.train_steps), schedule.sigmas)
    if plan.sigmas:
        sigmas = _respaced(plan, sigmas[0], sigmas[-1])
        timesteps = np.array([schedule.timestep_of(sigma) for sigma in sigmas])
        if plan.sigmas == "karras" and whole_karras_timesteps:
            timesteps = timesteps.round()
    return Grid(plan=plan, sigmas=_ended(plan, sigmas, to_zero), timesteps=timesteps, scaled=False)


def full_range_grid(plan: Plan, *, to_zero: bool) -> Grid:
    """Space sigmas as DPM-Solver++, UniPC and DEIS do in diffusers.

    `steps` of `steps + 1` whole timesteps; karras and exponential sigmas run over the whole training range, and the timesteps fed
    to the model are whole as well: rounded for karras, cut for exponential (diffusers makes them int64).
    """
    schedule = plan.schedule
    timesteps = schedule.spaced(plan.steps, "linspace", after_last=True).round()
    sigmas = np.interp(timesteps, np.arange(schedule.train_steps), schedule.sigmas)
    if plan.sigmas:
        sigmas = _respaced(plan, schedule.sigmas[-1], schedule.sigmas[0])
        fractional = np.array([schedule.timestep_of(sigma) for sigma in sigmas])
        timesteps = fractional.round() if plan.sigmas == "karras" else np.floor(fractional)
    return Grid(plan=plan, sigmas=_ended(plan, sigmas, to_zero), timesteps=timesteps, scaled=True)


def _respaced(plan: Plan, highest: float, lowest: float) -> Floats:
    """Space from high to low: Karras et al. 2022 (arXiv:2206.00364) equation 5 with rho 7, or evenly in log sigma."""
    high, low = plan.schedule.sigma_max or highest, plan.schedule.sigma_min or lowest
    if low > high:
        raise InvalidArgument(f"scheduler config: sigmas run from {high:g} to {low:g}; expected sigma_max above sigma_min")
    ramp = np.linspace(0, 1, plan.steps)
    if plan.sigmas == "karras":
        return np.asarray((high ** (1 / RHO) + ramp * (low ** (1 / RHO) - high ** (1 / RHO))) ** RHO)
    return np.asarray(np.exp(log(high) + ramp * (log(low) - log(high))))


def _ended(plan: Plan, sigmas: Floats, to_zero: bool) -> Floats:
    """Append where the run ends: without noise, or at the model's least sigma."""
    return np.append(sigmas, 0.0 if to_zero else min(sigmas[-1], plan.schedule.sigmas[0]))


def alpha_of(sigma: float) -> float:
    """Give sqrt(alpha_bar) at sigma."""
    return float((1 + sigma**2) ** -0.5)


def log_snr(sigma: float) -> float:
    """Give lambda = log(alpha / sigma), infinite without noise."""
    return -log(sigma) if sigma > 0 else inf
