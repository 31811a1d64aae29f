"""Folders that environment variables name."""

from pathlib import Path

import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.engine.places import chosen_path


def test_paths_are_absolute_and_home_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    environment = {"OWN": "~/x", "NEAR": "x", "FAR": "/x", "NONE": ""}
    found = [chosen_path(name, environment) for name in (*environment, "UNSET")]
    assert found == [tmp_path / "home" / "x", tmp_path / "x", Path("/x"), None, None]


def test_the_home_of_nobody_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"^FOLDER: got '~nobody-there/x', and there is no such home here; set it to a full path"):
        chosen_path("FOLDER", {"FOLDER": "~nobody-there/x"})
