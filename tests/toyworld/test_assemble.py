"""Putting a model beside the others: shared files stored once, own ones in a folder, the same bytes every time."""

import hashlib
import json
from pathlib import Path

import pytest

from sd2rt.runtime.bundle import read_bundle
from sd2rt.toyworld import assemble
from tests.runtime.bundles import write_bundle


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the embedded models, with one in it."""
    monkeypatch.setattr(assemble, "BUNDLE", write_bundle(tmp_path / "bundle"))
    return tmp_path / "bundle"


def write_export(folder: Path) -> Path:
    """An export that differs from the first model in its UNet and one small file."""
    contents = {"unet/model.onnx.data": b"other weights", "tokenizer/tokenizer_config.json": b'{"other": 1}'}
    return write_bundle(folder, contents=contents)


def test_what_is_there_is_named_and_the_rest_is_copied(tmp_path: Path, family: Path) -> None:
    first = (family / "bundle.json").read_bytes()
    defaults = '{"steps": 9}'
    assemble.main([str(write_export(tmp_path / "export")), "toyworld-other", "--without", "vae_decoder", "--defaults", defaults])
    files = sorted(str(path.relative_to(family / "other")) for path in (family / "other").rglob("*") if path.is_file())
    assert files == ["tokenizer/tokenizer_config.json", "unet/model.onnx", "unet/model.onnx.data"]
    bundle = read_bundle(family / "other.json")
    assert (bundle.name, bundle.defaults.steps, bundle.defaults.sampler) == ("toyworld-other", 9, "ddim")
    assert set(bundle.components) == {"text_encoder", "unet"}
    assert bundle.component("text_encoder").files.onnx == family / "text_encoder" / "model.onnx"
    assert bundle.component("unet").files.data[0].read_bytes() == b"other weights"
    assert bundle.read_file("tokenizer/tokenizer_config.json") == b'{"other": 1}'
    assert bundle.files["tokenizer/tokenizer.json"].path == family / "tokenizer" / "tokenizer.json"
    assert (family / "bundle.json").read_bytes() == first


def test_once_more_gives_the_same_bytes(tmp_path: Path, family: Path) -> None:
    exported = str(write_export(tmp_path / "export"))
    (family / "other").mkdir()
    (family / "other" / "stale").touch()
    (family / "model_index.json").write_text("{}")  # a manifest of something else
    seen = []
    for _ in range(2):
        assemble.main([exported, "toyworld-other"])
        paths = sorted(path for path in family.rglob("*") if path.is_file())
        seen.append([(path, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths])
    assert seen[0] == seen[1]
    assert not (family / "other" / "stale").exists()


def test_a_third_model_shares_with_the_second(tmp_path: Path, family: Path) -> None:
    exported = str(write_export(tmp_path / "export"))
    assemble.main([exported, "toyworld-other"])
    assemble.main([exported, "toyworld-third"])
    assert not (family / "third").exists()
    assert json.loads((family / "third.json").read_text())["components"]["unet"]["folder"] == "other/unet"
    assert read_bundle(family / "third.json").component("unet").files.onnx == family / "other" / "unet" / "model.onnx"


def test_names_outside_the_family_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        assemble.main([str(tmp_path), "other"])
    assert "name: got 'other', expected toyworld-NAME" in capsys.readouterr().err
