"""Where pictures go: names and checks, on a real file system. The tests may run as root, so nothing relies on permission bits."""

from pathlib import Path

import pytest

from sd2rt.cli.output import is_folder, name_bases, plan_output
from sd2rt.engine.errors import InvalidArgument


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("out", "pictures", "expected"),
    [
        (None, 1, ["sd2rt-7.png"]),
        (None, 2, ["sd2rt-7.png", "sd2rt-8.png"]),
        ("red.png", 1, ["red.png"]),
        ("RED.PNG", 1, ["RED.PNG"]),
        ("red.png", 3, ["red-1.png", "red-2.png", "red-3.png"]),
        ("a/b/red.png", 1, ["a/b/red.png"]),
        ("new", 1, ["new/sd2rt-7.png"]),
        ("v1.5/", 1, ["v1.5/sd2rt-7.png"]),
    ],
)
def test_names(out: str | None, pictures: int, expected: list[str], tmp_path: Path) -> None:
    plan = plan_output(out, pictures=pictures, force=False)
    assert [plan.path(index, 7 + index) for index in range(pictures)] == [Path(name) for name in expected]
    assert list(tmp_path.iterdir()) == []  # planning leaves nothing behind


def test_an_existing_folder_is_a_folder_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "v1.png").mkdir()
    assert plan_output("v1.png", pictures=1, force=False).path(0, 3) == Path("v1.png/sd2rt-3.png")


def test_names_after_seeds_never_replace(tmp_path: Path) -> None:
    for name in ("sd2rt-7.png", "sd2rt-7-2.png"):
        (tmp_path / name).touch()
    for force in (False, True):
        assert plan_output(None, pictures=1, force=force).path(0, 7) == Path("sd2rt-7-3.png")


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("red.gif", "ends in one of .png, .jpg, .jpeg, .webp"),
        ("taken.png", "--force"),
        ("taken.png/", "cannot write there"),
        ("taken.png/red.png", "cannot write there"),
        ("taken.png/sub/red.png", "cannot write there"),
        ("/proc/red.png", "cannot write there"),
        ("/proc/sub/folder/", "cannot write there"),
        ("x" * 300 + ".png", "cannot write there"),
    ],
)
def test_refused(out: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "taken.png").write_bytes(b"before")
    with pytest.raises(InvalidArgument, match=words):
        plan_output(out, pictures=1, force=False)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("taken.png", b"before")]


@pytest.mark.parametrize(
    ("out", "folder"),
    [
        (None, True),
        ("new", True),
        ("a.png/", True),
        ("there.png", True),
        ("a.png", False),
        ("x" * 5000, True),
        ("x" * 5000 + ".png", False),
    ],
)
def test_a_folder_is_told_from_a_file(out: str | None, folder: bool, tmp_path: Path) -> None:
    (tmp_path / "there.png").mkdir()
    assert is_folder(out) == folder


def test_one_taken_name_of_several_is_refused(tmp_path: Path) -> None:
    (tmp_path / "red-2.png").touch()
    with pytest.raises(InvalidArgument, match=r"red-2\.png"):
        plan_output("red.png", pictures=3, force=False)


def test_what_can_only_be_a_folder_is_one_and_has_a_name() -> None:
    assert plan_output("v1.5", pictures=1, force=False, option="--cells", folder=True).path(0, 7) == Path("v1.5/sd2rt-7.png")
    with pytest.raises(InvalidArgument, match=r"^--cells: got an empty name; expected a folder"):
        plan_output("", pictures=1, force=False, option="--cells", folder=True)
    Path("taken").touch()
    with pytest.raises(InvalidArgument, match=r"^--cells: got taken: cannot write there"):
        plan_output("taken", pictures=1, force=False, option="--cells", folder=True)


def test_force_replaces_files_but_no_folder(tmp_path: Path) -> None:
    (tmp_path / "red.png").touch()
    (tmp_path / "blue-1.png").mkdir()
    assert plan_output("red.png", pictures=1, force=True).force
    with pytest.raises(InvalidArgument, match=r"blue-1\.png"):
        plan_output("blue.png", pictures=2, force=True)


@pytest.mark.parametrize(
    ("out", "expected"), [("red.png", ["red-1-base-2.png", "red-2-base.png"]), (None, ["sd2rt-7-base.png", "sd2rt-8-base.png"])]
)
def test_what_a_plan_was_not_made_for_replaces_nothing(out: str | None, expected: list[str]) -> None:
    Path("red-1-base.png").touch()
    bases = name_bases(plan_output(out, pictures=2, force=True), (7, 8))
    assert [bases.path(index, 0) for index in (0, 1)] == [Path(name) for name in expected]
    assert not bases.force
