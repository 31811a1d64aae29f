import errno
import hashlib
import json
from pathlib import Path

import pytest

from sd2rt.engine.errors import ExportError, InvalidArgument
from sd2rt.export.writer import describe_files, link_or_copy, new_folder, write_json


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


@pytest.mark.parametrize("error", [RuntimeError, OSError(errno.ENOSPC, "full"), KeyboardInterrupt])
def test_new_parents_vanish_after_a_failure_and_old_ones_stay(tmp_path: Path, error: BaseException | type[BaseException]) -> None:
    (tmp_path / "old").mkdir()
    with pytest.raises((RuntimeError, ExportError, KeyboardInterrupt)):
        _fail_inside(tmp_path / "old" / "a" / "b" / "out", error)
    assert entries(tmp_path) == ["old"]
    assert entries(tmp_path / "old") == []


def test_parents_that_cannot_all_be_made_are_taken_back(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot write in"), new_folder(tmp_path / "a" / ("b" * 300) / "out", replace=False):
        pass
    assert entries(tmp_path) == []


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


@pytest.mark.parametrize("out", [".", "", "new/..", "..", "../here"])
def test_the_current_folder_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InvalidArgument, match=r"is the current folder or around it"), new_folder(Path(out), replace=True):
        pytest.fail("the work began")
    assert entries(tmp_path) == ["here"]


def test_a_mount_point_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path)
    with pytest.raises(InvalidArgument, match=r"is a mount point .* name a new folder in it"), new_folder(tmp_path, replace=False):
        pytest.fail("the work began")


def test_a_path_with_dots_is_followed(tmp_path: Path) -> None:
    with new_folder(tmp_path / "nowhere" / ".." / "out", replace=False) as folder:
        (folder / "new").touch()
    assert (entries(tmp_path), entries(tmp_path / "out")) == (["out"], ["new"])


def test_a_bundle_is_not_replaced_unasked(tmp_path: Path) -> None:
    make_bundle(tmp_path / "out", "old")
    with pytest.raises(InvalidArgument, match=r"not empty; .*\(--force\)"), new_folder(tmp_path / "out", replace=False):
        pass
    assert entries(tmp_path) == ["out"]


@pytest.mark.parametrize("replace", [False, True])
def test_what_is_no_bundle_is_never_replaced(replace: bool, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InvalidArgument, match=r"no bundle\.json.*name a new folder$"), new_folder(tmp_path, replace=replace):
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


def test_files_are_copied_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    (tmp_path / "a").write_bytes(b"weights")
    link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"weights"


def test_what_is_there_is_not_written_through_its_other_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"weights")
    (tmp_path / "theirs").write_bytes(b"theirs")
    link_or_copy(tmp_path / "theirs", tmp_path / "b")
    with pytest.raises(FileExistsError):
        link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
