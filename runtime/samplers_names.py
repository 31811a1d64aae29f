"""Sampler names as users of diffusers, k-diffusion and the web UI write them. Knows no solver's formula."""

import re
from dataclasses import dataclass
from difflib import get_close_matches

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.samplers_grid import Sigmas

# Solver -> other spellings, compact: lower case, "+" as "p", no separators, no "sample", "k" or "scheduler" around them.
_SPELLINGS: dict[str, tuple[str, ...]] = {
    "ddim": (),
    "ddpm": (),
    "pndm": ("plms",),
    "lms": ("lmsdiscrete",),
    "euler": ("eulerdiscrete",),
    "euler a": ("eulerancestral", "eulerancestraldiscrete"),
    "heun": ("heundiscrete",),
    "dpm2": ("kdpm2discrete", "dpm2discrete"),
    "dpm2 a": ("dpm2ancestral", "kdpm2ancestraldiscrete", "dpm2ancestraldiscrete"),
    "dpm++ 2s a": ("dpmpp2sancestral",),
    "dpm++ 2m": ("dpmsolvermultistep", "dpmsolverpp", "dpmsolverpp2m"),
    "dpm++ 2m sde": (),
    "dpm++ sde": ("dpmsolversde",),
    "unipc": ("unipcmultistep",),
    "deis": ("deismultistep",),
    "lcm": (),
}
SOLVERS = tuple(_SPELLINGS)
NO_SIGMAS = ("ddim", "ddpm", "pndm", "lcm")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerName:
    """A solver and where its sigmas lie: "karras", "exponential", or "" for the model's own."""

    solver: str
    sigmas: Sigmas = ""

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise _unknown(self.solver, _compact(self.solver))
        if self.sigmas not in ("", "karras", "exponential"):
            raise InvalidArgument(f"sigmas: got {self.sigmas!r}; expected 'karras', 'exponential' or '' for the model's own")
        if self.sigmas and self.solver in NO_SIGMAS:
            raise InvalidArgument(f"sampler {str(self)!r}: {self.solver} has no sigmas to space; expected {self.solver!r} alone")

    def __str__(self) -> str:
        """Write it so that `parse_sampler` reads it back."""
        return f"{self.solver} {self.sigmas}".strip()


def parse_sampler(name: str) -> SamplerName:
    """Read "dpm++ 2m karras", "DPM++ 2M Karras", "sample_dpmpp_2m", "DPMSolverMultistepScheduler" and the like.

    Case and separators do not count. Raises InvalidArgument, which lists the valid names and suggests the nearest.
    """
    compact = _compact(name)
    sigmas: Sigmas = ""
    for suffix in ("karras", "exponential"):
        if compact.endswith(suffix):
            compact, sigmas = compact.removesuffix(suffix), suffix
    solver = _BY_SPELLING.get(compact) or _BY_SPELLING.get(compact.removeprefix("k"))
    if solver is None:
        raise _unknown(name, compact)
    return SamplerName(solver=solver, sigmas=sigmas)


def _compact(name: str) -> str:
    plain = re.sub(r"[\s_\-.()]", "", name.lower()).replace("+", "p")
    return plain.removeprefix("sample").replace("scheduler", "")


_BY_SPELLING = {_compact(spelling): solver for solver, spellings in _SPELLINGS.items() for spelling in (solver, *spellings)}


def _unknown(name: str, compact: str) -> InvalidArgument:
    near = get_close_matches(compact, _BY_SPELLING, n=1)
    hint = f"did you mean {_BY_SPELLING[near[0]]!r}? " if near else ""
    return InvalidArgument(
        f"unknown sampler {name[:80]!r}; {hint}expected one of {', '.join(SOLVERS)}, "
        "those with sigmas followed by 'karras' or 'exponential' if wanted"
    )
