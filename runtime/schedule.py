"""The noise schedule of a model, read from its diffusers scheduler config.

Owns what the keys of `scheduler_config.json` say about the model's noise, and the spacing of timesteps. Does not know any sampler.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.schedule_config import read_alphas_cumprod, read_choice, read_integer, read_number, refuse_unless

PredictionType = Literal["epsilon", "v_prediction", "sample"]
Spacing = Literal["leading", "linspace", "trailing"]
FinalSigma = Literal["zero", "sigma_min"]
VarianceType = Literal["fixed_small", "fixed_small_log", "fixed_large"]
Floats = npt.NDArray[np.float64]

# 2^-24 in place of the zero of a zero-terminal-SNR schedule, where a solver divides by alpha_bar (diffusers, Euler and DPM-Solver).
ZERO_SNR_ALPHA_BAR = 2.0**-24


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Schedule:
    """What the model was trained on: its noise levels and what its output means.

    `alphas_cumprod` is float64 [train steps], decreasing; with zero terminal SNR its last entry is 0. `timestep_spacing` and
    `set_alpha_to_one` are None where the config names none: each solver then takes the default of its diffusers class.
    `sigma_min` and `sigma_max` bound the karras and exponential sigmas where the config sets them.
    """

    alphas_cumprod: Floats
    prediction_type: PredictionType = "epsilon"
    timestep_spacing: Spacing | None = None
    steps_offset: int = 1
    set_alpha_to_one: bool | None = None
    final_sigmas_type: FinalSigma = "zero"
    sigma_min: float | None = None
    sigma_max: float | None = None
    clip_sample: bool = False
    variance_type: VarianceType = "fixed_small"
    original_inference_steps: int = 50
    timestep_scaling: float = 10.0

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> "Schedule":
        """Read a `scheduler_config.json` of diffusers, of whatever class.

        Keys left out take diffusers' defaults, except `steps_offset` and `clip_sample`: 1 and False, which its Stable Diffusion
        pipelines force. Raises InvalidArgument for what the tables cannot express (dynamic thresholding, flow sigmas, continuous
        timesteps, log-linear interpolation) and for values that make no sense.
        """
        for key, plain in (("thresholding", False), ("use_flow_sigmas", False), ("interpolation_type", "linear")):
            refuse_unless(config, key, plain)
        prediction_type = read_choice(config, "prediction_type", get_args(PredictionType), "epsilon")
        if prediction_type == "v_prediction":
            refuse_unless(config, "timestep_type", "discrete")
        spacing = read_choice(config, "timestep_spacing", get_args(Spacing), "")
        set_alpha_to_one = config.get("set_alpha_to_one")
        alphas_cumprod = read_alphas_cumprod(config)
        train_steps = len(alphas_cumprod)
        return cls(
            alphas_cumprod=alphas_cumprod,
            prediction_type=cast(PredictionType, prediction_type),
            timestep_spacing=cast(Spacing, spacing) if spacing else None,
            steps_offset=read_integer(config, "steps_offset", 1, 0, train_steps),
            set_alpha_to_one=None if set_alpha_to_one is None else bool(set_alpha_to_one),
            final_sigmas_type=cast(FinalSigma, read_choice(config, "final_sigmas_type", get_args(FinalSigma), "zero")),
            sigma_min=read_number(config, "sigma_min", 0.0) or None,
            sigma_max=read_number(config, "sigma_max", 0.0) or None,
            clip_sample=bool(config.get("clip_sample")),
            variance_type=cast(VarianceType, read_choice(config, "variance_type", get_args(VarianceType), "fixed_small")),
            original_inference_steps=read_integer(config, "original_inference_steps", 50, 1, train_steps),
            timestep_scaling=read_number(config, "timestep_scaling", 10.0),
        )

    @property
    def train_steps(self) -> int:
        """Number of training timesteps (1000)."""
        return len(self.alphas_cumprod)

    @property
    def sigmas(self) -> Floats:
        """sqrt((1 - alpha_bar) / alpha_bar) per training timestep, float64 [train steps], increasing; a zero SNR counts as 2^-24."""
        alpha_bar = np.where(self.alphas_cumprod > 0, self.alphas_cumprod, ZERO_SNR_ALPHA_BAR)
        return cast(Floats, np.sqrt((1 - alpha_bar) / alpha_bar))

    def spaced(self, steps: int, default: Spacing, *, after_last: bool = False) -> Floats:
        """Give the `steps` timesteps of the config's spacing (or `default`), float64 whole numbers or fractions, decreasing.

        `after_last` is the form of DPM-Solver, UniPC and DEIS: one more point, the cleanest, is spaced and left out.
        Lin et al. 2023 (arXiv:2305.08891) table 2; diffusers `set_timesteps`. Raises InvalidArgument for steps that do not fit.
        """
        if steps < 1:
            raise InvalidArgument(f"got {steps} steps; expected at least 1")
        last, extra = self.train_steps - 1, int(after_last)
        spacing = self.timestep_spacing or default
        if spacing == "linspace":
            timesteps: Floats = np.linspace(0, last, steps + extra, dtype=np.float64)[::-1]
        elif spacing == "leading":
            timesteps = self.steps_offset + (self.train_steps // (steps + extra)) * np.arange(steps + extra, dtype=np.float64)[::-1]
        else:
            timesteps = np.arange(self.train_steps, 0, -self.train_steps / steps).round() - 1
        timesteps = timesteps[:steps]
        if timesteps[0] > last or np.any(np.diff(timesteps.round()) >= 0):
            raise InvalidArgument(f"got {steps} steps; a model of {self.train_steps} timesteps has no room for so many: ask for fewer")
        return timesteps

    def timestep_of(self, sigma: float) -> float:
        """Give the fractional timestep whose log sigma, linearly interpolated, is that of `sigma` (k-diffusion's `sigma_to_t`)."""
        return float(np.interp(np.log(max(sigma, 1e-10)), np.log(self.sigmas), np.arange(self.train_steps)))
