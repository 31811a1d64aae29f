"""What comes out of the device loop: the numpy loop's latents and pictures, for every kind of job and way of taking it."""

import numpy as np
import pytest

from sd2rt.engine.device_loop import Work
from sd2rt.engine.errors import EngineError, InvalidArgument
from sd2rt.engine.spec import Guidance
from tests.engine.device_rig import SEQUENCE, Rig, make_job, numpy_pictures, numpy_trajectory, open_rig
from tests.engine.step_loop import GATE, Shape, Trajectory, difference

SAMPLERS = ("ddim", "pndm", "euler", "euler_a", "dpmpp_2m_sde", "unipc", "heun")


def take(rig: Rig, work: Work, ahead: int = 2) -> Trajectory:
    """Take all steps of a job, reading the state after each."""
    rig.loop.start(work)
    return [(rig.loop.latents(), rig.loop.denoised()) for _ in rig.loop.steps(ahead)]


@pytest.mark.parametrize("guidance", Guidance)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_steps_equal_the_numpy_loop(sampler: str, guidance: Guidance) -> None:
    task, work = make_job(sampler, guidance=guidance)
    with open_rig(guidance) as rig:
        assert difference(take(rig, work), numpy_trajectory(task, guidance)) < GATE
        assert rig.told == []


@pytest.mark.parametrize("shape", [Shape(images=1, sequence=SEQUENCE), Shape(images=3, size=(4, 10), sequence=SEQUENCE)])
def test_other_sizes_equal_the_numpy_loop(shape: Shape) -> None:
    task, work = make_job("euler_a", shape=shape)
    with open_rig(shape=shape) as rig:
        assert difference(take(rig, work), numpy_trajectory(task)) < GATE
        assert np.abs(rig.loop.decode().pictures.astype(int) - numpy_pictures(rig.loop.latents())).max() <= 1


@pytest.mark.parametrize("guidance", Guidance)
@pytest.mark.parametrize("sampler", ["ddim", "euler_a", "heun", "dpmpp_2m", "pndm"])
def test_steps_that_keep_a_part_equal_the_numpy_loop(sampler: str, guidance: Guidance) -> None:
    shapes = [Shape(kept=True, sequence=SEQUENCE, seed=seed) for seed in range(3)]  # plain, then recorded, then replayed
    with open_rig(guidance, shapes[0]) as rig:
        for shape in shapes:
            task, work = make_job(sampler, guidance=guidance, shape=shape)
            expected = numpy_trajectory(task, guidance)
            assert difference(take(rig, work), expected) < GATE
            rig.loop.start(work)
            rig.loop.run()
            assert difference([(rig.loop.latents(), rig.loop.denoised())], expected[-1:]) < GATE
        assert rig.told == []


@pytest.mark.parametrize("shape", [Shape(extra=5, sequence=SEQUENCE), Shape(extra=3, labels=True, sequence=SEQUENCE)])
def test_extra_channels_and_labels_equal_the_numpy_loop(shape: Shape) -> None:
    task, work = make_job("ddim", shape=shape)
    with open_rig(shape=shape) as rig:
        assert difference(take(rig, work), numpy_trajectory(task)) < GATE


@pytest.mark.parametrize("ahead", [0, 1, 3, 50])
def test_a_state_is_that_of_its_row_although_later_ones_were_launched(ahead: int) -> None:
    task, work = make_job("dpmpp_2m_sde", steps=6)
    with open_rig() as rig:
        assert difference(take(rig, work, ahead), numpy_trajectory(task)) < GATE


@pytest.mark.parametrize("sampler", ["ddim", "euler_a"])
def test_run_equals_the_numpy_loop_in_every_job(sampler: str) -> None:
    shapes = [Shape(sequence=SEQUENCE, seed=seed) for seed in range(4)]  # plain, then recorded, then replayed
    with open_rig() as rig:
        for shape in shapes:
            task, work = make_job(sampler, shape=shape)
            rig.loop.start(work)
            assert rig.loop.run() == len(task.table.rows) - 1
            assert difference([(rig.loop.latents(), rig.loop.denoised())], numpy_trajectory(task)[-1:]) < GATE


def test_pictures_are_those_of_the_numpy_pipeline() -> None:
    task, work = make_job()
    latents, denoised = numpy_trajectory(task)[-1]
    with open_rig() as rig:
        rig.loop.start(work)
        rig.loop.run()
        for _ in range(3):  # plain, recorded, replayed
            decoded = rig.loop.decode()
            assert decoded.finite
            assert decoded.pictures.dtype == np.uint8
            assert np.abs(decoded.pictures.astype(int) - numpy_pictures(latents)).max() <= 1
        assert np.abs(rig.loop.decode(denoised=True).pictures.astype(int) - numpy_pictures(denoised)).max() <= 1
        unit = rig.loop.decode(unit=True).pictures
        assert unit.dtype == np.float32
        assert np.abs(np.rint(unit * 255) - decoded.pictures).max() == 0


def test_a_preview_is_of_the_row_that_was_yielded() -> None:
    task, work = make_job(steps=5)
    expected = numpy_trajectory(task)
    with open_rig() as rig:
        rig.loop.start(work)
        for row in rig.loop.steps():
            decoded = rig.loop.decode(denoised=True)
            assert np.abs(decoded.pictures.astype(int) - numpy_pictures(expected[row][1])).max() <= 1


def test_what_was_handed_out_stays_as_it_was() -> None:
    _, work = make_job(steps=3)
    with open_rig() as rig:
        rig.loop.start(work)
        rig.loop.run()
        latents, pictures = rig.loop.latents(), rig.loop.decode().pictures
        before = latents.copy(), pictures.copy()
        _, other = make_job(steps=3, shape=Shape(sequence=SEQUENCE, seed=9))
        take(rig, other)
        rig.loop.decode()
        np.testing.assert_array_equal(latents, before[0])
        np.testing.assert_array_equal(pictures, before[1])


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_found(broken: float) -> None:
    _, work = make_job(steps=2)
    work.latents[1, 0, 0, 0] = broken
    with open_rig() as rig:
        rig.loop.start(work)
        rig.loop.run()
        assert not rig.loop.decode().finite
        _, sound = make_job(steps=2)
        rig.loop.start(sound)
        rig.loop.run()
        assert rig.loop.decode().finite


def test_a_closed_generator_stops_and_the_next_job_is_right() -> None:
    task, work = make_job("euler_a", steps=8)
    _, other = make_job("euler_a", steps=8, shape=Shape(sequence=SEQUENCE, seed=5))
    with open_rig() as rig:
        rig.loop.start(other)
        steps = rig.loop.steps()
        next(steps)
        next(steps)
        kept = rig.loop.latents()
        steps.close()
        assert not any(stream.pending for stream in rig.cuda.streams.values())  # what was launched is done
        np.testing.assert_array_equal(rig.loop.latents(), kept)
        assert rig.loop.decode().finite
        assert len(rig.loop.timings().steps) == 2
        assert difference(take(rig, work), numpy_trajectory(task)) < GATE


def test_a_job_that_is_left_does_not_spoil_the_next() -> None:
    task, work = make_job("euler_a", steps=4)
    _, other = make_job("euler_a", steps=7, shape=Shape(sequence=SEQUENCE, seed=5))
    with open_rig() as rig:
        rig.loop.start(other)
        steps = rig.loop.steps()
        next(steps)  # later rows are launched
        rig.loop.start(other)  # never taken
        rig.loop.start(work)
        got = [(rig.loop.latents(), rig.loop.denoised()) for _ in rig.loop.steps()]
        assert difference(got, numpy_trajectory(task)) < GATE
        with pytest.raises(EngineError, match="another job"):
            next(steps)


def test_noise_of_one_job_is_not_that_of_the_next() -> None:
    with open_rig() as rig:
        for sampler, steps in (("euler_a", 3), ("ddim", 4), ("euler_a", 6), ("dpmpp_2m_sde", 3), ("euler_a", 6), ("euler_a", 6)):
            task, work = make_job(sampler, steps, shape=Shape(sequence=SEQUENCE, seed=steps))
            rig.loop.start(work)
            rig.loop.run()
            assert difference([(rig.loop.latents(), rig.loop.denoised())], numpy_trajectory(task)[-1:]) < GATE


def test_timings_are_the_device_clock_s() -> None:
    _, work = make_job(steps=3)
    with open_rig() as rig:
        rig.loop.start(work)
        list(rig.loop.steps())
        taken = rig.loop.timings()
        assert taken.text == pytest.approx(0.01)
        assert taken.steps == pytest.approx([0.014] * 3)  # a launch, two copies back, two to keep the state
        assert taken.decode == 0.0
        rig.loop.decode()
        assert rig.loop.timings().decode == pytest.approx(2 * 0.013)
        rig.loop.start(work)
        rig.loop.run()
        assert rig.loop.timings().steps == pytest.approx([(3 * 0.012 + 0.002) / 3] * 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 0}, "got 0 model evaluations; expected 1 to 2048"),
        ({"rows": 2049}, "got 2049 model evaluations"),
        ({"noise": {9: np.zeros((2, 4, 8, 6), np.float32)}}, "noise for row 9; expected rows 0 to 3"),
        ({"noise": {1: np.zeros((2, 4, 8, 5), np.float32)}}, "noise of shape"),
        ({"latents": np.zeros((1, 4, 8, 6), np.float32)}, "latents of shape"),
        ({"ids": np.zeros((2, SEQUENCE), np.int64)}, r"input_ids of shape \(2, 5\); expected \(4, 5\)"),
        ({"table": np.zeros((5, 41), np.float32)}, "table of shape"),
        ({"conditions": {"extra": np.zeros((2, 4, 8, 6), np.float32)}}, "extra"),
    ],
)
def test_work_that_does_not_fit_is_refused_before_anything_is_sent(change: dict[str, object], message: str) -> None:
    from dataclasses import replace

    _, work = make_job()
    with open_rig() as rig:
        before = len(rig.cuda.calls)
        with pytest.raises(InvalidArgument, match=message):
            rig.loop.start(replace(work, **change))  # type: ignore[arg-type]
        assert len(rig.cuda.calls) == before


def test_calls_out_of_order_are_refused() -> None:
    _, work = make_job(steps=2)
    with open_rig() as rig:
        for call in (rig.loop.run, rig.loop.steps):
            with pytest.raises(InvalidArgument, match="start one first"):
                call()
        rig.loop.start(work)
        for read in (rig.loop.latents, rig.loop.denoised, rig.loop.decode, rig.loop.timings):
            with pytest.raises(InvalidArgument, match="take one first"):
                read()
        with pytest.raises(InvalidArgument, match="ahead: got -1; expected 0 or more"):
            rig.loop.steps(-1)
        rig.loop.run()
        with pytest.raises(InvalidArgument, match="start one first"):
            rig.loop.run()
        rig.loop.close()
        for closed in (lambda: rig.loop.start(work), rig.loop.run, rig.loop.steps, rig.loop.latents, rig.loop.decode, rig.loop.timings):
            with pytest.raises(EngineError, match="the device loop is closed"):
                closed()
