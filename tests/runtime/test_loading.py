"""`load`: from a name to pictures over real engines, and what it does when parts are missing or broken."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sd2rt.engine import build
from sd2rt.engine.errors import BundleError, EngineError, InvalidArgument, ModelNotFound
from sd2rt.runtime import load, loading
from sd2rt.runtime.options import Expected
from tests.runtime.onnx_bundle import write_onnx_bundle

pytest.importorskip("onnxruntime", reason="the cpu target needs onnxruntime")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SD2RT_CACHE", str(tmp_path / "cache"))


def test_a_bundle_folder_paints(tmp_path: Path) -> None:
    """Also a check of the fakes' seam: the same pipeline, real engines."""
    with load(write_onnx_bundle(tmp_path / "small"), target="cpu", threads=1) as pipe:
        result = pipe("red", seed=3, images_per_prompt=2, output="numpy")
        again = pipe("red", seed=4, output="numpy")
        other = pipe("blue", seed=4, output="numpy")
    assert pipe.target == "cpu"
    assert result.timings["load"] > 0
    assert isinstance(result.images, np.ndarray)
    assert result.images.shape == (2, 64, 48, 3)
    assert result.images.std() > 0.05
    np.testing.assert_allclose(result.images[1], again.images[0], atol=1e-5)
    assert abs(np.asarray(again.images) - np.asarray(other.images)).max() > 0.01


def test_engines_are_built_once_and_the_caller_is_told(tmp_path: Path) -> None:
    folder = write_onnx_bundle(tmp_path / "small")
    told: list[str] = []
    load(folder, notify=told.append).close()
    for component in ("text_encoder", "unet", "vae_decoder"):
        assert any(component in message for message in told)
    told.clear()
    load(folder, notify=told.append).close()
    assert told == []


def test_a_closed_pipeline_says_so(tmp_path: Path) -> None:
    with load(write_onnx_bundle(tmp_path / "small")) as pipe:
        pass
    with pytest.raises(EngineError, match="closed"):
        pipe("red")


def test_an_unknown_model_is_not_found() -> None:
    with pytest.raises(ModelNotFound, match="no model 'nonesuch'"):
        load("nonesuch")


def test_an_unknown_target_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="target: got 'abacus'"):
        load(write_onnx_bundle(tmp_path / "small"), target="abacus")


def test_a_gpu_has_no_choice_of_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "choose_bundle_target", lambda bundle, name: name)
    with pytest.raises(InvalidArgument, match="precision: got f32 for target cuda, which has no choice; expected target openvino"):
        load(write_onnx_bundle(tmp_path / "small"), target="cuda", precision="f32")


def test_the_decoder_that_calls_will_ask_for_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def open_engine(files: Any, *rest: Any) -> Any:
        opened.append(files.name)
        return build.open_engine(files, *rest)

    monkeypatch.setattr(loading, "open_engine", open_engine)
    with load(target="cpu", expect=Expected(decoder="tiny")) as pipe:
        assert opened == ["text_encoder", "unet", "tiny_vae_decoder"]
        pipe("a", steps=1, decoder="tiny")
        assert len(opened) == 3
    with pytest.raises(InvalidArgument, match="decoder: got 'big'; expected one of vae, tiny"):
        load(target="cpu", expect=Expected(decoder="big"))  # type: ignore[arg-type]


def test_deep_cache_leaves_out_a_part_of_the_unet() -> None:
    with load(target="cpu", expect=Expected(deep_cache=True)) as pipe:
        whole, same, short = (pipe("a red cube", steps=5, output="latents", **more) for more in ({}, {"deep_cache": 1}, {"deep_cache": 2}))
    np.testing.assert_allclose(same.images, whole.images, atol=1e-5)
    assert (whole.shallow_rows, same.shallow_rows) == (0, 0)
    assert short.shallow_rows == 4  # the second and the fourth evaluation, each of two rows
    assert np.abs(np.asarray(short.images) - whole.images).max() > 1e-2


def test_a_model_for_another_task_says_what_it_needs(tmp_path: Path) -> None:
    folder = write_onnx_bundle(tmp_path / "small", lambda document: document.update(task="inpainting"))
    with load(folder) as pipe, pytest.raises(InvalidArgument, match="image: got none; expected a picture, as small is for inpainting"):
        pipe("a red cube")


def _without_length(document: dict[str, Any]) -> None:
    document["components"]["text_encoder"]["inputs"][0]["shape"] = ["batch", "sequence"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda document: document["components"].pop("vae_decoder"), "has no vae_decoder"),
        (_without_length, "no input input_ids of a fixed length"),
    ],
)
def test_an_incomplete_bundle_is_refused(tmp_path: Path, edit: Any, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        load(write_onnx_bundle(tmp_path / "small", edit))


def test_a_changed_weight_is_refused(tmp_path: Path) -> None:
    graph = write_onnx_bundle(tmp_path / "small") / "unet" / "model.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.onnx: got SHA-256"):
        load(graph.parent.parent)


def test_importing_the_package_imports_neither_numpy_nor_a_backend() -> None:
    code = "import sys, sd2rt.runtime; print(sorted({'numpy', 'PIL', 'tokenizers', 'onnxruntime', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_importing_all_of_the_runtime_imports_no_backend_and_no_torch() -> None:
    code = (
        "import sys, pkgutil, importlib, sd2rt.runtime\n"
        "for module in pkgutil.iter_modules(sd2rt.runtime.__path__): importlib.import_module('sd2rt.runtime.' + module.name)\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'onnx', 'onnxruntime', 'tensorrt', 'openvino', 'sd2rt.export', 'PIL'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_scheduler_that_cannot_be_followed_is_told_before_engines_are_built(tmp_path: Path) -> None:
    def edit(document: dict[str, Any]) -> None:
        document["scheduler"] = {**document["scheduler"], "beta_schedule": "sigmoid"}

    with pytest.raises(BundleError, match="scheduler config: beta_schedule is 'sigmoid'"):
        load(write_onnx_bundle(tmp_path / "odd", edit))
    assert not (tmp_path / "cache").exists()
