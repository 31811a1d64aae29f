"""Guidance: which rows the UNet sees, and how its answers are combined."""

import numpy as np
import pytest

from sd2rt.runtime.evaluations import Evaluation, Mode
from sd2rt.runtime.guidance import Floats, GuidedModel, is_guided, rescale_spread


class Recorder:
    """A UNet that answers sample * mean(states) + timestep, row by row, and keeps what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[Floats, Floats, Floats]] = []
        self.shallow: list[bool] = []

    def __call__(self, sample: Floats, timesteps: Floats, states: Floats, shallow: bool) -> Floats:
        self.shallow.append(shallow)
        self.calls.append((sample, timesteps, states))
        return sample * states.mean(axis=(1, 2))[:, None, None, None] + timesteps[:, None, None, None]


SAMPLE = np.arange(2 * 4 * 2 * 3, dtype=np.float32).reshape(2, 4, 2, 3)
POSITIVE = np.stack([np.full((3, 5), 2.0, np.float32), np.full((3, 5), 3.0, np.float32)])
NEGATIVE = np.full((2, 3, 5), -1.0, np.float32)
PLAN = tuple(Evaluation(mode=mode, shallow=mode is Mode.REUSED) for mode in (Mode.PLAIN, Mode.GUIDED, Mode.REUSED, Mode.PLAIN))


def test_without_guidance_there_is_one_row_per_image() -> None:
    unet = Recorder()
    answer = GuidedModel(unet, (POSITIVE, POSITIVE[:0]), PLAN, 1.0)(SAMPLE, 7.0, 0)
    sample, timesteps, states = unet.calls[0]
    assert (len(sample), timesteps.tolist(), timesteps.dtype) == (2, [7.0, 7.0], np.float32)
    np.testing.assert_array_equal(states, POSITIVE)
    np.testing.assert_array_equal(answer[1], SAMPLE[1] * 3 + 7)


def test_with_guidance_rows_are_negative_then_positive() -> None:
    unet = Recorder()
    answer = GuidedModel(unet, (POSITIVE, NEGATIVE), PLAN, 5.0)(SAMPLE, 7.0, 1)
    sample, timesteps, states = unet.calls[0]
    assert len(unet.calls) == 1
    np.testing.assert_array_equal(sample, np.concatenate([SAMPLE, SAMPLE]))
    np.testing.assert_array_equal(states, np.concatenate([NEGATIVE, POSITIVE]))
    assert timesteps.tolist() == [7.0] * 4
    unconditioned, conditioned = 7 - SAMPLE[0], SAMPLE[0] * 2 + 7
    np.testing.assert_allclose(answer[0], unconditioned + 5 * (conditioned - unconditioned), rtol=1e-6)
    assert answer.dtype == np.float32


@pytest.mark.parametrize(("scale", "guided"), [(-1.0, False), (0.0, False), (1.0, False), (1.0001, True), (7.5, True)])
def test_guidance_starts_above_one(scale: float, guided: bool) -> None:
    assert is_guided(scale) is guided


@pytest.mark.torch
@pytest.mark.parametrize("rescale", [0.3, 1.0])
def test_rescale_is_that_of_diffusers(rescale: float) -> None:
    torch = pytest.importorskip("torch")
    module = pytest.importorskip("diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion")
    rng = np.random.default_rng(0)
    conditioned, unconditioned = (rng.normal(size=(2, 4, 3, 5)).astype(np.float32) for _ in range(2))
    guided = unconditioned + np.float32(7.5) * (conditioned - unconditioned)
    expected = module.rescale_noise_cfg(torch.from_numpy(guided), torch.from_numpy(conditioned), guidance_rescale=rescale)
    np.testing.assert_allclose(rescale_spread(guided, conditioned, rescale), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_full_rescale_restores_the_spread_of_each_image() -> None:
    rng = np.random.default_rng(1)
    guided = (rng.normal(size=(2, 4, 3, 5)) * [[[[9.0]]], [[[4.0]]]]).astype(np.float32)
    conditioned = rng.normal(size=(2, 4, 3, 5)).astype(np.float32)
    rescaled = rescale_spread(guided, conditioned, 1.0)
    for own, wanted in zip(rescaled, conditioned, strict=True):
        assert own.std() == pytest.approx(wanted.std(), rel=1e-5)


def test_the_model_applies_rescale() -> None:
    plain, rescaled = (GuidedModel(Recorder(), (POSITIVE, NEGATIVE), PLAN, 5.0, rescale)(SAMPLE, 7.0, 1) for rescale in (0.0, 0.7))
    conditioned = np.stack([SAMPLE[0] * 2 + 7, SAMPLE[1] * 3 + 7])
    np.testing.assert_allclose(rescaled, rescale_spread(plain, conditioned, 0.7), rtol=1e-5)


@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_rows_are_evaluated_as_planned(rescale: float) -> None:
    """The difference of a reused row is that of the last guided one, which here lies at another sample."""
    unet = Recorder()
    model = GuidedModel(unet, (POSITIVE, NEGATIVE), PLAN, 5.0, rescale)
    samples = [SAMPLE, SAMPLE + 1, 2 - SAMPLE, SAMPLE]
    answers = [model(sample, 10.0 - row, row) for row, sample in enumerate(samples)]
    assert [len(sample) for sample, _, _ in unet.calls] == [2, 4, 2, 2]
    assert unet.shallow == [False, False, True, False]
    assert [timesteps[0] for _, timesteps, _ in unet.calls] == [10.0, 9.0, 8.0, 7.0]
    scale = np.array([2, 3], np.float32)[:, None, None, None]  # of what the positive prompts predict
    plain = [sample * scale + 10 - row for row, sample in enumerate(samples)]
    difference = plain[1] - (9 - samples[1])
    expected = [plain[0], plain[1] + 4 * difference, plain[2] + 4 * difference, plain[3]]
    if rescale:
        expected[1:3] = [rescale_spread(expected[row], plain[row], rescale) for row in (1, 2)]
    for answer, wanted in zip(answers, expected, strict=True):
        np.testing.assert_allclose(answer, wanted, rtol=1e-5, atol=1e-4)
        assert answer.dtype == np.float32


def test_a_reused_row_at_the_guided_rows_own_sample_is_the_guided_row() -> None:
    model = GuidedModel(Recorder(), (POSITIVE, NEGATIVE), PLAN, 5.0, 0.3)
    guided = model(SAMPLE, 7.0, 1)
    np.testing.assert_allclose(model(SAMPLE, 7.0, 2), guided, rtol=1e-5, atol=1e-4)
