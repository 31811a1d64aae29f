"""The noise schedule of a model, read from its diffusers scheduler config.

Owns: betas to alpha_bar, the keys of `scheduler_config.json` that say something about the model's noise, and the spacing of
timesteps. Does not know any sampler.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import InvalidArgument

PredictionType = Literal["epsilon", "v_prediction", "sample"]
Spacing = Literal["leading", "linspace", "trailing"]
FinalSigma = Literal["zero", "sigma_min"]
VarianceType = Literal["fixed_small", "fixed_small_log", "fixed_large"]
Floats = npt.NDArray[np.float64]

# 2^-24 in place of the zero of a zero-terminal-SNR schedule, where a solver divides by alpha_bar (diffusers, Euler and DPM-Solver).
ZERO_SNR_ALPHA_BAR = 2.0**-24

# Defaults of the classes that do not share DDIM's (0.0001, 0.02, "linear"), for configs that leave the key out.
_SD_BETAS = (0.00085, 0.012)
_BETA_DEFAULTS: Mapping[str, tuple[float, float, str]] = {
    "HeunDiscreteScheduler": (*_SD_BETAS, "linear"),
    "KDPM2DiscreteScheduler": (*_SD_BETAS, "linear"),
    "KDPM2AncestralDiscreteScheduler": (*_SD_BETAS, "linear"),
    "DPMSolverSDEScheduler": (*_SD_BETAS, "linear"),
    "LCMScheduler": (*_SD_BETAS, "scaled_linear"),
}


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
        pipelines force. Raises InvalidArgument for what the tables cannot express: dynamic thresholding, flow sigmas, continuous
        timesteps, log-linear interpolation, unknown names.
        """
        for key, plain in (("thresholding", False), ("use_flow_sigmas", False), ("interpolation_type", "linear")):
            _refuse_unless(config, key, plain)
        prediction_type = _choice(config, "prediction_type", get_args(PredictionType), "epsilon")
        if prediction_type == "v_prediction":
            _refuse_unless(config, "timestep_type", "discrete")
        spacing = _choice(config, "timestep_spacing", get_args(Spacing), "")
        set_alpha_to_one = config.get("set_alpha_to_one")
        return cls(
            alphas_cumprod=_alphas_cumprod(config),
            prediction_type=cast(PredictionType, prediction_type),
            timestep_spacing=cast(Spacing, spacing) if spacing else None,
            steps_offset=int(_number(config, "steps_offset", 1)),
            set_alpha_to_one=None if set_alpha_to_one is None else bool(set_alpha_to_one),
            final_sigmas_type=cast(FinalSigma, _choice(config, "final_sigmas_type", get_args(FinalSigma), "zero")),
            sigma_min=_number(config, "sigma_min", 0.0) or None,
            sigma_max=_number(config, "sigma_max", 0.0) or None,
            clip_sample=bool(config.get("clip_sample")),
            variance_type=cast(VarianceType, _choice(config, "variance_type", get_args(VarianceType), "fixed_small")),
            original_inference_steps=int(_number(config, "original_inference_steps", 50)),
            timestep_scaling=_number(config, "timestep_scaling", 10.0),
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


def _alphas_cumprod(config: Mapping[str, object]) -> Floats:
    """Multiply up 1 - beta with diffusers' roundings: float32 betas and factors, a float64 product, rounded to float32."""
    betas = _betas(config)
    if config.get("rescale_betas_zero_snr"):
        betas = _zero_terminal_snr(betas)
    return _cumprod(np.float32(1) - betas).astype(np.float64)


def _cumprod(factors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.cumprod(factors, dtype=np.float64).astype(np.float32)


def _betas(config: Mapping[str, object]) -> npt.NDArray[np.float32]:
    """Give the float32 betas that the config names."""
    trained = config.get("trained_betas")
    if trained is not None:
        return np.asarray(trained, np.float32)
    name = str(config.get("_class_name", ""))
    start, end, schedule = _BETA_DEFAULTS.get(name, (0.0001, 0.02, "linear"))
    steps = int(_number(config, "num_train_timesteps", 1000))
    start, end = _number(config, "beta_start", start), _number(config, "beta_end", end)
    ramps: Mapping[str, Callable[[], npt.NDArray[np.float32]]] = {
        "linear": lambda: _linspace(start, end, steps),
        "scaled_linear": lambda: _linspace(start**0.5, end**0.5, steps) ** 2,
        "squaredcos_cap_v2": lambda: _cosine(steps),
    }
    return ramps[_choice(config, "beta_schedule", tuple(ramps), schedule)]()


def _linspace(start: float, end: float, steps: int) -> npt.NDArray[np.float32]:
    """Space in float32 from both ends towards the middle, as torch.linspace does."""
    first, last = np.float32(start), np.float32(end)
    step = (last - first) / np.float32(max(steps - 1, 1))
    index = np.arange(steps, dtype=np.float32)
    rising, falling = first + step * index, last - step * index[::-1]
    return np.where(np.arange(steps) < steps // 2, rising, falling)


def _cosine(steps: int) -> npt.NDArray[np.float32]:
    """Give the betas of Nichol and Dhariwal 2021 (arXiv:2102.09672), equation 17."""
    alpha_bar = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)
    return np.asarray(betas, np.float32)


def _zero_terminal_snr(betas: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Shift and scale sqrt(alpha_bar) so that it ends at 0 and starts where it did: Lin et al. 2023 (arXiv:2305.08891) algorithm 1."""
    root = np.sqrt(_cumprod(np.float32(1) - betas))
    root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
    alpha_bar = root**2
    return np.float32(1) - np.concatenate([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])


def _choice(config: Mapping[str, object], key: str, allowed: tuple[str, ...], default: str) -> str:
    """Read a name; a missing key or null is the default."""
    value = config.get(key)
    if value is None:
        return default
    if value not in allowed:
        raise InvalidArgument(f"scheduler config: {key} is {value!r}; expected one of {', '.join(allowed)}")
    return str(value)


def _number(config: Mapping[str, object], key: str, default: float) -> float:
    """Read a number; a missing key or null is the default."""
    value = config.get(key)
    if value is None:
        return default
    if not isinstance(value, int | float):
        raise InvalidArgument(f"scheduler config: {key} is {value!r}; expected a number")
    return float(value)


def _refuse_unless(config: Mapping[str, object], key: str, plain: object) -> None:
    value = config.get(key)
    if value is not None and value != plain:
        raise InvalidArgument(f"scheduler config: {key} is {value!r}, which the sampler tables cannot express; expected {plain!r}")
