"""Keys of checkpoints by their content, and what is remembered so that files are read once."""

import json
import os
from pathlib import Path

import pytest

from sd2rt.engine.errors import ExportError
from sd2rt.export import content
from sd2rt.export.content import content_key


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    (made / "unet").mkdir(parents=True)
    (made / "model_index.json").write_text("{}")
    (made / "unet" / "weights.safetensors").write_bytes(b"weights")
    return made


def key(source: Path, index: Path | None = None) -> str:
    return content_key(source, index or source.parent / "none" / "index.json")


def test_the_same_content_has_the_same_key_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    before = key(folder)
    assert len(before) == 12
    folder.rename(tmp_path / "moved")
    assert key(tmp_path / "moved") == before


@pytest.mark.parametrize("change", ["weights", "name", "more"])
def test_any_change_is_another_key(change: str, folder: Path) -> None:
    before = key(folder)
    if change == "weights":
        (folder / "unet" / "weights.safetensors").write_bytes(b"weighty")
    elif change == "name":
        (folder / "unet" / "weights.safetensors").rename(folder / "unet" / "others.safetensors")
    else:
        (folder / "unet" / "more.json").touch()
    assert key(folder) != before


@pytest.mark.parametrize("name", [".gitattributes", ".cache/huggingface/x", "unet/weights.bin", "model.ckpt"])
def test_what_no_export_reads_changes_nothing(name: str, folder: Path) -> None:
    before = key(folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()
    assert key(folder) == before


def test_a_single_file_may_be_renamed(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"x")
    before = key(tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").rename(tmp_path / "b.safetensors")
    assert key(tmp_path / "b.safetensors") == before


def test_files_are_read_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "models" / ".hashes.json"
    before = key(folder, index)
    monkeypatch.setattr(content.hashlib, "file_digest", lambda *arguments: pytest.fail("read again"))
    assert key(folder, index) == before


def test_a_file_that_was_written_to_is_read_again(folder: Path, tmp_path: Path) -> None:
    index = tmp_path / ".hashes.json"
    before = key(folder, index)
    weights = folder / "unet" / "weights.safetensors"
    weights.write_bytes(b"WEIGHTS")
    os.utime(weights, ns=(weights.stat().st_atime_ns, weights.stat().st_mtime_ns + 1))
    assert key(folder, index) != before


def test_files_that_are_gone_are_forgotten(folder: Path, tmp_path: Path) -> None:
    index = tmp_path / ".hashes.json"
    key(folder, index)
    (folder / "model_index.json").unlink()
    key(folder, index)
    assert [Path(name).name for name in json.loads(index.read_text())] == ["weights.safetensors"]


@pytest.mark.parametrize("damage", ["no json", "[]", '{"a": 1}', '{"a": [1]}'])
def test_a_damaged_index_is_written_anew(damage: str, folder: Path, tmp_path: Path) -> None:
    index = tmp_path / ".hashes.json"
    index.write_text(damage)
    assert key(folder, index) == key(folder)
    assert len(json.loads(index.read_text())) == 2


def test_an_index_that_cannot_be_written_does_not_matter(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert key(folder, tmp_path / "file" / "index.json") == key(folder)


def test_a_full_disk_leaves_nothing_behind(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(content.os, "replace", refuse)
    assert key(folder, tmp_path / "models" / "index.json") == key(folder)
    assert list((tmp_path / "models").iterdir()) == []


def test_a_file_that_cannot_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied", "weights.safetensors")

    monkeypatch.setattr(content.hashlib, "file_digest", refuse)
    with pytest.raises(ExportError, match=r"weights\.safetensors cannot be read: Permission denied"):
        key(folder)


def test_a_folder_of_everything_is_no_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "MOST_FILES", 1)
    with pytest.raises(ExportError, match="has 2 files; expected the folder of one model"):
        key(folder)
