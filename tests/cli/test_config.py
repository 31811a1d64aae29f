"""`sd2rt config`."""

import json
import tomllib
from math import inf
from pathlib import Path

import pytest

from sd2rt.cli.config import EXAMPLE
from tests.cli.conftest import Command, assert_refused


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "settings" / "sd2rt.toml"
    monkeypatch.setenv("SD2RT_CONFIG", str(path))
    return path


def test_init_path_and_show(file: Path, sd2rt: Command) -> None:
    missing = sd2rt("config", "path")
    assert (missing.code, missing.out) == (0, f"{file}\n")
    assert missing.err == "there is none; `sd2rt config init` writes an example\n"
    assert sd2rt("config", "init").out == f"{file}\n"
    assert json.loads(sd2rt("config", "path", "--json").out) == {"path": str(file), "exists": True}
    shown = sd2rt("config", "show")
    assert (shown.code, shown.out) == (0, "")
    assert "nothing is set" in shown.err
    assert_refused(sd2rt("config", "init"), 2, f"{file} exists; edit it, or replace it with --force")
    assert sd2rt("config", "init", "--force").code == 0


def test_the_example_is_right_when_its_lines_are_taken(file: Path, sd2rt: Command) -> None:
    """Whatever is a setting or a table behind a `# `."""
    lines = [
        line.removeprefix("# ") for line in EXAMPLE.splitlines() if line.startswith("# ") and (" = " in line or line.startswith("# ["))
    ]
    settings = "\n".join(lines)
    assert len(tomllib.loads(settings)) > 10
    file.parent.mkdir()
    file.write_text(settings)
    assert sd2rt("config", "show").code == 0
    assert sd2rt("info").code == 0


def test_show_says_where_each_value_came_from(file: Path, sd2rt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    file.parent.mkdir()
    file.write_text('steps = 3\n[generate]\nnegative = "blurry"\nno-weighting = true\n')
    monkeypatch.setenv("SD2RT_SAMPLER", "euler a")
    monkeypatch.setenv("SD2RT_SAMPLLER", "x")
    shown = sd2rt("config", "show")
    assert [line.split("#")[0].strip() for line in shown.out.splitlines()] == [
        "steps = 3",
        'generate.negative = "blurry"',
        "generate.no-weighting = true",
        'sampler = "euler a"',
    ]
    assert [line.split("# ")[1] for line in shown.out.splitlines()] == [f"{file}, line {n}" for n in (1, 3, 4)] + ["SD2RT_SAMPLER"]
    assert shown.err == "SD2RT_SAMPLLER means nothing to sd2rt\n"
    rows = json.loads(sd2rt("config", "show", "--json").out)["settings"]
    assert rows[0] == {"table": "", "key": "steps", "value": 3, "source": f"{file}, line 1", "commands": rows[0]["commands"]}
    assert {"generate", "upscale"} < set(rows[0]["commands"])


def test_texts_are_shown_as_toml_has_them(file: Path, sd2rt: Command) -> None:
    file.parent.mkdir()
    file.write_text("negative = 'say \"hi\" \\ é'\nguidance = inf\n[export]\nlora = ['a']\n")
    shown = sd2rt("config", "show").out
    assert (
        tomllib.loads(shown) == tomllib.loads(file.read_text()) == {"negative": 'say "hi" \\ é', "guidance": inf, "export": {"lora": ["a"]}}
    )


def test_show_of_a_command_lists_all_its_options(file: Path, sd2rt: Command) -> None:
    file.parent.mkdir()
    file.write_text("steps = 3\n")
    rows = {row["key"]: row for row in json.loads(sd2rt("config", "show", "generate", "--json").out)["settings"]}
    assert (rows["steps"]["value"], rows["steps"]["source"]) == (3, f"{file}, line 1")
    assert (rows["model"]["value"], rows["model"]["source"]) == ("toyworld", "sd2rt")
    assert (rows["sampler"]["value"], rows["sampler"]["source"]) == (None, "the model, or what --help says")
    assert rows["no-weighting"]["value"] is False
    assert "force" not in rows
    text = sd2rt("config", "show", "engines prune").out
    assert "# engines.prune.max-gb" in text
    assert_refused(sd2rt("config", "show", "engines"), 2, "VERB: got 'engines'; expected a command of sd2rt")


def test_a_wrong_file_is_told_by_show_and_leaves_the_others_running(file: Path, sd2rt: Command) -> None:
    file.parent.mkdir()
    file.write_text("steps =")
    assert_refused(sd2rt("config", "show"), 2, "is no TOML")
    assert sd2rt("config", "path").code == 0
    assert sd2rt("config", "init", "--force").code == 0
    assert sd2rt("completion", "zsh").code == 0


def test_a_place_that_cannot_be_written(file: Path, sd2rt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("taken").touch()
    monkeypatch.setenv("SD2RT_CONFIG", "taken/sd2rt.toml")
    assert_refused(sd2rt("config", "init"), 2, "set SD2RT_CONFIG to another place")
