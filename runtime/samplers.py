"""From a sampler's name to its table: `parse_sampler`, `make_table`. The formulas are in the samplers_* modules."""

from collections.abc import Callable, Mapping

from sd2rt.runtime.samplers_discrete import ddim, ddpm, lcm, pndm
from sd2rt.runtime.samplers_exponential import deis, dpmpp_2m, dpmpp_2m_sde, dpmpp_2s_ancestral, dpmpp_sde, unipc
from sd2rt.runtime.samplers_grid import Plan
from sd2rt.runtime.samplers_names import SOLVERS, SamplerName, parse_sampler
from sd2rt.runtime.samplers_sigma import dpm2, dpm2_ancestral, euler, euler_ancestral, heun, lms
from sd2rt.runtime.schedule import Schedule
from sd2rt.runtime.table import Table

__all__ = ["SOLVERS", "SamplerName", "make_table", "parse_sampler"]

_TABLES: Mapping[str, Callable[[Plan], Table]] = {
    "ddim": ddim,
    "ddpm": ddpm,
    "pndm": pndm,
    "lms": lms,
    "euler": euler,
    "euler a": euler_ancestral,
    "heun": heun,
    "dpm2": dpm2,
    "dpm2 a": dpm2_ancestral,
    "dpm++ 2s a": dpmpp_2s_ancestral,
    "dpm++ 2m": dpmpp_2m,
    "dpm++ 2m sde": dpmpp_2m_sde,
    "dpm++ sde": dpmpp_sde,
    "unipc": unipc,
    "deis": deis,
    "lcm": lcm,
}


def make_table(name: SamplerName | str, schedule: Schedule, steps: int, *, first: int = 0, eta: float = 0.0) -> Table:
    """Compute the rows of a run: float64, from `steps` steps, those before step `first` left out (image to image).

    `first` counts steps as diffusers does for a strength: `steps - min(int(steps * strength), steps)`; a solver with two
    evaluations per step leaves out both. `eta` scales DDIM's noise; the other solvers have none to scale. Raises InvalidArgument.
    """
    name = parse_sampler(name) if isinstance(name, str) else name
    return _TABLES[name.solver](Plan(schedule=schedule, steps=steps, sigmas=name.sigmas, first=first, eta=eta))
