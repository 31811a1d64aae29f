"""The device loop over sessions of ONNX Runtime on the host's memory, behind a fake CUDA driver: the numpy loop's latents and pictures."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sd2rt.engine.cuda import Driver
from sd2rt.engine.device_loop import DeviceLoop, LoopEngines
from sd2rt.engine.ort_binding import OrtDeviceEngine, Place
from sd2rt.engine.ort_cuda import open_device
from sd2rt.engine.spec import BuildOptions, Guidance, PixelForm, StepForm
from tests.engine.device_rig import SCALING, SEQUENCE, axes_of, files, make_job, numpy_pictures, numpy_trajectory
from tests.engine.fake_cuda import FakeCuda
from tests.engine.ort_engines import built
from tests.engine.step_loop import GATE, Shape, difference

SHAPE = Shape(sequence=SEQUENCE)


class Late:
    """An engine whose work is done when the fake stream gets there, as on a GPU."""

    def __init__(self, cuda: FakeCuda, engine: OrtDeviceEngine) -> None:
        self._cuda = cuda
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def enqueue(self, stream: int) -> None:
        self._cuda.enqueue(stream, partial(self._engine.enqueue, stream))


@contextmanager
def open_loop(folder: Path, guidance: Guidance, *, fixed: bool) -> Iterator[DeviceLoop]:
    cuda = FakeCuda()
    driver = Driver(cuda)
    stream = driver.create_stream()
    axes = axes_of(SHAPE, guidance)

    def load(name: str, form: StepForm | PixelForm | None, **one: int) -> Any:
        ranges = {axis: (size, size, size) for axis, size in {**axes, **one}.items()} if fixed else {}
        options = BuildOptions(target="cuda", form=form, axes=ranges)
        return Late(cuda, open_device(built(files(name), options, folder / name), options, Place(device="cpu", stream=stream)))

    engines = LoopEngines(
        text_encoder=load("text_encoder", None),
        step=load("unet", StepForm(guidance=guidance)),
        decoder=load("vae_decoder", PixelForm(scaling_factor=SCALING), images=1, batch=1),
    )
    with DeviceLoop(driver, stream, engines, axes) as loop:
        yield loop
    for engine in (engines.text_encoder, engines.step, engines.decoder):
        engine.close()
    driver.destroy_stream(stream)
    assert cuda.leaks() == {}


@pytest.mark.parametrize("fixed", [True, False], ids=["fixed sizes", "any size"])
@pytest.mark.parametrize("guidance", Guidance)
def test_loop_equals_the_numpy_loop(guidance: Guidance, fixed: bool, tmp_path: Path) -> None:
    task, work = make_job("euler_a", guidance=guidance, shape=SHAPE)
    expected = numpy_trajectory(task, guidance)
    with open_loop(tmp_path, guidance, fixed=fixed) as loop:
        loop.start(work)
        assert difference([(loop.latents(), loop.denoised()) for _ in loop.steps()], expected) < GATE
        decoded = loop.decode()
        assert decoded.finite
        assert np.abs(decoded.pictures.astype(int) - numpy_pictures(expected[-1][0])).max() <= 1
        loop.start(work)
        loop.run()
        assert difference([(loop.latents(), loop.denoised())], expected[-1:]) < GATE
