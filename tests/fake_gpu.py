"""A machine with a GPU and TensorRT, as far as sd2rt sees: engines are built into the real cache and run on the fake CUDA driver.

with fake_gpu(folder) as gpu:       gpu.cuda is the fake driver; the target "tensorrt" works
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import copyfile
from tempfile import mkdtemp
from unittest.mock import patch

from sd2rt.engine.cuda import Driver
from sd2rt.engine.manifest import Field
from sd2rt.engine.protocol import DeviceEngine
from sd2rt.engine.spec import BuildOptions, ComponentFiles
from sd2rt.engine.staged import StagedEngine
from sd2rt.engine.store import CacheEntry, Notify
from sd2rt.engine.targets import choose_target
from sd2rt.engine.trt_run import PLAN_NAME, load_plan
from tests.engine.fake_cuda import FakeCuda
from tests.engine.fake_tensorrt import FakeTensorRT, write_plan

TARGET = "tensorrt"


class FakeGpu:
    """The backend of TARGET. Plans name graphs, which lie in `folder`, for as long as that is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cuda = FakeCuda()
        self.trt = FakeTensorRT(self.cuda)

    def open_driver(self) -> Driver:
        return Driver(self.cuda)

    def fingerprint(self, options: BuildOptions) -> Mapping[str, Field]:
        axes: Mapping[str, Field] = {name: list(sizes) for name, sizes in sorted(options.axes.items())}
        return {"fake": str(self.folder), "form": repr(options.form), "axes": axes, "gpu": {"name": "fake", "capability": "sm89"}}

    def build(self, files: ComponentFiles, options: BuildOptions, folder: Path, notify: Notify) -> Mapping[str, Field]:
        entry = write_plan(Path(mkdtemp(dir=self.folder)), self._copy(files), options.form, options.axes)
        copyfile(entry.folder / PLAN_NAME, folder / PLAN_NAME)
        return {**entry.manifest.notes, "precision": "as exported", "checked": "never: the GPU is a fake"}

    def _copy(self, files: ComponentFiles) -> ComponentFiles:
        """Copy a component: plans have hard links to it, which are not to be left on a bundle that others read."""
        folder = Path(mkdtemp(dir=self.folder))
        onnx, *data = (Path(copyfile(path, folder / path.name)) for path in files.paths)
        return replace(files, onnx=onnx, data=tuple(data))

    def load(self, entry: CacheEntry, options: BuildOptions) -> StagedEngine:
        driver = self.open_driver()
        return StagedEngine(driver, lambda stream: self.load_device(entry, options, driver, stream))

    def load_device(self, entry: CacheEntry, options: BuildOptions, driver: Driver, stream: int) -> DeviceEngine:
        return load_plan(self.trt, entry, driver, stream)


@contextmanager
def fake_gpu(folder: Path) -> Iterator[FakeGpu]:
    """Let the target work inside the block."""
    gpu = FakeGpu(folder)
    with (
        patch("sd2rt.engine.targets._obstacle", lambda name, *more, **named: "" if name in (TARGET, "cpu") else "fake"),
        patch("sd2rt.engine.build._device_backend", lambda target: gpu),
        patch("sd2rt.engine.cuda.open_driver", gpu.open_driver),
    ):
        assert choose_target(TARGET) == TARGET
        yield gpu
