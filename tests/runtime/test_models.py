"""Model names: the embedded model, bundle folders, and a way forward for everything else."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from sd2rt.engine.errors import ModelNotFound
from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.models import embedded_models, find_model
from tests.runtime.bundles import write_bundle


def test_a_bundle_folder(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "small")
    assert find_model(str(folder)) == folder
    assert find_model(folder) == folder


def test_a_manifest_in_a_bundle_folder(tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path / "small") / "bundle.json"
    assert find_model(str(manifest)) == manifest


@pytest.mark.parametrize(("name", "task"), [("toyworld-inpainting", "inpainting"), ("toyworld-depth", "depth-to-image")])
def test_the_embedded_family_shares_a_folder(name: str, task: str) -> None:
    family = read_bundle(find_model(name))
    assert (family.name, family.task, family.folder) == (name, task, find_model("toyworld"))


def test_a_diffusers_folder_says_export(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(ModelNotFound, match=f"diffusers checkpoint.*sd2rt export {tmp_path} --out"):
        find_model(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt"])
def test_a_checkpoint_file_says_export(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ModelNotFound, match=r"checkpoint file.*sd2rt export .* --out"):
        find_model(tmp_path / name)


def test_another_folder_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"it has no bundle\.json"):
        find_model(tmp_path)


@pytest.mark.parametrize("name", ["sd2-nothing", "", "a\0b", "~nobody-here/x", "model.safetensors"])
def test_unknown_names_say_what_is_known(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFound, match=r"known are 'toyworld', .*which are embedded|it has no bundle\.json"):
        find_model(name)


def test_an_impossible_name() -> None:
    with pytest.raises(ModelNotFound, match="cannot be opened: File name too long"):
        find_model("x" * 5000)


def test_an_embedded_model_that_this_installation_has_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(tmp_path / "bundle")
    package = SimpleNamespace(submodule_search_locations=[str(tmp_path / "absent"), str(tmp_path)])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: package)
    assert embedded_models() == {"toyworld": tmp_path / "bundle"}
    with pytest.raises(ModelNotFound, match="no model 'toyworld-depth': known are 'toyworld', which are embedded"):
        find_model("toyworld-depth")


def test_an_installation_without_the_embedded_model_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelNotFound, match="the embedded model 'toyworld-depth' is missing from this installation"):
        find_model("toyworld-depth")
