"""The journal of a batch: whatever moment it is killed at, no row is lost and none is written twice."""

import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest

from sd2rt.cli.journal import JOURNAL, OWN, open_journal
from sd2rt.engine.errors import InvalidArgument

ROWS = {"red": ["0001-7.png"], "blue": ["0002-7.png", "0002-8.png"], "red again": ["0003-7.png"]}


class Killed(BaseException):
    """The process is gone."""


def run(folder: Path) -> list[str]:
    """Do all rows that are not finished; return those done now."""
    done = []
    with open_journal(folder) as journal:
        for key, names in ROWS.items():
            if journal.take(key) is None:
                paths = journal.finish(key, names, lambda path, index, key=key: path.write_text(f"{key} {index}"), {"prompts": [key]})  # type: ignore[misc]
                assert [path.read_text() for path in paths] == [f"{key} {index}" for index in range(len(names))]
                done.append(key)
    return done


def pictures(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.glob("*.png"))}


WHOLE = {"0001-7.png": "red 0", "0002-7.png": "blue 0", "0002-8.png": "blue 1", "0003-7.png": "red again 0"}


def test_rows_are_finished_once(tmp_path: Path) -> None:
    assert run(tmp_path) == list(ROWS)
    assert run(tmp_path) == []
    assert pictures(tmp_path) == WHOLE
    assert [json.loads(line)["prompts"] for line in (tmp_path / JOURNAL).read_text().splitlines()] == [[key] for key in ROWS]
    assert list((tmp_path / OWN / "new").iterdir()) == []


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count what reaches the disk; when the number becomes 0, the process is gone."""
    left = [10**9]

    def mortal(name: str, owner: Any) -> None:
        real = getattr(owner, name)

        def act(*arguments: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return real(*arguments, **more)

        monkeypatch.setattr(owner, name, act)

    for name in ("rename", "rmdir", "mkdir", "write_text"):
        mortal(name, Path)
    for name in ("fsync", "truncate"):
        mortal(name, os)
    return left


def moments_of_a_run(folder: Path, moments: list[int]) -> int:
    moments[0] = 10**9
    run(folder)
    return 10**9 - moments[0]


def test_killed_at_every_moment_no_row_is_lost_or_done_twice(tmp_path: Path, moments: list[int]) -> None:
    total = moments_of_a_run(tmp_path / "whole", moments)
    assert total > 20
    for moment in range(total):
        folder = tmp_path / str(moment)
        moments[0] = moment
        with pytest.raises(Killed):
            run(folder)
        moments[0] = 10**9
        finished = len((folder / JOURNAL).read_text().splitlines()) if (folder / JOURNAL).exists() else 0
        assert run(folder) == list(ROWS)[finished:], moment
        assert pictures(folder) == WHOLE, moment
        assert list((folder / OWN / "new").iterdir()) == []


def test_killed_again_and_again(tmp_path: Path, moments: list[int]) -> None:
    for step in range(1, 12):
        folder = tmp_path / str(step)
        done: list[str] = []
        for _ in range(200):
            moments[0] = 12 + step
            try:
                done = run(folder)
            except Killed:
                continue
            break
        assert len(done) <= 3
        assert pictures(folder) == WHOLE
        assert len((folder / JOURNAL).read_text().splitlines()) == 3


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_line_that_was_cut_is_none(cut: int, tmp_path: Path) -> None:
    run(tmp_path)
    content = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(content[:-cut])
    (tmp_path / "0003-7.png").unlink()
    assert run(tmp_path) == ["red again"]
    assert pictures(tmp_path) == WHOLE
    assert len((tmp_path / JOURNAL).read_bytes().splitlines()) == 3


def test_a_line_that_has_no_room_is_taken_back(tmp_path: Path) -> None:
    def write(path: Path, index: int) -> None:
        path.write_text("x")

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_journal(tmp_path) as journal:
        journal.finish("red", ["a.png"], write, {})
        whole = (tmp_path / JOURNAL).read_bytes()
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, before[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                journal.finish("blue", ["b.png"], write, {})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert (tmp_path / JOURNAL).read_bytes() == whole
        journal.finish("green", ["c.png"], write, {})
    with open_journal(tmp_path) as journal:
        assert [journal.take(key) is None for key in ("red", "blue", "green")] == [False, True, False]


def test_the_same_row_twice_is_two_rows(tmp_path: Path) -> None:
    def write(path: Path, index: int) -> None:
        path.write_text("x")

    with open_journal(tmp_path) as journal:
        paths = [journal.finish("same", ["a.png"], write, {}) for _ in range(2)]
    assert [path.name for row in paths for path in row] == ["a.png", "a-2.png"]
    with open_journal(tmp_path) as journal:
        assert [journal.take("same") is None for _ in range(3)] == [False, False, True]


def test_a_row_whose_picture_is_gone_is_not_finished(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "0002-8.png").unlink()
    assert run(tmp_path) == ["blue"]
    assert pictures(tmp_path) == WHOLE | {"0002-7-2.png": "blue 0"}


def test_a_name_that_somebody_took_meanwhile_is_left_alone(tmp_path: Path, moments: list[int]) -> None:
    def write(path: Path, index: int) -> None:
        path.write_bytes(b"ours")

    with open_journal(tmp_path) as journal:
        moments[0] = 4  # the row's line is written, its picture has not its name yet
        with pytest.raises(Killed):
            journal.finish("red", ["a.png"], write, {})
    moments[0] = 10**9
    (tmp_path / "a.png").write_bytes(b"theirs")
    with open_journal(tmp_path) as journal:
        assert journal.take("red") is not None
    assert pictures(tmp_path) == {"a.png": "theirs", "a-2.png": "ours"}


@pytest.mark.parametrize(
    "line",
    ["no json", "[]", '{"key": 1, "pictures": [], "new": "a"}', '{"key": "a", "pictures": ["../a.png"], "new": "a"}', '{"key": "a"}'],
)
def test_a_damaged_line_is_told(line: str, tmp_path: Path) -> None:
    run(tmp_path)
    with (tmp_path / JOURNAL).open("a") as stream:
        stream.write(line + "\n")
    with (
        pytest.raises(InvalidArgument, match=r"batch.jsonl, line 4: damaged; mend it, or choose another --out-dir"),
        open_journal(tmp_path),
    ):
        pass


def test_one_batch_at_a_time_and_only_where_it_can_write(tmp_path: Path) -> None:
    with (
        open_journal(tmp_path),
        pytest.raises(InvalidArgument, match="another batch is writing there; wait for it"),
        open_journal(tmp_path),
    ):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgument, match=r"cannot write there .*; choose another folder"), open_journal(tmp_path / "file"):
        pass
