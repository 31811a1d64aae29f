"""Device engines on numpy arrays: the same results as ONNX Runtime's, whatever the shapes, and errors that say what to do."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sd2rt.engine.cuda import Driver
from sd2rt.engine.errors import EngineError, InvalidArgument
from sd2rt.engine.protocol import DeviceEngine
from sd2rt.engine.staged import Sizing, StagedEngine
from sd2rt.engine.trt_run import load_plan
from tests.engine.device_rig import RANGES, files
from tests.engine.fake_cuda import FakeCuda, Status
from tests.engine.fake_tensorrt import FakeTensorRT, write_plan
from tests.engine.step_loop import open_session

DECODER = files("vae_decoder")


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


def opener(cuda: FakeCuda, folder: Path) -> tuple[Driver, Callable[[int], DeviceEngine]]:
    """Return what a staged engine of the decoder is made from; its outputs have axes that its input has not."""
    driver = Driver(cuda)
    ranges = {name: RANGES[name] for name in ("batch", "height", "width")}
    entry = write_plan(folder, DECODER, None, ranges)
    return driver, lambda stream: load_plan(FakeTensorRT(cuda), entry, driver, stream)


@pytest.fixture
def engine(cuda: FakeCuda, tmp_path: Path) -> StagedEngine:
    driver, load = opener(cuda, tmp_path)
    return StagedEngine(driver, load, "vae_decoder")


def latents(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def test_results_are_those_of_the_graph_for_every_shape(cuda: FakeCuda, engine: StagedEngine) -> None:
    expected = open_session(DECODER.onnx)
    assert [spec.name for spec in engine.inputs + engine.outputs] == ["latent_sample", "sample"]
    for seed, shape in enumerate([(1, 4, 8, 8), (1, 4, 8, 8), (3, 4, 6, 10), (1, 4, 8, 8)]):
        feed = latents(*shape, seed=seed)
        (wanted,) = expected.run(None, {"latent_sample": feed})
        np.testing.assert_array_equal(engine.run({"latent_sample": feed})["sample"], wanted)
    engine.close()
    engine.close()
    assert cuda.leaks() == {}


def test_memory_is_kept_while_shapes_stay(cuda: FakeCuda, engine: StagedEngine) -> None:
    first = engine.run({"latent_sample": latents(1, 4, 8, 8)})["sample"]
    before, count = first.copy(), cuda.names().count("cudaMalloc")
    engine.run({"latent_sample": latents(1, 4, 8, 8, seed=1)})
    assert cuda.names().count("cudaMalloc") == count
    np.testing.assert_array_equal(first, before)
    engine.run({"latent_sample": latents(2, 4, 8, 8)})
    assert len(cuda.device) == 3  # input, output, scratch


def test_feeds_are_cast_and_checked(engine: StagedEngine) -> None:
    double = engine.run({"latent_sample": latents(1, 4, 8, 8).astype(np.float64)})
    assert double["sample"].dtype == np.float32
    with pytest.raises(InvalidArgument, match="vae_decoder: got inputs sample; expected latent_sample"):
        engine.run({"sample": latents(1, 4, 8, 8)})
    with pytest.raises(InvalidArgument, match="vae_decoder: got height 20; expected 2 to 16"):
        engine.run({"latent_sample": latents(1, 4, 20, 8)})
    assert np.isfinite(engine.run({"latent_sample": latents(1, 4, 8, 8)})["sample"]).all()


def test_a_closed_engine_says_so(engine: StagedEngine) -> None:
    engine.close()
    with pytest.raises(EngineError, match="vae_decoder: the engine is closed; open it again"):
        engine.run({"latent_sample": latents(1, 4, 8, 8)})


def test_memory_that_runs_out_is_told_and_the_next_run_is_right(cuda: FakeCuda, engine: StagedEngine) -> None:
    feed = {"latent_sample": latents(1, 4, 8, 8)}
    wanted = engine.run(feed)["sample"]
    cuda.fail("cudaMalloc", 2, Status.cudaErrorMemoryAllocation)
    with pytest.raises(EngineError, match="out of memory"):
        engine.run({"latent_sample": latents(2, 4, 8, 8)})
    np.testing.assert_array_equal(engine.run(feed)["sample"], wanted)
    engine.close()
    assert cuda.leaks() == {}


def test_an_engine_that_does_not_load_leaves_nothing(cuda: FakeCuda) -> None:
    def load(stream: int) -> DeviceEngine:
        raise EngineError("no such plan")

    with pytest.raises(EngineError, match="no such plan"):
        StagedEngine(Driver(cuda), load)
    assert cuda.leaks() == {}


def test_an_engine_that_does_not_know_its_sizes_needs_outputs_with_the_inputs_axes(cuda: FakeCuda, tmp_path: Path) -> None:
    class Plain:
        """A device engine without `complete`."""

        def __init__(self, engine: DeviceEngine) -> None:
            self.inputs, self.outputs = engine.inputs, engine.outputs
            self.scratch_bytes, self.capturable, self.records_itself = engine.scratch_bytes, False, False
            self.bind, self.enqueue, self.close = engine.bind, engine.enqueue, engine.close

    driver, load = opener(cuda, tmp_path)
    engine = StagedEngine(driver, lambda stream: Plain(load(stream)))
    assert not isinstance(engine, Sizing)
    with pytest.raises(InvalidArgument, match="sample: got no size of axis 'image_height'"):
        engine.run({"latent_sample": latents(1, 4, 8, 8)})
    engine.close()
    assert cuda.leaks() == {}
