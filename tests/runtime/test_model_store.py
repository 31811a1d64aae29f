"""The models folder: names, what is there, what it takes, and how a model goes."""

import json
from pathlib import Path

import pytest

from sd2rt.engine.cache import list_engines
from sd2rt.engine.errors import InvalidArgument, ModelNotFound
from sd2rt.runtime import model_store
from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.model_store import (
    check_name,
    folder_bytes,
    list_models,
    model_engines,
    models_root,
    read_stored,
    remove_model,
    stored_folder,
    stored_name,
    stored_names,
    unshared_engines,
)
from sd2rt.runtime.models import find_model
from tests.runtime.bundles import write_bundle


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SD2RT_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("SD2RT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "models"


def test_the_folder_is_the_users_own_where_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SD2RT_MODELS")
    assert (models_root().name, models_root().parent.name) == ("models", "sd2rt")


def test_a_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SD2RT_MODELS", "~/models")
    assert models_root() == Path.home() / "models"


@pytest.mark.parametrize("name", ["sd21", "v2-1_768-ema-pruned", "a", "a.b", "someone--model", "x" * 100, "3d+"])
def test_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "a\\b", "/a", "a\0b", "a b", "-x", "a.", "x" * 101, "ä", "a\n", "C:x", "~"]
)
def test_names_are_never_paths(name: str) -> None:
    with pytest.raises(InvalidArgument, match="expected up to 100 letters, digits"):
        check_name(name)
    assert stored_folder(name) is None


def test_a_hub_id_has_a_name_of_its_own() -> None:
    assert stored_name("someone/their-model") == "someone--their-model"
    assert stored_name("a/b/c") is None


def test_a_stored_model_is_found_by_name_and_by_hub_id(root: Path) -> None:
    own, theirs = write_bundle(root / "own"), write_bundle(root / "someone--model")
    assert find_model("own") == own
    assert find_model("someone/model") == theirs


def test_a_bundle_in_the_current_folder_comes_first_and_another_folder_does_not(root: Path, tmp_path: Path) -> None:
    stored = write_bundle(root / "own")
    (tmp_path / "own").mkdir()
    assert find_model("own") == stored
    write_bundle(tmp_path / "own" / "deeper").rename(tmp_path / "here")
    (tmp_path / "own" / "deeper").parent.rmdir()
    (tmp_path / "here").rename(tmp_path / "own")
    assert find_model("own") == Path("own")


def test_a_name_that_is_not_there_names_those_that_are(root: Path) -> None:
    write_bundle(root / "own")
    with pytest.raises(ModelNotFound, match=rf"no model 'other': .*'own' in {root}, and bundle folders; `sd2rt models pull NAME`"):
        find_model("other")
    with pytest.raises(ModelNotFound, match=rf"no model 'other' in {root}: there are own"):
        read_stored("other")


def test_an_empty_folder(root: Path) -> None:
    assert (stored_names(), list(list_models())) == ([], [])
    with pytest.raises(ModelNotFound, match="there are none yet"):
        read_stored("own")


def test_only_bundles_with_names_are_listed(root: Path) -> None:
    write_bundle(root / "b")
    write_bundle(root / "a")
    write_bundle(root / ".removed-x")
    (root / "no-bundle").mkdir()
    (root / "file").touch()
    assert [model.name for model in list_models()] == ["a", "b"]


def test_a_damaged_model_is_listed_with_its_problem(root: Path) -> None:
    (write_bundle(root / "own") / "unet" / "model.onnx").unlink()
    model = read_stored("own")
    assert model.bundle is None
    assert "model.onnx is missing" in model.problem
    assert unshared_engines(model) == ()


def test_bytes_are_those_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "a").write_bytes(b"12")
    (tmp_path / "x" / "y" / "b").write_bytes(b"345")
    (tmp_path / "x" / "link").symlink_to(tmp_path / "x" / "a")
    assert folder_bytes(tmp_path / "x") == 5


def write_engine(cache: Path, files: dict[str, str], name: str) -> Path:
    """Write the record of an engine; nothing reads its files."""
    folder = cache / "engines" / (name * 64)
    folder.mkdir(parents=True, mode=0o700)
    record = {"schema": 1, "key": folder.name, "component": "unet", "target": "cpu", "fields": {"files": files}, "files": {}}
    (folder / "manifest.json").write_text(
        json.dumps({**record, "build_seconds": 1.0, "created": "2026-01-01", "sd2rt": "0.1.0", "notes": {}})
    )
    return folder


def test_engines_belong_to_the_models_whose_components_they_were_built_from(root: Path, tmp_path: Path) -> None:
    one = read_bundle(write_bundle(root / "one"))
    write_bundle(root / "two", contents={"unet/model.onnx": b"other"})
    unet = write_engine(tmp_path / "cache", dict(one.components["unet"].files.sha256), "a")
    text = write_engine(tmp_path / "cache", dict(one.components["text_encoder"].files.sha256), "b")
    write_engine(tmp_path / "cache", {"model.onnx": "0" * 64}, "c")
    assert {entry.folder for entry in model_engines(one, list_engines())} == {unet, text}
    assert [entry.folder for entry in unshared_engines(read_stored("one"))] == [unet]  # the other has the same text encoder


def test_removing(root: Path) -> None:
    write_bundle(root / "own")
    (root / ".removed-before").mkdir()
    remove_model(read_stored("own"))
    assert list(root.iterdir()) == []


def test_removing_a_link_leaves_what_it_leads_to(root: Path, tmp_path: Path) -> None:
    elsewhere = write_bundle(tmp_path / "elsewhere")
    root.mkdir()
    (root / "own").symlink_to(elsewhere)
    remove_model(read_stored("own"))
    assert stored_names() == []
    assert (elsewhere / "bundle.json").is_file()


def test_what_cannot_be_removed_stays(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(root / "own")

    def refuse(*arguments: object, **options: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(model_store.tempfile, "mkdtemp", refuse)
    with pytest.raises(PermissionError):
        remove_model(read_stored("own"))
    assert stored_names() == ["own"]
