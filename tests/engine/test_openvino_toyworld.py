"""The openvino target on the embedded models, all tasks, against the cpu target: whole pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sd2rt.engine.cache import list_engines
from sd2rt.runtime import load
from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.engine_plan import PlanOptions
from sd2rt.runtime.models import embedded_models, find_model
from sd2rt.runtime.options import Expected
from sd2rt.runtime.verify import verify_bundle

openvino = pytest.importorskip("openvino", reason="the openvino target needs openvino")
pytest.importorskip("onnxruntime", reason="the reference needs onnxruntime")
from sd2rt.engine import openvino as backend  # noqa: E402

PROMPT = "a large red sphere on the left and a small blue cube on the right, gray floor"
ROW = np.linspace(0, 255, 64).astype(np.uint8)
PICTURE = np.stack([np.broadcast_to(ROW, (64, 64)), np.broadcast_to(ROW[:, np.newaxis], (64, 64)), np.full((64, 64), 128, np.uint8)], -1)
MASK = np.zeros((64, 64), np.uint8)
MASK[16:48, 8:40] = 255
TASKS: dict[str, dict[str, Any]] = {
    "toyworld": {},
    "toyworld-inpainting": {"image": PICTURE, "mask": MASK},
    "toyworld-depth": {"image": PICTURE, "depth": np.broadcast_to(np.linspace(0, 1, 64, dtype=np.float32), (64, 64))},
    "toyworld-upscaler": {"image": PICTURE[::4, ::4]},
}
LEAST_DB = {"f32": 60.0, "bf16": 30.0}
pytestmark = pytest.mark.skipif(set(TASKS) - set(embedded_models()) != set(), reason="the embedded models are not all installed")


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(autouse=True)
def cache(engines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Share one engine cache, and take this CPU for one that computes in bfloat16."""
    monkeypatch.setenv("SD2RT_CACHE", str(engines))
    monkeypatch.setattr(backend, "has_bf16", lambda: True)


def paint(model: str, target: str, precision: str = "auto") -> npt.NDArray[np.float32]:
    with load(model, target=target, threads=1, precision=precision) as pipe:
        assert pipe.target == target
        result = pipe(PROMPT, seed=3, steps=6, output="numpy", **TASKS[model])
    return np.asarray(result.images, np.float32)


@pytest.mark.parametrize("model", TASKS)
def test_pictures_of_every_task_are_those_of_the_cpu_target(model: str) -> None:
    expected = paint(model, "cpu")
    for precision, least in LEAST_DB.items():
        error = np.mean((paint(model, "openvino", precision) - expected) ** 2, dtype=np.float64)
        assert -10 * np.log10(max(error, 1e-20)) >= least, precision


def test_every_component_passes_verification() -> None:
    """toyworld's UNet misses the gate in bf16 at its own size, where its deepest feature map is one pixel: it computes in f32."""
    bundle = read_bundle(find_model("toyworld"))
    size = bundle.native_size
    said: list[str] = []
    found = list(verify_bundle(bundle, PlanOptions(target="openvino", smallest=size, usual=size, largest=size), said.append))
    assert all(verdict.worst.passes for verdict in found)
    assert {verdict.component: verdict.notes["precision"] for verdict in found} == {
        "text_encoder": "bf16",
        "unet": "f32",
        "vae_decoder": "bf16",
        "vae_encoder": "bf16",
        "tiny_vae_decoder": "bf16",
    }
    assert any(line.startswith("unet: PSNR") and "it will compute in f32" in line for line in said)


def test_sizes_batches_and_guidance_use_the_same_engines() -> None:
    with load("toyworld", target="openvino", threads=1, precision="f32") as pipe, load("toyworld", target="cpu", threads=1) as reference:
        built = {entry.folder for entry in list_engines()}
        for options in ({"width": 104, "height": 40}, {"images_per_prompt": 3}, {"guidance_scale": 1.0}, {"guidance_interval": (0.3, 0.7)}):
            got, expected = (
                np.asarray(one(PROMPT, seed=5, steps=3, output="numpy", **options).images)  # type: ignore[arg-type]
                for one in (pipe, reference)
            )
            assert np.mean((got - expected) ** 2, dtype=np.float64) < 1e-6, options
        assert {entry.folder for entry in list_engines()} == built


def test_networks_can_be_opened_one_at_a_time_and_cut() -> None:
    cases: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
        ({"low_memory": True}, {}),
        ({"expect": Expected(deep_cache=True)}, {"deep_cache": 2}),
    )
    for options, more in cases:
        with load("toyworld", target="openvino", threads=1, precision="f32", **options) as pipe:
            got = np.asarray(pipe(PROMPT, seed=5, steps=4, output="numpy", **more).images)
        with load("toyworld", target="cpu", threads=1) as reference:
            expected = np.asarray(reference(PROMPT, seed=5, steps=4, output="numpy", **more).images)
        assert np.mean((got - expected) ** 2, dtype=np.float64) < 1e-6, options


def test_auto_takes_the_cpu_target_for_so_small_a_model() -> None:
    with load("toyworld", threads=1) as pipe:
        assert pipe.target == "cpu"
