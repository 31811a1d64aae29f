"""Every sampler table against diffusers' scheduler of the same name, over whole trajectories: <= 1e-5 relative, row by row.

diffusers rounds sigmas to float32 and does its arithmetic on them; the values are kept, but widened to float64 before stepping, so
that what is compared is the algorithm and not the rounding.
"""

import copy
import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pytest

from sd2rt.runtime.denoise import denoise
from sd2rt.runtime.samplers import make_table, parse_sampler
from sd2rt.runtime.schedule import Schedule

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # diffusers on numpy 2

Array = npt.NDArray[np.float64]
STEPS = (1, 2, 3, 5, 10, 25, 50)
SPACINGS = ("leading", "linspace", "trailing")
TOLERANCE = 1e-5

CLASSES: Mapping[str, tuple[str, str]] = {
    "ddim": ("scheduling_ddim", "DDIMScheduler"),
    "ddpm": ("scheduling_ddpm", "DDPMScheduler"),
    "pndm": ("scheduling_pndm", "PNDMScheduler"),
    "lms": ("scheduling_lms_discrete", "LMSDiscreteScheduler"),
    "euler": ("scheduling_euler_discrete", "EulerDiscreteScheduler"),
    "euler a": ("scheduling_euler_ancestral_discrete", "EulerAncestralDiscreteScheduler"),
    "heun": ("scheduling_heun_discrete", "HeunDiscreteScheduler"),
    "dpm2": ("scheduling_k_dpm_2_discrete", "KDPM2DiscreteScheduler"),
    "dpm2 a": ("scheduling_k_dpm_2_ancestral_discrete", "KDPM2AncestralDiscreteScheduler"),
    "dpm++ 2m": ("scheduling_dpmsolver_multistep", "DPMSolverMultistepScheduler"),
    "dpm++ 2m sde": ("scheduling_dpmsolver_multistep", "DPMSolverMultistepScheduler"),
    "dpm++ sde": ("scheduling_dpmsolver_sde", "DPMSolverSDEScheduler"),
    "unipc": ("scheduling_unipc_multistep", "UniPCMultistepScheduler"),
    "deis": ("scheduling_deis_multistep", "DEISMultistepScheduler"),
    "lcm": ("scheduling_lcm", "LCMScheduler"),
}
WITH_SIGMAS = tuple(name for name in CLASSES if name not in ("ddim", "ddpm", "pndm", "lcm"))
# diffusers raises for prediction_type "sample" in the other classes.
PREDICTS_SAMPLE = ("ddim", "ddpm", "lms", "euler", "heun", "dpm++ 2m", "dpm++ 2m sde", "unipc", "deis", "lcm")
# The other classes drop rescale_betas_zero_snr without a word.
KNOWS_ZERO_SNR = ("ddim", "ddpm", "euler", "euler a", "dpm++ 2m", "dpm++ 2m sde", "unipc", "lcm")
# Their exponential sigmas have timesteps cut to whole numbers.
CUTS_TIMESTEPS = ("dpm++ 2m", "dpm++ 2m sde", "unipc", "deis")

SD2 = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
    "skip_prk_steps": True,
}


def model(x: Array, t: float, row: int = 0) -> Array:
    """Stand in for a UNet: bounded, nonlinear in the latents and in time."""
    return np.tanh(x * (1 + 0.3 * np.cos(t / 100)) + np.sin(t / 70)) + 0.1 * x


class Normals:
    """Unit normals in a fixed order, for either side."""

    def __init__(self, shape: tuple[int, ...], seed: int = 5) -> None:
        self.shape = shape
        self.generator = np.random.default_rng(seed)

    def __call__(self) -> Array:
        return self.generator.standard_normal(self.shape)


class BrownianPath:
    """Stand in for the Brownian tree of DPMSolverSDEScheduler: two independent halves per step, asked for as (half, whole)."""

    def __init__(self, normals: Normals) -> None:
        self.normals = normals
        self.half: tuple[float, Array] | None = None

    def __call__(self, sigma: "torch.Tensor", after: "torch.Tensor") -> "torch.Tensor":
        start, end = float(sigma), float(after)
        drawn = self.normals()
        if self.half is None:
            self.half = end, drawn
            return torch.from_numpy(drawn)
        middle, first = self.half
        self.half = None
        increments = np.sqrt(start - middle) * first + np.sqrt(middle - end) * drawn
        return torch.from_numpy(increments / np.sqrt(start - end))


@functools.cache
def construct(class_name: str, module: str, options: tuple[tuple[str, object], ...]) -> "torch.nn.Module":
    """Make a scheduler from those options that its class knows; some take 0.1 s to make."""
    cls = getattr(importlib.import_module(f"diffusers.schedulers.{module}"), class_name)
    accepted = inspect.signature(cls.__init__).parameters
    return cls(**{key: value for key, value in options if key in accepted})


def make_scheduler(sampler: str, config: Mapping[str, object], steps: int) -> "torch.nn.Module":
    """Make diffusers' scheduler for a sampler's name, its timesteps set and its constants widened."""
    name = parse_sampler(sampler)
    module, class_name = CLASSES[name.solver]
    options = {**config, **({f"use_{name.sigmas}_sigmas": True} if name.sigmas else {})}
    if name.solver == "dpm++ 2m sde":
        options["algorithm_type"] = "sde-dpmsolver++"
    scheduler = copy.deepcopy(construct(class_name, module, tuple(options.items())))
    if config.get("rescale_betas_zero_snr") and name.solver not in KNOWS_ZERO_SNR:
        scheduler.alphas_cumprod = make_scheduler("euler", config, 1).alphas_cumprod
    with pytest.MonkeyPatch.context() as patch:
        from_numpy = torch.from_numpy
        patch.setattr(torch, "from_numpy", lambda array: from_numpy(array.astype(np.float64) if array.dtype.kind == "f" else array))
        scheduler.set_timesteps(steps)
    if name.solver == "euler a" and name.sigmas:  # which its class does not know: take Euler's
        donor = make_scheduler(f"euler {name.sigmas}", config, steps)
        scheduler.sigmas, scheduler.timesteps = donor.sigmas, donor.timesteps
    if name.sigmas == "exponential" and name.solver in CUTS_TIMESTEPS:  # 998.99999 here, for want of bits in a logarithm
        assert scheduler.timesteps[0] in (998, 999)
        scheduler.timesteps[0] = 999
    for key, value in vars(scheduler).items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            setattr(scheduler, key, value.double())
    return scheduler


def reference(
    scheduler: "torch.nn.Module", noise: Array, *, first: int = 0, init: Array | None = None, eta: float = 0.0
) -> Iterator[tuple[float, Array]]:
    """Run diffusers' loop, giving (timestep, latents) after each model evaluation."""
    timesteps = scheduler.timesteps[first * scheduler.order :]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first * scheduler.order)
    if init is None:
        x = torch.from_numpy(noise) * scheduler.init_noise_sigma
    else:
        x = scheduler.add_noise(torch.from_numpy(init), torch.from_numpy(noise), timesteps[:1].repeat(len(noise)))
    normals = Normals(noise.shape)
    if hasattr(scheduler, "noise_sampler"):
        scheduler.noise_sampler = BrownianPath(normals)
    options = {"eta": eta} if eta else {}
    module = importlib.import_module(type(scheduler).__module__)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "randn_tensor", lambda *_, **__: torch.from_numpy(normals()), raising=False)
        patch.setattr(torch, "float32", torch.float64)  # Euler and DPM-Solver cast the latents to it
        for t in timesteps:
            output = torch.from_numpy(model(scheduler.scale_model_input(x, t).numpy(), float(t)))
            x = scheduler.step(output, t, x, **options).prev_sample
            assert x.dtype == torch.float64
            yield float(t), x.numpy()


def assert_follows(
    sampler: str,
    config: Mapping[str, object],
    steps: int,
    *,
    first: int = 0,
    eta: float = 0.0,
    change: Callable[["torch.nn.Module"], None] | None = None,
) -> None:
    """Check that our rows give the latents, and ask for the timesteps, of diffusers' steps."""
    rng = np.random.default_rng(steps)
    noise = rng.standard_normal((2, 4, 6, 5))
    init = 0.5 * rng.standard_normal(noise.shape) if first else None
    scheduler = make_scheduler(sampler, config, steps)
    if change is not None:
        change(scheduler)
    table = make_table(sampler, Schedule.from_config(config), steps, first=first, eta=eta)
    ours = list(denoise(table, model, noise, Normals(noise.shape), init))
    theirs = list(reference(scheduler, noise, first=first if change is None else 0, init=init, eta=eta))
    assert len(ours) == len(theirs)
    for step, (t, latents) in zip(ours, theirs, strict=True):
        where = f"{sampler}, {steps} steps from {first}, row {step.index}"
        assert step.t == pytest.approx(t, abs=2e-3), where
        assert np.abs(step.latents - latents).max() <= TOLERANCE * latents.std(), where


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize(
    ("sampler", "prediction_type"),
    [
        *((sampler, prediction_type) for sampler in CLASSES for prediction_type in ("epsilon", "v_prediction")),
        *((sampler, "sample") for sampler in PREDICTS_SAMPLE),
    ],
)
def test_follows_diffusers(sampler: str, prediction_type: str, spacing: str) -> None:
    for steps in STEPS:
        assert_follows(sampler, {**SD2, "prediction_type": prediction_type, "timestep_spacing": spacing}, steps)


@pytest.mark.parametrize("sigmas", ["karras", "exponential"])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("solver", WITH_SIGMAS)
def test_follows_diffusers_on_respaced_sigmas(solver: str, prediction_type: str, sigmas: str) -> None:
    for steps in STEPS:
        if solver == "deis" and steps == 1:
            continue  # diffusers repeats the only sigma, which gives back the noise
        assert_follows(f"{solver} {sigmas}", {**SD2, "prediction_type": prediction_type}, steps)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("solver", ["euler", "euler a", "lms", "heun", "dpm2", "dpm2 a", "dpm++ sde"])
def test_respaced_sigmas_keep_the_range_of_the_spacing(solver: str, spacing: str) -> None:
    for steps in (1, 4, 20):
        assert_follows(f"{solver} karras", {**SD2, "timestep_spacing": spacing}, steps)


@pytest.mark.parametrize("solver", CLASSES)
def test_takes_the_spacing_of_its_class_when_the_config_names_none(solver: str) -> None:
    assert_follows(solver, SD2, 7)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("solver", [*(name for name in CLASSES if name != "lms"), "dpm++ 2m karras", "heun karras", "dpm2 a exponential"])
def test_starts_from_an_image_as_diffusers_does(solver: str, prediction_type: str) -> None:
    for first in (1, 2, 3, 8, 9):
        assert_follows(solver, {**SD2, "prediction_type": prediction_type}, 10, first=first)


@pytest.mark.parametrize("first", [1, 2, 5])
def test_lms_starts_from_an_image_as_if_from_the_first_step(first: int) -> None:
    """diffusers takes weights of slopes that were never taken; cutting its sigmas short makes it count afresh."""

    def cut(scheduler: "torch.nn.Module") -> None:
        scheduler.sigmas, scheduler.timesteps = scheduler.sigmas[first:], scheduler.timesteps[first:]

    assert_follows("lms", SD2, 10, first=first, change=cut)


@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
@pytest.mark.parametrize(
    ("solver", "prediction_type"),
    [
        *((solver, "v_prediction") for solver in CLASSES),
        *((solver, "epsilon") for solver in CLASSES if solver not in ("ddim", "ddpm", "lcm")),  # which refuse it
    ],
)
def test_follows_diffusers_from_zero_terminal_snr(solver: str, prediction_type: str, spacing: str) -> None:
    for steps in (2, 3, 10, 25):
        config = {**SD2, "prediction_type": prediction_type, "timestep_spacing": spacing, "rescale_betas_zero_snr": True}
        assert_follows(solver, config, steps)


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_ddim_adds_the_noise_of_eta(prediction_type: str, eta: float) -> None:
    for steps in STEPS:
        assert_follows("ddim", {**SD2, "prediction_type": prediction_type}, steps, eta=eta)


@pytest.mark.parametrize("solver", ["ddim", "pndm"])
@pytest.mark.parametrize("set_alpha_to_one", [True, False])
def test_ends_at_the_final_alpha_of_the_config(solver: str, set_alpha_to_one: bool) -> None:
    assert_follows(solver, {**SD2, "set_alpha_to_one": set_alpha_to_one}, 5)


@pytest.mark.parametrize("solver", ["ddim", "pndm"])
def test_ends_at_the_final_alpha_of_its_class_when_the_config_names_none(solver: str) -> None:
    assert_follows(solver, {key: value for key, value in SD2.items() if key != "set_alpha_to_one"}, 5)


@pytest.mark.parametrize("solver", ["euler", "dpm++ 2m", "dpm++ 2m sde", "unipc", "euler karras", "unipc karras"])
def test_ends_at_the_least_sigma_where_the_config_says_so(solver: str) -> None:
    for steps in (2, 10, 25):
        assert_follows(solver, {**SD2, "final_sigmas_type": "sigma_min"}, steps)


@pytest.mark.parametrize("spacing", ["leading", "linspace"])  # to timestep 1, where the last step still draws, and 0, where it does not
@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_small_log", "fixed_large"])
def test_ddpm_adds_the_variance_of_the_config(variance_type: str, spacing: str) -> None:
    assert_follows("ddpm", {**SD2, "variance_type": variance_type, "timestep_spacing": spacing}, 10)


@pytest.mark.parametrize("offset", [0, 1, 3])
def test_offsets_leading_timesteps(offset: int) -> None:
    for solver in ("ddim", "euler", "dpm++ 2m"):
        assert_follows(solver, {**SD2, "steps_offset": offset, "timestep_spacing": "leading"}, 10)


@pytest.mark.parametrize("bounds", [{"sigma_min": 0.1}, {"sigma_max": 10.0}, {"sigma_min": 0.05, "sigma_max": 12.0}])
@pytest.mark.parametrize("sigmas", ["karras", "exponential"])
def test_respaces_between_the_bounds_of_the_config(sigmas: str, bounds: Mapping[str, float]) -> None:
    assert_follows(f"euler {sigmas}", {**SD2, **bounds}, 10)


def test_paints_as_sd_turbo_does() -> None:
    """The scheduler config of stabilityai/sd-turbo: Euler, trailing, 1 to 4 steps."""
    turbo = {
        **SD2,
        "prediction_type": "epsilon",
        "timestep_spacing": "trailing",
        "interpolation_type": "linear",
        "timestep_type": "discrete",
    }
    for steps, timesteps in ((1, [999]), (2, [999, 499]), (3, [999, 666, 332]), (4, [999, 749, 499, 249])):
        assert_follows("euler", turbo, steps)
        assert [row.t for row in make_table("euler", Schedule.from_config(turbo), steps).rows] == timesteps
