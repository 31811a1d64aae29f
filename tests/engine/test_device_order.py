"""What the device loop tells the GPU, call by call: when it launches, copies and waits."""

import numpy as np
import pytest

from sd2rt.engine.spec import Guidance
from sd2rt.engine.trt_run import TensorRTEngine
from tests.engine.device_rig import SEQUENCE, Rig, launches, make_job, open_rig
from tests.engine.fake_cuda import CopyKind
from tests.engine.fake_tensorrt import FakeTensorRT
from tests.engine.step_loop import Shape

SHORT = {
    CopyKind.cudaMemcpyHostToDevice: "up",
    CopyKind.cudaMemcpyDeviceToHost: "down",
    CopyKind.cudaMemcpyDeviceToDevice: "copy",
    "cudaMemsetAsync": "zero",
    "cudaEventRecord": "record",
    "cudaEventSynchronize": "wait",
    "cudaEventQuery": "ask",
    "cudaGraphLaunch": "launch",
    "cudaStreamBeginCapture": "begin capture",
    "cudaStreamEndCapture": "end capture",
    "cudaGraphInstantiate": "instantiate",
    "cudaGraphDestroy": "destroy",
    "cudaEventCreateWithFlags": "new event",
    "cudaMalloc": "allocate",
}
WAITS = ("cudaEventSynchronize", "cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventQuery")


def story(rig: Rig, since: int = 0) -> list[str]:
    """Tell the calls since one of them in short: copies by their direction, launches of engines by their component."""
    told = []
    for name, arguments in rig.cuda.calls[since:]:
        if name == "enqueueV3":
            told.append(next(part for part in ("text_encoder", "unet", "vae_decoder") if f"plan-{part}" in arguments[0]))
        else:
            told.append(SHORT[arguments[3] if name == "cudaMemcpyAsync" else name])
    return told


def warm(rig: Rig, sampler: str = "ddim", steps: int = 3) -> None:
    """Do two jobs, so that everything has been recorded that may be."""
    for _ in range(2):
        rig.loop.start(make_job(sampler, steps)[1])
        rig.loop.run()
        rig.loop.decode()


PLAIN_STEP = ["record", "unet", "copy", "copy", "copy", "copy", "record"]
RECORDING = ["begin capture", "unet", "copy", "copy", "end capture", "instantiate", "destroy"]
STEP = ["record", "launch", "copy", "copy", "record"]


def test_the_first_job_call_by_call() -> None:
    _, work = make_job(steps=3)
    with open_rig() as rig:
        begun = len(rig.cuda.calls)
        rig.loop.start(work)
        upload = ["ask", "zero", "zero", "zero", "up", "up", "up", "up", "record"]  # latents, table, guidance; ids
        assert story(rig, begun) == [*upload, "record", "text_encoder", "record"]
        begun = len(rig.cuda.calls)
        assert list(rig.loop.steps(ahead=1)) == [0, 1, 2]
        room = ["new event"] * 6 + ["allocate"] * 4
        second = ["record", *RECORDING, *STEP[1:]]
        assert story(rig, begun) == [*room, *PLAIN_STEP, *second, "wait", *STEP, "wait", "wait"]
        begun = len(rig.cuda.calls)
        rig.loop.decode()
        picture = ["copy", "vae_decoder", "down", "down"]
        recorded = ["copy", "begin capture", "vae_decoder", "end capture", "instantiate", "destroy", "launch", "down", "down"]
        assert story(rig, begun) == ["record", *picture, *recorded, "record", "wait"]


def test_a_later_job_is_launches_of_graphs_alone() -> None:
    _, work = make_job(steps=3)
    with open_rig() as rig:
        warm(rig)
        begun = len(rig.cuda.calls)
        rig.loop.start(work)
        assert list(rig.loop.steps()) == [0, 1, 2]
        rig.loop.decode()
        names = rig.cuda.names()[begun:]
        assert names.count("enqueueV3") == 0
        assert names.count("cudaGraphLaunch") == 1 + 3 + 2  # text encoder, steps, pictures


@pytest.mark.parametrize(("sampler", "noise_copies"), [("ddim", 0), ("euler_a", 2)])
def test_the_whole_loop_is_one_launch_from_the_second_job_on(sampler: str, noise_copies: int) -> None:
    _, work = make_job(sampler, steps=3)
    assert len(work.noise) == noise_copies
    with open_rig() as rig:
        rig.loop.start(work)
        begun = len(rig.cuda.calls)
        rig.loop.run()
        first = rig.cuda.names()[begun:]
        assert (first.count("enqueueV3"), first.count("cudaGraphLaunch")) == (2, 2)  # plain, then recorded and launched
        rig.loop.start(work)
        begun = len(rig.cuda.calls)
        rig.loop.run()
        recorded = ["begin capture", *(["unet", "copy", "copy"] * 3), "end capture", "instantiate", "destroy"]
        told = story(rig, begun)
        assert told.count("copy") == 3 * 2 + noise_copies + 2
        if not noise_copies:
            assert told == ["record", *recorded, "launch", "copy", "copy", "record"]
        rig.loop.start(work)
        begun = len(rig.cuda.calls)
        rig.loop.run()
        assert story(rig, begun) == ["record", "launch", "copy", "copy", "record"]


def test_another_number_of_rows_or_other_noise_has_another_graph() -> None:
    with open_rig() as rig:
        warm(rig, "ddim", 3)
        for sampler, steps in (("ddim", 4), ("euler_a", 4), ("ddim", 4)):
            rig.loop.start(make_job(sampler, steps)[1])
            begun = len(rig.cuda.calls)
            rig.loop.run()
            assert rig.cuda.names()[begun:].count("cudaGraphLaunch") == 4
        assert len(rig.cuda.executables) == 3  # text encoder, step, decoder: that of the loop is gone


def test_loops_of_many_rows_are_not_recorded_as_one() -> None:
    with open_rig() as rig:
        for _ in range(2):
            rig.loop.start(make_job(steps=65)[1])
            begun = len(rig.cuda.calls)
            rig.loop.run()
        assert rig.cuda.names()[begun:].count("cudaGraphLaunch") == 65


@pytest.mark.parametrize("sampler", ["ddim", "euler_a"])
def test_nothing_waits_from_the_first_upload_to_the_last_launch(sampler: str) -> None:
    _, work = make_job(sampler, steps=5)
    with open_rig() as rig:
        warm(rig, sampler, 5)
        begun = len(rig.cuda.calls)
        rig.loop.start(work)
        rig.loop.run()
        names = rig.cuda.names()[begun:]
        assert [name for name in names if name in WAITS] == ["cudaEventQuery"]
        assert names[0] == "cudaEventQuery"  # whether the last job's uploads are done: they are
        assert all(name.endswith("Async") or name in ("cudaEventRecord", "cudaGraphLaunch") for name in names[1:])


def test_steps_wait_for_one_event_each_with_rows_in_flight() -> None:
    _, work = make_job(steps=6)
    with open_rig() as rig:
        warm(rig, steps=6)
        rig.loop.start(work)
        begun, in_flight = launches(rig), []
        for row in rig.loop.steps(ahead=2):
            now = launches(rig)
            in_flight.append(now["cudaGraphLaunch"] - begun["cudaGraphLaunch"] - row - 1)
            assert now["cudaEventSynchronize"] - begun["cudaEventSynchronize"] == row + 1
        assert in_flight == [2, 2, 2, 2, 1, 0]
        assert launches(rig)["cudaStreamSynchronize"] == 0


def test_reading_a_state_does_not_wait_for_the_rows_ahead() -> None:
    _, work = make_job(steps=6)
    with open_rig() as rig:
        rig.loop.start(work)
        steps = rig.loop.steps(ahead=2)
        next(steps)
        pending = len(rig.cuda.streams[rig.stream].pending)
        assert pending > 0
        rig.loop.latents()
        rig.loop.denoised()
        assert len(rig.cuda.streams[rig.stream].pending) == pending


def test_uploads_wait_only_for_those_before_them() -> None:
    _, work = make_job(steps=2)
    with open_rig() as rig:
        rig.loop.start(work)
        begun = len(rig.cuda.calls)
        rig.loop.start(work)  # the first one's uploads are still to be done
        assert story(rig, begun)[:2] == ["ask", "wait"]


def test_addresses_are_bound_once_and_scratch_is_shared() -> None:
    _, work = make_job(steps=3)
    with open_rig() as rig:
        engines = (rig.engines.text_encoder, rig.engines.step, rig.engines.decoder)
        contexts = [engine._open().context for engine in engines]  # type: ignore[attr-defined]
        bound = [dict(context.addresses) for context in contexts]
        scratch = {context.scratch[0] for context in contexts}
        assert len(scratch) == 1
        assert len(rig.cuda.device[scratch.pop()]) == max(engine.scratch_bytes for engine in engines)
        assert bound[0]["last_hidden_state"] == bound[1]["encoder_hidden_states"]
        held = len(rig.cuda.device)
        warm(rig)
        rig.loop.start(work)
        list(rig.loop.steps())
        assert [context.addresses for context in contexts] == bound
        assert len(rig.cuda.device) == held + 2 * 3  # three slots for states


def test_engines_that_cannot_be_captured_are_launched_plainly() -> None:
    for streaming, trt in (
        (True, lambda cuda: _tuned(FakeTensorRT(cuda), budget=10)),
        (False, lambda cuda: _tuned(FakeTensorRT(cuda, rtx=True), capturable=False)),
    ):
        with open_rig(trt=trt, streaming=streaming) as rig:
            warm(rig)
            warm(rig)
            assert launches(rig)["cudaGraphLaunch"] == 0
            unrecorded = "launched without a CUDA graph, because its engine cannot be recorded: pictures take longer"
            assert sorted(rig.told) == [f"{name}: {unrecorded}" for name in ("decoder", "sampling step", "text encoder")]


def test_engines_that_record_themselves_are_launched_plainly_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TensorRTEngine, "records_itself", True)
    with open_rig(streaming=True, trt=lambda cuda: _tuned(FakeTensorRT(cuda), budget=10)) as rig:
        warm(rig)
        assert rig.told == []


def test_weights_that_all_fit_are_captured() -> None:
    with open_rig(streaming=True) as rig:
        warm(rig)
        assert launches(rig)["cudaGraphLaunch"] > 0


def _tuned(trt: FakeTensorRT, **changes: object) -> FakeTensorRT:
    for name, value in changes.items():
        setattr(trt, name, value)
    return trt


def test_noise_goes_up_ahead_in_one_copy_and_its_room_is_used_again() -> None:
    shape = Shape(images=1, sequence=SEQUENCE)
    _, work = make_job("euler_a", steps=4, guidance=Guidance.PLAIN, shape=shape)
    with open_rig(Guidance.PLAIN, shape) as rig:
        rig.loop.start(work)
        noise = next(arguments for name, arguments in rig.cuda.calls if name == "cudaMemcpyAsync")
        assert noise[2] == 3 * work.latents.nbytes  # the last row of euler_a has none
        rig.loop.run()
        held = len(rig.cuda.device)
        for steps, more in ((2, 0), (3, 0), (4, 0), (5, 1), (6, 1), (7, 1), (8, 2)):  # room for 3 rows, then 6, then 12
            rig.loop.start(make_job("euler_a", steps, guidance=Guidance.PLAIN, shape=shape)[1])
            rig.loop.run()
            assert len(rig.cuda.device) == held + more
        assert np.isfinite(rig.loop.latents()).all()
