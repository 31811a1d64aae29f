"""The device loop when the GPU fails: one clear error, nothing left behind, and no other job spoiled."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from sd2rt.engine.cuda import Driver
from sd2rt.engine.device_loop import DeviceLoop, LoopEngines
from sd2rt.engine.errors import EngineError, InvalidArgument
from sd2rt.engine.spec import Guidance
from sd2rt.engine.trt_run import load_plan
from tests.engine.device_rig import SEQUENCE, axes_of, make_job, numpy_trajectory, open_rig, plan
from tests.engine.fake_cuda import FakeCuda, Status
from tests.engine.fake_tensorrt import FakeTensorRT
from tests.engine.step_loop import GATE, Shape, difference

SHAPE = Shape(sequence=SEQUENCE)


@contextmanager
def engines() -> Iterator[tuple[FakeCuda, Driver, int, LoopEngines]]:
    """Open a GPU with the three engines on a stream, without a loop."""
    cuda = FakeCuda()
    trt, driver = FakeTensorRT(cuda), Driver(cuda)
    stream = driver.create_stream()
    names = {"text_encoder": "text_encoder", "step": "unet", "decoder": "vae_decoder"}
    loaded = {role: load_plan(trt, plan(name), driver, stream) for role, name in names.items()}
    yield cuda, driver, stream, LoopEngines(**loaded)


def allocations() -> dict[str, int]:
    """Count what making a loop asks the GPU for."""
    with engines() as (cuda, driver, stream, three):
        before = {name: cuda.names().count(name) for name in MAKERS}
        DeviceLoop(driver, stream, three, axes_of(SHAPE, Guidance.GUIDED))
        return {name: cuda.names().count(name) - before[name] for name in MAKERS}


MAKERS = ("cudaMalloc", "cudaHostAlloc", "cudaStreamCreateWithFlags", "cudaEventCreateWithFlags")


def test_nothing_is_left_wherever_making_the_loop_fails() -> None:
    counts = allocations()
    assert all(counts.values())
    for name, count in counts.items():
        for nth in range(1, count + 1):
            with engines() as (cuda, driver, stream, three):
                cuda.fail(name, nth, Status.cudaErrorMemoryAllocation)
                with pytest.raises(EngineError, match=f"{name}: out of memory.*use a smaller size or batch"):
                    DeviceLoop(driver, stream, three, axes_of(SHAPE, Guidance.GUIDED))
                assert cuda.leaks() == {"streams": 1}


def test_memory_that_runs_out_says_how_much_was_wanted() -> None:
    with engines() as (cuda, driver, stream, three):
        cuda.fail("cudaMalloc", 1, Status.cudaErrorMemoryAllocation)
        with pytest.raises(EngineError, match=r"out of memory for \d+ MiB; use a smaller size or batch, or close what else uses the GPU"):
            DeviceLoop(driver, stream, three, axes_of(SHAPE, Guidance.GUIDED))


def test_memory_that_runs_out_for_noise_leaves_the_loop_usable() -> None:
    task, work = make_job("euler_a")
    with open_rig() as rig:
        rig.cuda.fail("cudaMalloc", 1, Status.cudaErrorMemoryAllocation)
        with pytest.raises(EngineError, match="out of memory"):
            rig.loop.start(work)
        with pytest.raises(InvalidArgument, match="start one first"):
            rig.loop.run()
        rig.loop.start(work)
        got = [(rig.loop.latents(), rig.loop.denoised()) for _ in rig.loop.steps()]
        assert difference(got, numpy_trajectory(task)) < GATE


def test_a_job_that_could_not_be_sent_ends_the_one_before() -> None:
    with open_rig() as rig:
        rig.loop.start(make_job("ddim")[1])
        steps = rig.loop.steps()
        next(steps)
        rig.cuda.fail("cudaMalloc", 1, Status.cudaErrorMemoryAllocation)
        with pytest.raises(EngineError, match="out of memory"):
            rig.loop.start(make_job("euler_a")[1])
        with pytest.raises(EngineError, match="has begun another job"):
            next(steps)


def test_states_that_do_not_fit_the_step_are_refused() -> None:
    with engines() as (cuda, driver, stream, three):
        ids, *others = three.text_encoder.outputs
        assert ids.name == "last_hidden_state"
        for changed in (replace(ids, dtype="float16"), replace(ids, shape=("batch", SEQUENCE, 7))):
            three.text_encoder.outputs = (changed, *others)  # type: ignore[misc]
            with pytest.raises(InvalidArgument, match=r"text encoder: got states of .* export the bundle again"):
                DeviceLoop(driver, stream, three, axes_of(SHAPE, Guidance.GUIDED))
            assert cuda.leaks() == {"streams": 1}


def test_axes_that_do_not_fit_are_refused() -> None:
    axes = axes_of(SHAPE, Guidance.GUIDED)
    for changes, message in (
        ({"height": 64}, "unet: got height 64; expected 2 to 16"),
        ({"image_width": 5}, "vae_decoder: got image_width 5; expected 12"),
        ({"batch": 3}, "unet: TensorRT failed: dimensions do not match"),
    ):
        with engines() as (cuda, driver, stream, three):
            with pytest.raises((InvalidArgument, EngineError), match=message):
                DeviceLoop(driver, stream, three, {**axes, **changes})
            assert cuda.leaks() == {"streams": 1}
    with engines() as (cuda, driver, stream, three):
        missing = {name: size for name, size in axes.items() if name != "width"}
        with pytest.raises(InvalidArgument, match="got no size of axis 'width'"):
            DeviceLoop(driver, stream, three, missing)


@pytest.mark.parametrize("call", ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate"])
def test_where_nothing_can_be_captured_launches_are_plain_and_this_is_said(call: str) -> None:
    task, work = make_job(steps=4)
    with open_rig() as rig:
        rig.loop.start(work)
        rig.cuda.fail(call, 1, Status.cudaErrorStreamCaptureUnsupported)
        got = [(rig.loop.latents(), rig.loop.denoised()) for _ in rig.loop.steps()]
        assert difference(got, numpy_trajectory(task)) < GATE
        assert rig.cuda.names().count("cudaGraphLaunch") == 0
        assert rig.told == [
            f"sampling step: launched without a CUDA graph, because it cannot be recorded ({call}: cudaErrorStreamCaptureUnsupported)"
        ]
        assert rig.cuda.graphs == {}


def test_a_loop_that_cannot_be_captured_is_launched_step_by_step() -> None:
    task, work = make_job(steps=4)
    with open_rig() as rig:
        for job in range(3):
            rig.loop.start(work)
            if job == 1:
                rig.cuda.fail("cudaGraphInstantiate", 1, Status.cudaErrorMemoryAllocation)
            begun = len(rig.cuda.calls)
            rig.loop.run()
            assert difference([(rig.loop.latents(), rig.loop.denoised())], numpy_trajectory(task)[-1:]) < GATE
        assert rig.cuda.names()[begun:].count("cudaGraphLaunch") == 4
        assert len(rig.told) == 1
        assert rig.told[0].startswith("sampling loop: launched without a CUDA graph")


def test_an_engine_that_fails_while_it_is_captured_is_launched_plainly() -> None:
    task, work = make_job(steps=3)
    with open_rig() as rig:
        rig.loop.start(work)
        steps = rig.loop.steps(ahead=0)
        next(steps)
        rig.trt.launch_error = "cannot be captured"
        with pytest.raises(EngineError, match="unet: TensorRT failed: cannot be captured"):  # plainly neither
            next(steps)
        assert rig.told == [
            "sampling step: launched without a CUDA graph, because it cannot be recorded (unet: TensorRT failed: cannot be captured)"
        ]
        assert (rig.cuda.graphs, rig.cuda.executables) == ({}, {})
        rig.trt.launch_error = ""
        rig.loop.start(work)
        got = [(rig.loop.latents(), rig.loop.denoised()) for _ in rig.loop.steps()]
        assert difference(got, numpy_trajectory(task)) < GATE


def test_a_launch_that_fails_is_an_error_of_the_step() -> None:
    _, work = make_job(steps=4)
    with open_rig() as rig:
        rig.loop.start(work)
        rig.cuda.fail("cudaGraphLaunch", 2, Status.cudaErrorInvalidValue)
        steps = rig.loop.steps(ahead=0)
        assert [next(steps), next(steps)] == [0, 1]
        with pytest.raises(EngineError, match="cudaGraphLaunch: cudaErrorInvalidValue"):
            next(steps)
        rig.loop.start(work)
        rig.loop.run()
        assert rig.loop.decode().finite


def test_a_gpu_that_breaks_is_one_error_and_close_stays_silent() -> None:
    _, work = make_job(steps=4)
    with engines() as (_, driver, stream, three):
        loop = DeviceLoop(driver, stream, three, axes_of(SHAPE, Guidance.GUIDED))
        loop.start(work)
        steps = loop.steps()
        next(steps)
        three.step._open().context.engine.runtime.trt.breaks = True  # type: ignore[attr-defined]
        with pytest.raises(EngineError, match="cudaEventSynchronize: cudaErrorLaunchFailure"):
            list(steps)
        with pytest.raises(EngineError, match="cudaErrorLaunchFailure"):
            loop.start(work)
        loop.close()
        loop.close()


def test_closing_waits_for_the_device_first() -> None:
    _, work = make_job(steps=4)
    with open_rig() as rig:
        rig.loop.start(work)
        steps = rig.loop.steps()
        next(steps)
        rig.loop.close()
        names = rig.cuda.names()
        assert names.index("cudaStreamSynchronize") < names.index("cudaFree")
        assert not rig.cuda.streams[rig.stream].pending
        with pytest.raises(EngineError, match="its loop was closed"):
            next(steps)
