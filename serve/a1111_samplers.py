"""Samplers and schedules as the web UI names them: the lists that it offers, and what a client chose from them."""

from __future__ import annotations

from typing import Any

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.a1111 import WEB_UI_SOLVERS
from sd2rt.runtime.a1111_fields import AUTOMATIC
from sd2rt.runtime.samplers_names import NO_SIGMAS, parse_sampler

SCHEDULES = {"automatic": "Automatic", "uniform": "Uniform", "karras": "Karras", "exponential": "Exponential"}
"""Names and labels; "Uniform" are the model's own sigmas, "Automatic" those that the web UI takes for a sampler."""
KARRAS_RHO = 7.0
NO_SAMPLER = ("", "automatic", "none", "default")  # what clients send where nothing was chosen


def read_sampler(name: str | None, schedule: str | None) -> str | None:
    """Return the sampler that a name and a schedule stand for, None for the model's own.

    The schedule may be in the name ("DPM++ 2M Karras"), which wins. Without any it is "Automatic", as in the web UI: "DPM++ 2M" is with
    Karras' sigmas. Raises InvalidArgument for what there is not, such as "Restart" or "SGM Uniform".
    """
    word = (schedule or "automatic").strip().lower()
    if word not in SCHEDULES:
        raise InvalidArgument(f"scheduler: got {word[:80]!r}; expected one of {', '.join(SCHEDULES.values())}")
    if name is None or name.strip().lower() in NO_SAMPLER:
        return None
    try:
        sampler = parse_sampler(name)
    except InvalidArgument as error:
        raise InvalidArgument(f"sampler_name: {error}") from None
    if sampler.sigmas or sampler.solver in NO_SIGMAS or word == "uniform":
        return str(sampler)
    sigmas = AUTOMATIC.get(sampler.solver, "") if word == "automatic" else word
    return f"{sampler.solver} {sigmas}".strip()


def web_ui_name(sampler: str, sigmas: str) -> str:
    """Return how the web UI calls a solver and its sigmas."""
    return f"{WEB_UI_SOLVERS.get(sampler, sampler)} {sigmas.capitalize()}".strip()


def list_samplers() -> list[dict[str, Any]]:
    """Return what `GET /sdapi/v1/samplers` lists."""
    return [{"name": name, "aliases": _aliases(solver), "options": _options(solver)} for solver, name in WEB_UI_SOLVERS.items()]


def list_schedules() -> list[dict[str, Any]]:
    """Return what `GET /sdapi/v1/schedulers` lists."""
    return [
        {
            "name": name,
            "label": label,
            "aliases": None,
            "default_rho": KARRAS_RHO if name == "karras" else -1.0,
            "need_inner_model": False,
        }
        for name, label in SCHEDULES.items()
    ]


def _aliases(solver: str) -> list[str]:
    spelled = solver.replace("++", "pp").replace(" ", "_")
    return [f"k_{spelled}"] if solver not in NO_SIGMAS else [spelled]


def _options(solver: str) -> dict[str, str]:
    """Say which schedule "Automatic" stands for, as the web UI does."""
    return {"scheduler": AUTOMATIC[solver]} if solver in AUTOMATIC else {}
