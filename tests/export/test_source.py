import re
from pathlib import Path

import pytest

from sd2rt.engine.errors import ExportError, InvalidArgument, ModelNotFound, Sd2rtError
from sd2rt.export.options import ExportOptions
from sd2rt.export.source import open_source

pytestmark = pytest.mark.torch

RANDOM = ExportOptions(random_weights=True, preset="sd21", weights_seed=3)


def test_random_weights_need_no_source() -> None:
    assert open_source(None, RANDOM, print).source == "random weights, preset sd21, seed 3"


@pytest.mark.parametrize(
    ("source", "options", "error", "words"),
    [
        ("folder", RANDOM, InvalidArgument, "together with random weights"),
        (None, ExportOptions(), InvalidArgument, "expected a folder"),
        ("model.ckpt", ExportOptions(), ExportError, r"model\.ckpt is a pickle: .*any code"),
        ("model.pt", ExportOptions(), ExportError, "pickle"),
        ("nowhere/model.safetensors", ExportOptions(), ModelNotFound, r"no file nowhere/model\.safetensors"),
        ("nowhere/model.safetensors", ExportOptions(preset="sd21"), ModelNotFound, "no file"),
        ("sd21", ExportOptions(preset="sd21"), InvalidArgument, "leave the preset out"),
        ("sd9", ExportOptions(), ModelNotFound, "no checkpoint 'sd9'"),
        (".", ExportOptions(preset="sd21"), InvalidArgument, r"got sd21 with \., which brings its own configs"),
    ],
)
def test_sources_that_cannot_be_read(source: str | None, options: ExportOptions, error: type[Sd2rtError], words: str) -> None:
    with pytest.raises(error, match=words):
        open_source(source, options, print)


@pytest.mark.parametrize("source", ["./stable-difusion-2-1", "../x", "/x/y", "~/x", ".x", Path("x/y")])
@pytest.mark.parametrize("preset", [None, "sd21"])
def test_mistyped_paths_never_reach_the_hub(
    source: str | Path, preset: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")  # where nobody else has put a folder of that name
    monkeypatch.setattr("sd2rt.export.source.download", lambda repo: pytest.fail(f"asked the hub for {repo}"))
    with pytest.raises(ModelNotFound, match=f"no such folder {re.escape(str(source))};"):
        open_source(source, ExportOptions(preset=preset), print)


def test_folders_and_files_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ExportError, match=r"model_index\.json"):
        open_source(tmp_path, ExportOptions(), print)
    with pytest.raises(ExportError, match=r"cannot read .*model\.safetensors"):
        open_source(str(tmp_path / "model.safetensors"), ExportOptions(), print)


def test_pickles_are_refused_even_where_the_file_exists(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"\x80\x04")
    with pytest.raises(ExportError, match="pickle"):
        open_source(tmp_path / "model.ckpt", ExportOptions(), print)
