"""Every test here runs for each target that works on this machine's GPU; the others, and all without a GPU, are skipped with the reason.

SD2RT_FAKE_GPU=1 runs them on the fake GPU instead, which says nothing of a real one but that the tests themselves work.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sd2rt.engine.targets import probe_targets
from sd2rt.runtime import load
from sd2rt.runtime.bundle import Bundle, read_bundle
from sd2rt.runtime.engine_plan import PlanOptions
from sd2rt.runtime.models import find_model
from sd2rt.runtime.text_to_image import TextToImage
from tests.fake_gpu import fake_gpu

MODEL = "toyworld"
FAKE = bool(os.environ.get("SD2RT_FAKE_GPU"))


@pytest.fixture(scope="session", params=["tensorrt", "tensorrt-rtx", "cuda"])
def target(request: pytest.FixtureRequest, cache: Path) -> Iterator[str]:
    """Give a target that works here."""
    name: str = request.param
    if FAKE and name == "tensorrt":
        with fake_gpu(cache):
            yield name
        return
    status = next(status for status in probe_targets() if status.name == name)
    if not status.works:
        pytest.skip(f"{name}: {status.detail}")
    yield name


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Build into an engine cache of this run's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SD2RT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return read_bundle(find_model(MODEL))


@pytest.fixture(scope="session")
def options(target: str, bundle: Bundle) -> PlanOptions:
    """Return what `generate` builds for one picture of the model's own size."""
    size = bundle.native_size
    return PlanOptions(target=target, smallest=size, usual=size, largest=size)


@pytest.fixture(scope="session")
def pipe(target: str) -> Iterator[TextToImage]:
    with load(MODEL, target=target) as opened:
        yield opened


@pytest.fixture(scope="session")
def reference(cache: Path) -> Iterator[TextToImage]:
    """Give the same model on the cpu, in float32."""
    with load(MODEL, target="cpu") as opened:
        yield opened
