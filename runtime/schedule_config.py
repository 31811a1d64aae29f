"""Reading of a diffusers `scheduler_config.json`: typed keys, each with diffusers' default, and the betas they come to.

Every bad value is an InvalidArgument with what was got and what was expected. Does not know what the other keys mean.
"""

from collections.abc import Callable, Mapping
from math import inf, isfinite

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import InvalidArgument

MAX_TRAIN_STEPS = 100_000
MAX_NUMBER = 1e30  # float32 holds it

# Betas of the classes that do not share DDIM's defaults (0.0001, 0.02, "linear"), for configs that leave the keys out.
_SD_BETAS = (0.00085, 0.012)
_BETA_DEFAULTS: Mapping[str, tuple[float, float, str]] = {
    "HeunDiscreteScheduler": (*_SD_BETAS, "linear"),
    "KDPM2DiscreteScheduler": (*_SD_BETAS, "linear"),
    "KDPM2AncestralDiscreteScheduler": (*_SD_BETAS, "linear"),
    "DPMSolverSDEScheduler": (*_SD_BETAS, "linear"),
    "LCMScheduler": (*_SD_BETAS, "scaled_linear"),
}


def read_choice(config: Mapping[str, object], key: str, allowed: tuple[str, ...], default: str) -> str:
    """Read a name; a missing key or null is the default."""
    value = config.get(key)
    if value is None:
        return default
    if value not in allowed:
        raise _refusal(key, value, f"expected one of {', '.join(allowed)}")
    return str(value)


def read_number(config: Mapping[str, object], key: str, default: float, low: float = 0.0, high: float = inf) -> float:
    """Read a finite number from low to high; a missing key or null is the default."""
    value = config.get(key)
    if value is None:
        return default
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= min(high, MAX_NUMBER):
        raise _refusal(key, value, f"expected a number of at least {low:g}" + (f" and at most {high:g}" if isfinite(high) else ""))
    return float(value)


def read_integer(config: Mapping[str, object], key: str, default: int, low: int, high: int) -> int:
    """Read a whole number from low to high; a missing key or null is the default."""
    number = read_number(config, key, float(default), low, high)
    if not number.is_integer():
        raise _refusal(key, number, "expected a whole number")
    return int(number)


def refuse_unless(config: Mapping[str, object], key: str, plain: object) -> None:
    """Refuse a key that asks for what a linear table cannot express; missing and null are plain."""
    value = config.get(key)
    if value is not None and value != plain:
        raise _refusal(key, value, f"which the sampler tables cannot express; expected {plain!r}")


def read_alphas_cumprod(config: Mapping[str, object]) -> npt.NDArray[np.float64]:
    """Multiply up 1 - beta with diffusers' roundings: float32 betas and factors, a float64 product, rounded to float32."""
    betas = _read_betas(config)
    if config.get("rescale_betas_zero_snr"):
        betas = _zero_terminal_snr(betas)
    return _cumprod(np.float32(1) - betas).astype(np.float64)


def _cumprod(factors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.cumprod(factors, dtype=np.float64).astype(np.float32)


def _read_betas(config: Mapping[str, object]) -> npt.NDArray[np.float32]:
    """Give the float32 betas that the config names or lists, each above 0 and below 1."""
    start, end, schedule = _BETA_DEFAULTS.get(str(config.get("_class_name")), (0.0001, 0.02, "linear"))
    start, end = read_number(config, "beta_start", start, high=1.0), read_number(config, "beta_end", end, high=1.0)
    steps = read_integer(config, "num_train_timesteps", 1000, 1, MAX_TRAIN_STEPS)
    makers: Mapping[str, Callable[[], npt.NDArray[np.float32]]] = {
        "linear": lambda: _linspace(start, end, steps),
        "scaled_linear": lambda: _linspace(start**0.5, end**0.5, steps) ** 2,
        "squaredcos_cap_v2": lambda: _cosine(steps),
    }
    maker = makers[read_choice(config, "beta_schedule", tuple(makers), schedule)]
    trained = config.get("trained_betas")
    try:
        betas = maker() if trained is None else np.asarray(trained, np.float32)
    except (TypeError, ValueError):
        raise _refusal("trained_betas", str(trained)[:80], "expected a list of numbers") from None
    if betas.ndim != 1 or not betas.size or not np.all((betas > 0) & (betas < 1)):
        ends = f"{betas.ravel()[:1]} to {betas.ravel()[-1:]}"
        raise _refusal("trained_betas, or beta_start to beta_end,", ends, "expected a list of betas above 0 and below 1")
    return betas


def _linspace(start: float, end: float, steps: int) -> npt.NDArray[np.float32]:
    """Space from both ends towards the middle with a float32 step, each number rounded once, as torch.linspace does."""
    first, last = np.float32(start), np.float32(end)
    step = float((last - first) / np.float32(max(steps - 1, 1)))
    index = np.arange(steps)
    numbers = np.where(index < steps // 2, float(first) + step * index, float(last) - step * index[::-1])
    return numbers.astype(np.float32)


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


def _refusal(key: str, value: object, expected: str) -> InvalidArgument:
    return InvalidArgument(f"scheduler config: {key} is {value!r}, {expected}")
