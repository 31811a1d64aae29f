import hashlib
import json
from pathlib import Path

import pytest

from sd2rt.engine.manifest import FileRecord, Manifest, engine_key, file_record, form_field, read_manifest, write_manifest
from sd2rt.engine.spec import DeepForm, DeepPart, Form, Guidance, PixelForm, StepForm, TextForm

MANIFEST = Manifest(
    key="k" * 64,
    component="unet",
    target="cpu",
    fields={"size": [64, 64], "batch": None},
    files={"engine.onnx": FileRecord(sha256="0" * 64, bytes=3)},
    build_seconds=1.5,
    created="2026-11-23T00:00:00+00:00",
    sd2rt="0.1.0",
)


def test_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    assert read_manifest(tmp_path) == MANIFEST


@pytest.mark.parametrize(
    "change",
    [{"schema": 2}, {"files": []}, {"files": {"engine.onnx": {"sha256": "0"}}}, {"component": None, "more": 1}],
    ids=["schema", "files are a list", "no length", "unknown field"],
)
def test_manifest_of_another_form_is_a_value_error(change: dict[str, object], tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=r"manifest\.json"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"'])
def test_text_that_is_no_manifest_is_a_value_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError):  # noqa: PT011 (json's own message, or ours)
        read_manifest(tmp_path)


def test_key_ignores_the_order_of_fields_and_sees_every_value() -> None:
    assert engine_key({"a": 1, "b": {"x": "1", "y": "2"}}) == engine_key({"b": {"y": "2", "x": "1"}, "a": 1})
    keys = {engine_key(fields) for fields in ({"a": 1}, {"a": 2}, {"a": None}, {"b": 1}, {"a": "1"}, {"a": [1]})}
    assert len(keys) == 6


@pytest.mark.parametrize(
    ("form", "field"),
    [
        (None, "null"),
        (StepForm(guidance=Guidance.RESCALED, kept=True), '{"StepForm": {"guidance": "rescaled", "kept": true}}'),
        (PixelForm(scaling_factor=0.18215), '{"PixelForm": {"scaling_factor": 0.18215}}'),
        (DeepForm(part=DeepPart.SHALLOW, branch=2), '{"DeepForm": {"part": "shallow", "branch": 2}}'),
        (TextForm(skip=1), '{"TextForm": {"skip": 1}}'),
    ],
)
def test_forms_stand_in_keys_as_they_did_in_every_version(form: Form, field: str) -> None:
    assert json.dumps(form_field(form)) == field


def test_file_record_is_hash_and_length(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc" * 1000)
    assert file_record(tmp_path / "x") == FileRecord(sha256=hashlib.sha256(b"abc" * 1000).hexdigest(), bytes=3000)
