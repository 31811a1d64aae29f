"""The executor: any table, one row at a time."""

import numpy as np
import numpy.typing as npt
import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.denoise import denoise
from sd2rt.runtime.samplers import SOLVERS, make_table
from sd2rt.runtime.schedule import Schedule
from sd2rt.runtime.table import Row, Table

Floats = npt.NDArray[np.float32]
SHAPE = (3, 4, 5, 7)
SD2 = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "v_prediction"}


def model(x: Floats, t: float, row: int) -> Floats:
    return np.tanh(x * x.dtype.type(1 + 0.3 * np.cos(t / 100)))


def normals(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def row(weights: list[list[float]], *, t: float = 7.0, in_scale: float = 1.0, alpha: float = 1.0, sigma: float = 1.0) -> Row:
    return Row(t=t, in_scale=in_scale, weights=np.array(weights), alpha=alpha, sigma=sigma, clean=(2.0, -3.0))


def test_applies_rows_as_they_read() -> None:
    """Two registers, by hand: x' = 0.5 x + 2 memory - output + 3 noise, memory' = x."""
    weights = [[0.5, 2.0, -1.0, 3.0], [1.0, 0.0, 0.0, 0.0]]
    table = Table(rows=(row(weights, t=9.0, in_scale=0.25), row(weights, t=4.5, in_scale=0.5)), registers=2, init_scale=10.0)
    seen: list[tuple[Floats, float]] = []

    def echo(x: Floats, t: float, row: int) -> Floats:
        seen.append((x, t))
        return x + 1

    noise = iter([np.float32(1), np.float32(2)])
    steps = list(denoise(table, echo, np.ones((1, 1), np.float32), lambda: np.full((1, 1), next(noise))))
    assert [(float(x[0, 0]), t) for x, t in seen] == [(2.5, 9.0), (2.25, 4.5)]
    assert [float(step.latents[0, 0]) for step in steps] == [0.5 * 10 - 3.5 + 3, 0.5 * 4.5 + 2 * 10 - 3.25 + 6]
    assert [float(step.denoised[0, 0]) for step in steps] == [2 * 10 - 3 * 3.5, 2 * 4.5 - 3 * 3.25]
    assert [(step.index, step.total, step.t) for step in steps] == [(0, 2, 9.0), (1, 2, 4.5)]


def test_starts_from_an_image_at_the_first_rows_noise_level() -> None:
    table = Table(rows=(row([[1.0, 0.0, 0.0]], alpha=0.5, sigma=4.0),), registers=1, init_scale=10.0)
    latents, init = normals(), normals(seed=1)
    (step,) = denoise(table, model, latents, init=init)
    np.testing.assert_array_equal(step.latents, np.float32(0.5) * init + np.float32(4) * latents)


def test_evaluates_the_model_once_per_step_taken() -> None:
    table = make_table("euler", Schedule.from_config(SD2), 10)
    calls: list[float] = []

    def counting(x: Floats, t: float, row: int) -> Floats:
        calls.append(t)
        return model(x, t, row)

    run = denoise(table, counting, normals())
    assert calls == []
    for step in run:
        assert len(calls) == step.index + 1
        if step.index == 3:
            break
    assert calls == [row.t for row in table.rows[:4]]


@pytest.mark.parametrize("sampler", SOLVERS)
def test_an_image_does_not_depend_on_its_batch(sampler: str) -> None:
    """To the last bit: the executor itself is elementwise."""
    table = make_table(sampler, Schedule.from_config(SD2), 6)
    latents = normals()
    batch_noise = [normals(seed=seed) for seed in range(1, 20)]

    def run(image: slice) -> Floats:
        draws = iter(batch_noise)
        return [step.latents for step in denoise(table, model, latents[image], lambda: next(draws)[image])][-1]

    together = run(slice(None))
    for index in range(len(latents)):
        image = slice(index, index + 1)
        np.testing.assert_array_equal(run(image), together[image])


@pytest.mark.parametrize("sampler", SOLVERS)
def test_float32_is_enough(sampler: str) -> None:
    """The rows applied to float32 latents stay within 1e-5 of the same in float64."""
    table = make_table(sampler, Schedule.from_config(SD2), 25)
    latents = normals()
    single, double = np.random.default_rng(1), np.random.default_rng(1)
    steps = zip(
        denoise(table, model, latents, lambda: single.standard_normal(SHAPE).astype(np.float32)),
        denoise(table, model, latents.astype(np.float64), lambda: double.standard_normal(SHAPE)),
        strict=True,
    )
    for ours, exact in steps:
        assert ours.latents.dtype == np.float32
        assert np.abs(ours.latents - exact.latents).max() <= 1e-5 * exact.latents.std(), ours.index


def test_keeps_its_own_copies_of_the_models_output() -> None:
    """Engines hand out the same buffer at every call."""
    table = make_table("pndm", Schedule.from_config(SD2), 6)
    latents, buffer = normals(), np.empty(SHAPE, np.float32)

    def reusing(x: Floats, t: float, row: int) -> Floats:
        buffer[...] = model(x, t, row)
        return buffer

    fresh = [step.latents for step in denoise(table, model, latents)]
    reused = [step.latents for step in denoise(table, reusing, latents)]
    np.testing.assert_array_equal(reused, fresh)


def test_leaves_the_callers_latents_alone() -> None:
    latents = normals()
    before = latents.copy()
    for step in denoise(make_table("ddim", Schedule.from_config(SD2), 3), model, latents):
        assert not np.shares_memory(step.latents, latents)
    np.testing.assert_array_equal(latents, before)


@pytest.mark.parametrize("sampler", ["ddpm", "euler a", "dpm2 a", "dpm++ 2s a", "dpm++ 2m sde", "dpm++ sde", "lcm"])
def test_asks_for_noise_before_any_evaluation(sampler: str) -> None:
    table = make_table(sampler, Schedule.from_config(SD2), 4)
    with pytest.raises(InvalidArgument, match="got no noise source"):
        denoise(table, model, normals())


@pytest.mark.parametrize(
    ("sampler", "draws"), [("euler a", 4), ("dpm2 a", 4), ("dpm++ 2s a", 4), ("dpm++ sde", 8), ("ddim", 0), ("lcm", 4)]
)
def test_draws_noise_only_where_a_row_uses_it(sampler: str, draws: int) -> None:
    """Five steps, the last of which ends without noise; DPM++ SDE draws in both stages of a step."""
    drawn: list[Floats] = []

    def draw() -> Floats:
        drawn.append(normals())
        return drawn[-1]

    for _ in denoise(make_table(sampler, Schedule.from_config(SD2), 5), model, normals(), draw):
        pass
    assert len(drawn) == draws


def test_refuses_a_model_output_of_another_shape() -> None:
    table = make_table("ddim", Schedule.from_config(SD2), 3)
    with pytest.raises(InvalidArgument, match=r"got a model output of shape \[3, 8, 5, 7\]; expected that of the latents, \[3, 4, 5, 7\]"):
        next(denoise(table, lambda x, t, row: np.concatenate([x, x], axis=1), normals()))


def test_refuses_an_image_of_another_shape() -> None:
    table = make_table("ddim", Schedule.from_config(SD2), 3)
    with pytest.raises(InvalidArgument, match=r"got init of shape \[1, 4, 5, 7\]"):
        denoise(table, model, normals(), init=normals((1, 4, 5, 7)))


def test_what_is_kept_is_kept_in_previews_too() -> None:
    table = make_table("ddim", Schedule.from_config(SD2), 3)
    clean = normals(seed=5)

    def keep(latents: Floats, alpha: float, sigma: float) -> Floats:
        kept = latents.copy()
        kept[..., :3] = np.float32(alpha) * clean[..., :3]
        return kept

    for step in denoise(table, model, normals(), keep=keep):
        np.testing.assert_array_equal(step.denoised[..., :3], clean[..., :3])
        assert np.abs(step.denoised[..., 3:] - clean[..., 3:]).max() > 0.1
