"""Sampler names, and what holds for the tables of all samplers. Parity with diffusers is in test_samplers_diffusers."""

import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.denoise import denoise
from sd2rt.runtime.samplers import SOLVERS, SamplerName, make_table, parse_sampler
from sd2rt.runtime.schedule import Schedule
from sd2rt.runtime.table import Table

SD2 = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
}
WITH_SIGMAS = tuple(solver for solver in SOLVERS if solver not in ("ddim", "ddpm", "pndm", "lcm"))
ALL = (*SOLVERS, *(f"{solver} {sigmas}" for solver in WITH_SIGMAS for sigmas in ("karras", "exponential")))
NAMES = st.sampled_from(ALL).map(parse_sampler)


def test_has_the_samplers_that_users_ask_for() -> None:
    assert set(SOLVERS) == {
        *("ddim", "ddpm", "pndm", "lms", "euler", "euler a", "heun", "dpm2", "dpm2 a"),
        *("dpm++ 2s a", "dpm++ 2m", "dpm++ 2m sde", "dpm++ sde", "unipc", "deis", "lcm"),
    }


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        # diffusers
        ("DDIMScheduler", "ddim"),
        ("DDPMScheduler", "ddpm"),
        ("PNDMScheduler", "pndm"),
        ("LMSDiscreteScheduler", "lms"),
        ("EulerDiscreteScheduler", "euler"),
        ("EulerAncestralDiscreteScheduler", "euler a"),
        ("HeunDiscreteScheduler", "heun"),
        ("KDPM2DiscreteScheduler", "dpm2"),
        ("KDPM2AncestralDiscreteScheduler", "dpm2 a"),
        ("DPMSolverMultistepScheduler", "dpm++ 2m"),
        ("DPMSolverSDEScheduler", "dpm++ sde"),
        ("UniPCMultistepScheduler", "unipc"),
        ("DEISMultistepScheduler", "deis"),
        ("LCMScheduler", "lcm"),
        ("DPMSolverMultistepScheduler karras", "dpm++ 2m karras"),
        ("EulerDiscrete", "euler"),
        # k-diffusion, and what is built on it
        ("sample_lms", "lms"),
        ("sample_euler", "euler"),
        ("sample_euler_ancestral", "euler a"),
        ("sample_heun", "heun"),
        ("sample_dpm_2", "dpm2"),
        ("sample_dpm_2_ancestral", "dpm2 a"),
        ("sample_dpmpp_2s_ancestral", "dpm++ 2s a"),
        ("sample_dpmpp_sde", "dpm++ sde"),
        ("sample_dpmpp_2m", "dpm++ 2m"),
        ("sample_dpmpp_2m_sde", "dpm++ 2m sde"),
        ("euler_ancestral", "euler a"),
        ("dpmpp_2m", "dpm++ 2m"),
        ("k_euler_a", "euler a"),
        ("k_dpm_2_a", "dpm2 a"),
        ("k_lms", "lms"),
        ("k_dpmpp_2m", "dpm++ 2m"),
        ("uni_pc", "unipc"),
        # web UI
        ("DPM++ 2M Karras", "dpm++ 2m karras"),
        ("DPM++ SDE Karras", "dpm++ sde karras"),
        ("DPM++ 2M SDE Exponential", "dpm++ 2m sde exponential"),
        ("DPM++ 2S a Karras", "dpm++ 2s a karras"),
        ("DPM++ 2M SDE Karras", "dpm++ 2m sde karras"),
        ("Euler a", "euler a"),
        ("Euler", "euler"),
        ("LMS Karras", "lms karras"),
        ("DPM2 a Karras", "dpm2 a karras"),
        ("DPM2", "dpm2"),
        ("Heun", "heun"),
        ("DDIM", "ddim"),
        ("PLMS", "pndm"),
        ("UniPC", "unipc"),
        ("LCM", "lcm"),
        ("  dpm++2m  KARRAS ", "dpm++ 2m karras"),
    ],
)
def test_reads_names_as_users_write_them(written: str, meant: str) -> None:
    assert str(parse_sampler(written)) == meant


@given(
    name=NAMES, separator=st.sampled_from([" ", "_", "-", ""]), case=st.sampled_from([str.lower, str.upper, str.title]), pp=st.booleans()
)
def test_names_survive_being_written_and_read(name: SamplerName, separator: str, case: Callable[[str], str], pp: bool) -> None:
    assert parse_sampler(str(name)) == name
    written = case(str(name).replace(" ", separator))
    assert parse_sampler(written.replace("++", "pp") if pp else written) == name


@given(st.text(max_size=40))
def test_any_text_is_a_sampler_or_an_invalid_argument(text: str) -> None:
    try:
        said = parse_sampler(text).solver
    except InvalidArgument as error:
        said = str(error)
    assert said in SOLVERS or (said.startswith(("unknown sampler", "sampler")) and "\n" not in said)


@pytest.mark.parametrize(
    ("written", "suggested"), [("eulr", "euler"), ("dpm++ 2n", "dpm++ 2m"), ("unipcc karras", "unipc"), ("DPMSolverMultistp", "dpm++ 2m")]
)
def test_unknown_names_get_the_nearest_and_the_list(written: str, suggested: str) -> None:
    with pytest.raises(
        InvalidArgument, match=re.escape(f"unknown sampler {written!r}; did you mean {suggested!r}? expected one of ddim, ddpm")
    ):
        parse_sampler(written)


@pytest.mark.parametrize("written", ["", "karras", "qqqqqq"])
def test_names_like_nothing_get_the_list(written: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(f"unknown sampler {written!r}; expected one of {', '.join(SOLVERS)}")):
        parse_sampler(written)


@pytest.mark.parametrize("solver", ["ddim", "ddpm", "pndm", "lcm"])
def test_solvers_without_sigmas_have_none_to_space(solver: str) -> None:
    with pytest.raises(InvalidArgument, match=f"sampler '{solver} karras': {solver} has no sigmas to space; expected '{solver}' alone"):
        parse_sampler(f"{solver} karras")


def test_made_names_are_checked() -> None:
    with pytest.raises(InvalidArgument, match="unknown sampler 'PLMS'; did you mean 'pndm'"):
        SamplerName(solver="PLMS")
    with pytest.raises(InvalidArgument, match="sigmas: got 'uniform'; expected 'karras', 'exponential' or ''"):
        SamplerName(solver="euler", sigmas="uniform")


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", ALL)
def test_tables_are_plain_data(name: str, prediction_type: str) -> None:
    """What the device loop uploads: finite float64 of one shape, at most five registers, timesteps that the model knows."""
    schedule = Schedule.from_config({**SD2, "prediction_type": prediction_type})
    for steps, first in ((1, 0), (2, 1), (7, 0), (20, 13)):
        table = make_table(name, schedule, steps, first=first)
        assert 1 <= table.registers <= 5
        assert np.isfinite(table.init_scale)
        for row in table.rows:
            assert row.weights.shape == (table.registers, table.registers + 2)
            assert row.weights.dtype == np.float64
            assert np.isfinite(row.weights).all()
            assert 0 <= row.t <= 999
            assert row.in_scale == pytest.approx((row.alpha**2 + row.sigma**2) ** -0.5)


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        (("ddim", "ddpm", "lms", "euler", "euler a", "dpm++ 2m", "dpm++ 2m sde", "unipc", "deis", "lcm"), 10),
        (("pndm",), 11),
        (("heun", "dpm2", "dpm2 a", "dpm++ 2s a", "dpm++ sde"), 19),
    ],
)
def test_a_row_is_a_model_evaluation(names: tuple[str, ...], rows: int) -> None:
    for name in names:
        assert len(make_table(name, Schedule.from_config(SD2), 10).rows) == rows, name


def perfect_run(table: Table, prediction_type: str, clean: npt.NDArray[np.float64], *, from_image: bool) -> npt.NDArray[np.float64]:
    """Run with a model that knows the clean latents and tells them in its prediction type."""
    rng = np.random.default_rng(1)

    def model(x: npt.NDArray[np.float64], t: float, index: int) -> npt.NDArray[np.float64]:
        row = table.rows[index]
        noise = (x / row.in_scale - row.alpha * clean) / row.sigma
        return {"epsilon": noise, "sample": clean, "v_prediction": row.in_scale * (row.alpha * noise - row.sigma * clean)}[prediction_type]

    start, draw = rng.standard_normal(clean.shape), lambda: rng.standard_normal(clean.shape)
    return [step.latents for step in denoise(table, model, start, draw, clean if from_image else None)][-1]


@pytest.mark.parametrize("first", [0, 4])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", [name for name in ALL if not name.startswith(("deis", "pndm"))])
def test_a_perfect_model_gets_its_image(name: str, prediction_type: str, first: int) -> None:
    """Whatever the noise and the solver; LCM's boundary condition lets in the 1e-7 that it allows."""
    schedule = Schedule.from_config({**SD2, "prediction_type": prediction_type, "set_alpha_to_one": True})
    clean = np.random.default_rng(0).standard_normal((1, 4, 3, 3))
    final = perfect_run(make_table(name, schedule, 9, first=first), prediction_type, clean, from_image=first > 0)
    np.testing.assert_allclose(final, clean, atol=1e-5 if name == "lcm" else 1e-9)


def test_pndm_gets_the_image_of_a_perfect_epsilon_model() -> None:
    """Averaging v-predictions of different timesteps, as diffusers does, or leaving out steps does not get it exactly."""
    schedule = Schedule.from_config({**SD2, "set_alpha_to_one": True})
    clean = np.random.default_rng(0).standard_normal((1, 4, 3, 3))
    np.testing.assert_allclose(perfect_run(make_table("pndm", schedule, 9), "epsilon", clean, from_image=False), clean, atol=1e-9)


def test_deis_ends_at_the_least_sigma() -> None:
    schedule = Schedule.from_config(SD2)
    clean = np.zeros((1, 4, 32, 32))
    for name in ("deis", "deis karras", "deis exponential"):
        final = perfect_run(make_table(name, schedule, 9), "epsilon", clean, from_image=False)
        assert final.std() == pytest.approx((1 - schedule.alphas_cumprod[0]) ** 0.5, rel=0.05)


@pytest.mark.parametrize("name", [name for name in ALL if name != "pndm"])
def test_an_image_starts_at_the_step_of_its_strength(name: str) -> None:
    """Leaving out steps leaves out their rows: the timesteps and noise levels of the others stay."""
    schedule = Schedule.from_config(SD2)
    whole, part = make_table(name, schedule, 10), make_table(name, schedule, 10, first=6)
    left_out = len(whole.rows) - len(part.rows)
    assert [(row.t, row.alpha, row.sigma) for row in part.rows] == [(row.t, row.alpha, row.sigma) for row in whole.rows[left_out:]]
    evaluations_per_step = 2 if len(whole.rows) > 10 else 1
    assert left_out == 6 * evaluations_per_step
    assert (part.init_scale, part.registers) == (whole.init_scale, whole.registers)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("steps", [0, -3])
def test_refuses_no_steps(name: str, steps: int) -> None:
    with pytest.raises(InvalidArgument, match=f"got {steps} steps; expected at least 1"):
        make_table(name, Schedule.from_config(SD2), steps)


@pytest.mark.parametrize("name", ALL)
def test_refuses_more_steps_than_there_are_timesteps(name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"got 1001 steps; .*ask for fewer"):
        make_table(name, Schedule.from_config(SD2), 1001)


@pytest.mark.parametrize("first", [-1, 5, 6])
def test_refuses_to_leave_out_all_steps(first: int) -> None:
    with pytest.raises(InvalidArgument, match=f"got first step {first}; expected 0 to 4"):
        make_table("euler", Schedule.from_config(SD2), 5, first=first)


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_refuses_an_eta_out_of_range(eta: float) -> None:
    with pytest.raises(InvalidArgument, match=r"got eta .*; expected 0"):
        make_table("ddim", Schedule.from_config(SD2), 5, eta=eta)


@pytest.mark.parametrize("name", ["euler karras", "unipc exponential"])
def test_refuses_bounds_of_sigma_the_wrong_way_round(name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"sigmas run from 0\.1 to 5; expected sigma_max above sigma_min"):
        make_table(name, Schedule.from_config({**SD2, "sigma_min": 5.0, "sigma_max": 0.1}), 5)


@pytest.mark.parametrize("name", ["ddim", "ddpm", "heun", "lcm"])
def test_refuses_to_clip(name: str) -> None:
    """Those that would clip in diffusers; the others never do."""
    with pytest.raises(InvalidArgument, match=f"clip_sample is true, which {name} would obey"):
        make_table(name, Schedule.from_config({**SD2, "clip_sample": True}), 5)


@pytest.mark.parametrize("name", ["euler", "pndm", "dpm++ 2m"])
def test_solvers_that_never_clip_ignore_the_key(name: str) -> None:
    assert make_table(name, Schedule.from_config({**SD2, "clip_sample": True}), 5).rows


@pytest.mark.parametrize("name", ["ddim", "ddpm", "lcm"])
def test_refuses_an_epsilon_model_in_pure_noise(name: str) -> None:
    schedule = Schedule.from_config({**SD2, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"})
    with pytest.raises(InvalidArgument, match="got an epsilon model at timestep 999, which is pure noise"):
        make_table(name, schedule, 5)


def test_lcm_has_no_more_steps_than_its_distillation() -> None:
    schedule = Schedule.from_config({**SD2, "original_inference_steps": 8})
    assert [row.t for row in make_table("lcm", schedule, 4).rows] == [999, 749, 499, 249]
    with pytest.raises(InvalidArgument, match="got 9 steps; lcm has at most the 8 of its distillation: ask for fewer"):
        make_table("lcm", schedule, 9)
