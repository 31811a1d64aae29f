import errno
import hashlib
import json
from pathlib import Path

import pytest

from sd2rt.engine.errors import ExportError, InvalidArgument
from sd2rt.export.writer import describe_files, new_folder, write_json


def entries(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def make_bundle(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "bundle.json").write_text(text)


def test_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with new_folder(out, replace=False) as folder:
        (folder / "file").write_text("content")
        assert not out.exists()
    assert (out / "file").read_text() == "content"
    assert entries(out.parent) == ["out"]
    assert out.stat().st_mode & 0o777 == 0o755


def _fail_inside(out: Path, error: BaseException | type[BaseException]) -> None:
    with new_folder(out, replace=True) as folder:
        (folder / "half").write_text("written")
        raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_stays_after_a_failure(tmp_path: Path, error: type[BaseException]) -> None:
    make_bundle(tmp_path / "out", "old")
    with pytest.raises(error):
        _fail_inside(tmp_path / "out", error)
    assert entries(tmp_path) == ["out"]
    assert (tmp_path / "out" / "bundle.json").read_text() == "old"


def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(ExportError, match=r"cannot write .*out: No space left on device"):
        _fail_inside(tmp_path / "out", full)
    assert entries(tmp_path) == []


def test_replacing_takes_the_old_bundle_away(tmp_path: Path) -> None:
    make_bundle(tmp_path / "out", "old")
    with new_folder(tmp_path / "out", replace=True) as folder:
        (folder / "new").touch()
    assert entries(tmp_path) == ["out"]
    assert entries(tmp_path / "out") == ["new"]


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with new_folder(tmp_path / "out", replace=False) as folder:
        (folder / "new").touch()
    assert entries(tmp_path / "out") == ["new"]


def test_a_bundle_is_not_replaced_unasked(tmp_path: Path) -> None:
    make_bundle(tmp_path / "out", "old")
    with pytest.raises(InvalidArgument, match="not empty"), new_folder(tmp_path / "out", replace=False):
        pass
    assert entries(tmp_path) == ["out"]


def test_what_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InvalidArgument, match=r"no bundle\.json"), new_folder(tmp_path, replace=True):
        pass
    assert entries(tmp_path) == ["thesis.tex"]


def test_a_file_or_link_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(InvalidArgument, match="not a folder"), new_folder(tmp_path / name, replace=True):
            pass


def test_an_unwritable_place_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="cannot write in"), new_folder(tmp_path / "file" / "out", replace=False):
        pass


def test_files_are_described_by_hash_and_size(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "b.json", {"name": "Käthe"})
    content = (tmp_path / "a" / "b.json").read_bytes()
    assert json.loads(content) == {"name": "Käthe"}
    described = describe_files([tmp_path / "a" / "b.json"], tmp_path)
    assert described == {"a/b.json": {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}}


def test_json_has_no_infinity(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "x.json", {"psnr_db": float("inf")})
