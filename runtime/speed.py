"""Presets that trade likeness for time: which sampler, how many steps, and what is left out of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.bundle import Defaults
from sd2rt.runtime.checks import check_finite
from sd2rt.runtime.evaluations import WHOLE_RUN, Interval
from sd2rt.runtime.options import Request
from sd2rt.runtime.source import least_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What a preset says in the caller's place; the fields are those of `Request`."""

    sampler: str
    steps: int
    guidance_interval: Interval = WHOLE_RUN
    guidance_reuse: int = 1
    deep_cache: int = 1


# Toyworld, 200 held-out captions, guidance 4, cpu (python -m benchmarks.workers.evaluations); PSNR from 50 steps of ddim, same noise:
#              rows of the UNet   right in all parts   PSNR, median
# ddim, 50                  100              100.0 %
# quality                    30              100.0 %        43.7 dB     (toyworld's own: dpm++ 2m, 15 steps)
# balanced                   24              100.0 %        46.1 dB
# fast                       14              100.0 %        35.7 dB
PRESETS: Mapping[str, Preset | None] = {
    "quality": None,
    "balanced": Preset(sampler="euler", steps=12),
    "fast": Preset(sampler="euler", steps=8, guidance_interval=(0.0, 0.75)),
}


def apply_speed(request: Request, defaults: Defaults) -> Request:
    """Return the request with what its preset says where it says nothing itself.

    A model whose own steps are no more than the preset's, such as a distilled one, stays as it is. A strength that leaves none of the
    preset's steps gets as many as it needs, up to the model's own. Raises InvalidArgument for a speed that there is not, and a strength
    that is none.
    """
    if not isinstance(request.speed, str) or request.speed not in PRESETS:
        raise InvalidArgument(f"speed: got {str(request.speed)[:80]!r}; expected one of {', '.join(PRESETS)}")
    preset = PRESETS[request.speed]
    if preset is None or defaults.steps <= preset.steps:
        return request
    strength = 1.0 if request.strength is None else check_finite("strength", request.strength, 0.0, 1.0)
    said = asdict(preset) | {"steps": min(max(preset.steps, least_steps(strength)), defaults.steps)}
    return replace(request, **{name: value for name, value in said.items() if getattr(request, name) is None})
