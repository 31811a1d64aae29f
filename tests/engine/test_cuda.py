"""The driver: what it asks of cuda.bindings.runtime, how errors are told, and that the fake is like the real module."""

import inspect
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from sd2rt.engine import cuda as module
from sd2rt.engine.cuda import Driver, open_driver
from sd2rt.engine.errors import EngineError, TargetUnavailable
from sd2rt.engine.gpu import Gpu, find_gpu
from tests.engine.fake_cuda import CaptureMode, CopyKind, FakeCuda, Status


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture
def driver(cuda: FakeCuda) -> Driver:
    return Driver(cuda)


def test_a_driver_knows_its_gpu(driver: Driver) -> None:
    assert (driver.name, driver.capability, driver.driver_version, driver.total_bytes) == ("Fake GPU", (8, 9), 13010, 8 << 30)


def test_arrays_go_up_across_and_down(cuda: FakeCuda, driver: Driver) -> None:
    stream = driver.create_stream()
    source, target = driver.allocate(24), driver.allocate(24)
    sent, got = driver.pinned((2, 3), np.float32), driver.pinned((2, 3), "float32")
    assert (sent == 0).all()
    sent[...] = [[1, 2, 3], [4, 5, 6]]
    driver.upload(source, sent, stream)
    driver.copy(target, source, 24, stream)
    driver.zero(target, 8, stream)
    driver.download(got, target, stream)
    assert (got == 0).all()  # nothing is done before it is waited for
    driver.synchronize(stream)
    np.testing.assert_array_equal(got, [[0, 0, 3], [4, 5, 6]])
    for array in (sent, got):
        driver.free_pinned(array)
    for address in (source, target):
        driver.free(address)
    driver.destroy_stream(stream)
    assert cuda.leaks() == {}


def test_nothing_can_be_allocated_too_small(driver: Driver) -> None:
    assert driver.allocate(0) != driver.allocate(0)


def test_events_happen_in_the_stream_s_order(cuda: FakeCuda, driver: Driver) -> None:
    stream, address = driver.create_stream(), driver.allocate(8)
    first, second = driver.create_event(), driver.create_event()
    assert driver.is_done(first)  # never recorded
    driver.record(first, stream)
    for _ in range(3):
        driver.copy(address, address + 4, 4, stream)
    driver.record(second, stream)
    assert not driver.is_done(first)
    driver.wait(first)
    assert driver.is_done(first)
    assert not driver.is_done(second)
    driver.wait(second)
    assert driver.elapsed_seconds(first, second) == pytest.approx(0.003)
    for event in (first, second):
        driver.destroy_event(event)
    assert not cuda.events


def test_a_graph_does_what_was_recorded_each_time_it_is_launched(cuda: FakeCuda, driver: Driver) -> None:
    stream, a, b = driver.create_stream(), driver.allocate(4), driver.allocate(4)
    cuda.memory(a, 4)[:] = 1
    cuda.memory(b, 4)[:] = 0
    driver.begin_capture(stream)
    driver.copy(b, a, 4, stream)
    graph = driver.end_capture(stream)
    driver.synchronize(stream)
    assert cuda.memory(b, 4).tolist() == [0] * 4
    for value in (1, 2):
        cuda.memory(a, 4)[:] = value
        driver.launch(graph, stream)
        driver.synchronize(stream)
        assert cuda.memory(b, 4).tolist() == [value] * 4
    driver.destroy_graph(graph)
    assert (cuda.graphs, cuda.executables) == ({}, {})


def test_handles_are_ints(driver: Driver) -> None:
    stream = driver.create_stream()
    driver.begin_capture(stream)
    assert [type(handle) for handle in (stream, driver.create_event(), driver.end_capture(stream))] == [int, int, int]


def test_errors_name_the_call_and_clear_what_cuda_remembers(cuda: FakeCuda, driver: Driver) -> None:
    with pytest.raises(EngineError, match=r"^cudaStreamSynchronize: cudaErrorInvalidResourceHandle$"):
        driver.synchronize(12345)
    assert cuda.names()[-2:] == ["cudaGetLastError", "cudaGetErrorString"]
    event = driver.create_event()
    cuda.fail("cudaEventQuery", 1, Status.cudaErrorLaunchFailure)
    with pytest.raises(EngineError, match=r"^cudaEventQuery: cudaErrorLaunchFailure$"):
        driver.is_done(event)


@pytest.mark.parametrize("call", ["cudaMalloc", "cudaHostAlloc"])
def test_out_of_memory_says_how_much_and_what_to_do(call: str, cuda: FakeCuda, driver: Driver) -> None:
    cuda.fail(call, 1, Status.cudaErrorMemoryAllocation)
    remedy = "use a smaller size or batch, or close what else uses the GPU"
    with pytest.raises(EngineError, match=f"^{call}: out of memory for 3 MiB; {remedy}$"):
        driver.allocate(3 << 20) if call == "cudaMalloc" else driver.pinned((3, 1024, 1024), np.uint8)


def test_out_of_memory_elsewhere_says_what_to_do(cuda: FakeCuda, driver: Driver) -> None:
    stream = driver.create_stream()
    driver.begin_capture(stream)
    cuda.fail("cudaGraphInstantiate", 1, Status.cudaErrorMemoryAllocation)
    with pytest.raises(EngineError, match=r"^cudaGraphInstantiate: out of memory; use a smaller"):
        driver.end_capture(stream)
    assert cuda.graphs == {}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """Have a GPU found."""
    found = Gpu(name="Fake GPU", capability=(8, 9), driver_version=13010)
    monkeypatch.setattr(module, "find_gpu", lambda: found)
    return found


def test_a_driver_opens_over_the_real_module_s_place(gpu: Gpu, monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", SimpleNamespace(runtime=cuda))
    assert open_driver().name == gpu.name
    assert cuda.names()[1] == "cudaSetDevice"


def test_without_a_gpu_or_cuda_bindings_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_gpu", lambda: "no NVIDIA driver: install it")
    with pytest.raises(TargetUnavailable, match="no NVIDIA driver: install it"):
        open_driver()
    monkeypatch.setattr(module, "find_gpu", lambda: Gpu(name="", capability=(8, 9), driver_version=13010))
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(TargetUnavailable, match=re.escape("cuda-bindings cannot be imported") + ".*pip install"):
        open_driver()


def test_a_driver_of_an_older_cuda_is_refused(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda) -> None:
    monkeypatch.setattr(module, "find_gpu", lambda: Gpu(name="", capability=(8, 9), driver_version=12080))
    monkeypatch.setitem(sys.modules, "cuda.bindings", SimpleNamespace(runtime=cuda))
    with pytest.raises(
        TargetUnavailable, match=r"the NVIDIA driver runs CUDA 12\.8; cuda-bindings needs 13\.0 or later: update the driver"
    ):
        open_driver()


def test_the_fake_is_like_the_real_module() -> None:
    real = pytest.importorskip("cuda.bindings.runtime", exc_type=ImportError)
    functions = [name.removeprefix("do_") for name in dir(FakeCuda) if name.startswith("do_")]
    assert len(functions) > 25
    for name in functions:
        said = re.match(rf"cuda{name}\((.*)\)", getattr(real, f"cuda{name}").__doc__.strip())
        assert said is not None, name
        parameters = [part.split(":")[0].split()[-1] for part in said[1].split(",") if part.strip()]
        assert list(inspect.signature(getattr(FakeCuda, f"do_{name}")).parameters)[1:] == parameters
    for ours, theirs in ((Status, real.cudaError_t), (CopyKind, real.cudaMemcpyKind), (CaptureMode, real.cudaStreamCaptureMode)):
        assert {member.name: int(member) for member in ours} == {member.name: int(getattr(theirs, member.name)) for member in ours}
    for name in ("cudaStreamNonBlocking", "cudaEventBlockingSync", "cudaHostAllocDefault"):
        assert getattr(FakeCuda, name) == getattr(real, name)


def test_the_real_module_answers_as_the_driver_expects() -> None:
    real = pytest.importorskip("cuda.bindings.runtime", exc_type=ImportError)
    status, text = real.cudaGetErrorString(real.cudaError_t.cudaErrorMemoryAllocation)
    assert (status, text) == (real.cudaError_t.cudaSuccess, b"out of memory")
    assert int(real.cudaStream_t(1234)) == int(real.cudaEvent_t(1234)) == int(real.cudaGraphExec_t(1234)) == 1234
    _, version = real.cudaRuntimeGetVersion()
    assert version // 1000 == 13


@pytest.mark.skipif(isinstance(find_gpu(), Gpu), reason="made-up addresses are only safe where no GPU reads them")
def test_the_real_module_takes_what_the_driver_gives_it() -> None:
    real = pytest.importorskip("cuda.bindings.runtime", exc_type=ImportError)
    driver = object.__new__(Driver)
    driver._cuda = real
    array = np.zeros(4, np.float32)
    calls = [
        lambda: driver.allocate(16),
        lambda: driver.free(256),
        lambda: driver.pinned((4,), np.float32),
        lambda: driver.free_pinned(array),
        lambda: driver.upload(256, array, 1),
        lambda: driver.download(array, 256, 1),
        lambda: driver.copy(256, 512, 4, 1),
        lambda: driver.zero(256, 4, 1),
        lambda: driver.create_stream(),
        lambda: driver.destroy_stream(1),
        lambda: driver.synchronize(1),
        lambda: driver.create_event(),
        lambda: driver.destroy_event(1),
        lambda: driver.record(1, 1),
        lambda: driver.is_done(1),
        lambda: driver.wait(1),
        lambda: driver.elapsed_seconds(1, 1),
        lambda: driver.begin_capture(1),
        lambda: driver.end_capture(1),
        lambda: driver.launch(1, 1),
        lambda: driver.destroy_graph(1),
    ]
    for call in calls:  # types that it does not take would be TypeErrors
        with pytest.raises(EngineError, match="CUDA driver version is insufficient"):
            call()
    for handle in (real.cudaGraph_t(1), 1):
        assert real.cudaGraphInstantiate(handle, 0)[0] == real.cudaGraphDestroy(handle)[0] == real.cudaError_t.cudaErrorInsufficientDriver
