"""What is set for good: one precedence, every value checked, every mistake told with its place."""

import json
import os
from pathlib import Path

import click
import pytest
from PIL import Image

from sd2rt.cli import settings_file
from sd2rt.cli.main import sd2rt as root
from sd2rt.cli.settings import (
    OF_ONE_TASK,
    config_path,
    default_map,
    effective,
    read_settings,
    settable,
    top_keys,
    unknown_variables,
    variable,
)
from sd2rt.cli.source_options import source_options
from sd2rt.engine.errors import InvalidArgument
from tests.cli.conftest import Command, assert_refused


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "sd2rt.toml"
    monkeypatch.setenv("SD2RT_CONFIG", str(path))
    return path


def held(text: str, environment: dict[str, str], tmp_path: Path) -> dict[tuple[str, str], object]:
    """What holds for each command and key."""
    (tmp_path / "c.toml").write_text(text)
    found = effective(read_settings(root, {"SD2RT_CONFIG": str(tmp_path / "c.toml"), **environment}))
    return {(setting.command, setting.key): setting.value for setting in found}


def test_the_precedence(file: Path, sd2rt: Command) -> None:
    """The file's top < a command's table < the environment < the command line."""
    file.write_text("steps = 1\nseed = 1\nsampler = 'ddim'\nguidance = 2.0\nquiet = true\n[generate]\nseed = 2\nguidance = 3\n")
    os.environ["SD2RT_GUIDANCE"] = "4"
    try:
        found = sd2rt("generate", "a red cube", "--sampler", "euler", "--target", "cpu", "--json", "--out", "red.png")
    finally:
        del os.environ["SD2RT_GUIDANCE"]
    [image] = json.loads(found.out)["images"]
    assert (image["steps"], image["seed"], image["guidance_scale"], image["sampler"]) == (1, 2, 4.0, "euler")
    assert found.err == ""


def test_the_top_is_for_the_commands_that_paint_and_some_of_it_for_all(tmp_path: Path) -> None:
    found = held('model = "m"\nsteps = 3\nguidance = 4.0\ntarget = "cpu"\nquiet = true\n', {}, tmp_path)
    of = {key: {command for command, name in found if name == key} for key in ("model", "steps", "guidance", "target", "quiet")}
    assert of["model"] == {"generate", "img2img", "inpaint", "batch", "grid"}
    assert of["steps"] == {*of["model"], "depth2img", "upscale"}  # not of quantize, where it means another thing
    assert of["guidance"] == of["steps"]  # not of build
    assert of["target"] == {*of["steps"], "build", "verify", "serve"}
    assert {"reproduce", "engines.prune", "models.pull", "export", "export-triton"} < of["quiet"]
    assert not any(command.startswith(("config", "doctor", "completion")) for command in of["quiet"])


def test_what_is_for_one_task_is_not_for_the_commands_of_all_tasks(tmp_path: Path) -> None:
    text = "strength = 0.6\ninvert = true\nmask-blur = 2\npaste = true\nexpand = '0,0,8,0'\nnoise-level = 5\ncount = 4\n"
    found = held(text, {}, tmp_path)
    assert {command for command, _ in found} == {"generate", "img2img", "inpaint", "depth2img", "upscale"}
    own = held("[batch]\nstrength = 0.6\ncount = 2\n", {"SD2RT_STRENGTH": "0.5"}, tmp_path)
    assert (own["batch", "strength"], own["batch", "count"]) == (0.6, 2)


def test_the_options_for_one_task_are_all_named() -> None:
    options = settable(source_options(click.Command("x")))  # type: ignore[arg-type, type-var]
    assert {*options, "count"} == set(OF_ONE_TASK)


def test_text_rows_and_cells_are_painted_whatever_is_set_for_pictures(sd2rt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"STRENGTH": "0.6", "NOISE_LEVEL": "5", "MASK_BLUR": "2", "COUNT": "4", "STEPS": "1", "QUIET": "1"}.items():
        monkeypatch.setenv(f"SD2RT_{name}", value)
    Path("rows.txt").write_text("a red cube\n")
    assert sd2rt("batch", "rows.txt", "--out-dir", "out", "--seed", "7").out == "out/0001-7.png\n"
    assert sd2rt("grid", "a red cube", "--x", "seed=1,2", "--out", "sheet.png").out == "sheet.png\n"


def test_a_format_and_quality_that_are_set_give_way_to_the_name_of_a_file(file: Path, sd2rt: Command) -> None:
    file.write_text("steps = 1\nseed = 7\nquiet = true\nformat = 'webp'\nquality = 80\n[reproduce]\nformat = 'webp'\nquality = 80\n")
    assert sd2rt("generate", "a red cube").out == "sd2rt-7.webp\n"
    for name, kind in {"red.png": "PNG", "red.jpg": "JPEG", "red.webp": "WEBP"}.items():
        painted = sd2rt("generate", "a red cube", "--out", name)
        assert (painted.code, painted.out) == (0, f"{name}\n"), painted.err
        with Image.open(name) as image:
            assert image.format == kind
    assert sd2rt("reproduce", "red.webp", "--out", "again.png").out == "again.png\n"
    assert sd2rt("reproduce", "red.png", "--out", "again/").out == "again/sd2rt-7.webp\n"
    Path("rows.txt").write_text("a red cube\n")
    assert sd2rt("batch", "rows.txt", "--out-dir", "out").out == "out/0001-7.webp\n"
    assert sd2rt("batch", "rows.txt", "--out-dir", "png", "--format", "png").out == "png/0001-7.png\n"
    assert_refused(sd2rt("generate", "x", "--format", "webp", "--out", "x.png"), 2, "--out: got x.png with --format webp; expected")
    assert_refused(sd2rt("generate", "x", "--quality", "80", "--out", "x.png"), 2, "--quality: got 80 for PNG, which loses nothing")


def test_an_upscaler_that_is_set_is_what_upscaling_uses_and_no_wish_for_it(file: Path, sd2rt: Command) -> None:
    file.write_text("steps = 1\nquiet = true\n[generate]\nupscaler = 'toyworld-upscaler'\n")
    sizes = []
    for options in ((), ("--upscale",), ("--upscaler", "toyworld-upscaler")):
        assert sd2rt("generate", "a red cube", "--out", "red.png", "--force", *options).code == 0
        with Image.open("red.png") as image:
            sizes.append(image.size)
    assert sizes == [(64, 64), (256, 256), (256, 256)]


def test_a_command_of_a_group_has_a_table_of_its_own(tmp_path: Path) -> None:
    assert held("[engines.prune]\nmax-gb = 20\n[models.pull]\ndtype = 'fp32'\n", {}, tmp_path) == {
        ("engines.prune", "max-gb"): 20.0,
        ("models.pull", "dtype"): "fp32",
    }


def test_values_of_every_type(tmp_path: Path) -> None:
    text = "negative = 'blurry'\nlow-memory = true\nguidance = 4\nmetadata = false\nno-weighting = true\n"
    text += "[export]\nlora = ['a.safetensors:0.5', 'b']\n"
    found = held(text, {}, tmp_path)
    assert found["generate", "negative"] == "blurry"
    assert found["generate", "low-memory"] is True
    assert found["generate", "metadata"] is False
    assert found["generate", "no-weighting"] is False  # of `weighting`
    assert found["export", "lora"] == ["a.safetensors:0.5", "b"]


def test_a_flag_set_in_the_file_is_taken_back_by_the_environment(tmp_path: Path) -> None:
    assert held("quiet = true\n", {"SD2RT_QUIET": "false"}, tmp_path)["generate", "quiet"] is False


def test_empty_variables_and_those_of_others_mean_nothing(tmp_path: Path) -> None:
    assert held("", {"SD2RT_STEPS": "", "SD2RT_CACHE": "x", "SD2RT_MODELS": "y", "SD2RT_DEBUG": "1", "STEPS": "4"}, tmp_path) == {}


def test_options_taken_from_a_file_work_as_on_the_command_line(file: Path, sd2rt: Command) -> None:
    """Flags, callbacks and ranges too."""
    file.write_text("steps = 2\nguidance-interval = '0,0.5'\nno-weighting = true\n")
    found = sd2rt("generate", "a (red:9) cube", "--target", "cpu", "--json", "--seed", "1", "--out", "red.png", "-q")
    assert json.loads(found.out)["images"][0]["guidance_interval"] == [0.0, 0.5]
    file.write_text("guidance-interval = 'x'\n")
    assert_refused(sd2rt("generate", "a red cube"), 2, "--guidance-interval: got 'x'")


def test_nothing_set_is_nothing_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_config_path", lambda name: tmp_path / name)
    assert default_map(root, {}) is None
    assert config_path({}) == tmp_path / "sd2rt" / "config.toml"
    (tmp_path / "sd2rt").mkdir()
    (tmp_path / "sd2rt" / "config.toml").write_text("steps = 3")
    assert default_map(root, {})["generate"] == {"steps": 3}  # type: ignore[index]


def test_a_file_in_the_current_folder_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_config_path", lambda name: tmp_path / "elsewhere")
    for name in ("sd2rt.toml", "config.toml", ".sd2rt.toml"):
        (tmp_path / name).write_text("steps = 3")
    assert default_map(root, {}) is None


MISTAKES = [
    ("steps = 'many'", r"line 1: steps: got many; expected an integer"),
    ("\n# x\nsteps = true", r"line 3: steps: got True; expected an integer"),
    ("steps = 1.5", "expected an integer"),
    ("guidance = 'x'", "line 1: guidance: got x; expected a number"),
    ("quiet = 1", "expected true or false"),
    ("negative = 3", r'expected a text in quotes, such as "auto"'),
    ("[export]\nlora = 'x'", "line 2: lora: got x; expected a list"),
    ("stepps = 3", r"line 1: stepps: no such option of the commands that paint; did you mean steps\?"),
    ("low_memory = true", r"did you mean low-memory\?"),
    ("qwertz = 3", "no such option of the commands that paint; `sd2rt config init` writes an example"),
    ("size = '512x512'", "no such option of the commands that paint"),
    ("[generate]\nstrength = 0.5", r"line 2: strength: no such option of generate that can be set"),
    ("[img2img]\nstrenght = 0.5", r"line 2: strenght: no such option of img2img that can be set; did you mean strength\?"),
    ("[genrate]\nsteps = 3", r"line 1: genrate: no such command of sd2rt; did you mean generate\?"),
    ("[engines.prun]\nall = true", r"line 1: engines\.prun: no such command of sd2rt; did you mean engines\.prune\?"),
    ("[engines]\nsteps = 3", r"line 2: steps: engines is a group of commands; expected a table of one, such as \[engines\.list\]"),
    ("force = true", "line 1: force: --force belongs to one call and is no setting; give it on the command line"),
    ("[generate]\njson = true", "line 2: json: --json belongs to one call"),
    ("[models.rm]\nyes = true", "line 2: yes: --yes belongs to one call"),
    ("[export]\nout = 'x'", "no such option of export that can be set"),  # it is required
    ("speed = 'faster'", "line 1: speed: got 'faster'; expected what --speed takes: 'faster' is not one of 'quality', 'balanced', 'fast'"),
    ("[engines.prune]\nmax-gb = -1", "max-gb: got '-1'; expected what --max-gb takes: -1.0 is not in the range"),
    ("steps = =\nseed = 1", r"is no TOML: .*line 1.*`sd2rt config init` writes an example"),
    ("steps = 1\nsteps = 2", "is no TOML: "),
    ("x = [" * 5000, "is no TOML: "),
    ("'odd\\tkey' = 1", r"odd\\tkey: no such option"),
]


@pytest.mark.parametrize(("text", "words"), MISTAKES)
def test_mistakes_in_the_file_are_told_with_their_place(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=words) as caught:
        held(text, {}, tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "c.toml"))


def test_a_mistake_stops_a_command_in_one_line(file: Path, sd2rt: Command) -> None:
    file.write_text("[generate]\nsteps = 'many'\n")
    assert_refused(sd2rt("info"), 2, f"sd2rt: {file}, line 2: steps: got many; expected an integer")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SD2RT_STEPS", "many", "SD2RT_STEPS: got 'many'; expected what --steps takes: 'many' is not a valid integer"),
        ("SD2RT_SPEED", "x", "SD2RT_SPEED: got 'x'; expected what --speed takes"),
        ("SD2RT_QUIET", "perhaps", "SD2RT_QUIET: got 'perhaps'; expected what --quiet takes"),
    ],
)
def test_mistakes_in_the_environment(name: str, value: str, words: str, sd2rt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert_refused(sd2rt("generate", "x"), 2, words)


def test_a_file_that_is_named_and_not_there(file: Path, sd2rt: Command) -> None:
    assert_refused(sd2rt("info"), 2, f"{file} cannot be read (No such file or directory); write one with `sd2rt config init`")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"#" * (1 << 20) + b"##"], ids=["no UTF-8", "too large"])
def test_files_that_are_something_else(content: bytes, file: Path, sd2rt: Command) -> None:
    file.write_bytes(content)
    assert_refused(sd2rt("info"), 2, str(file))


def test_variables_that_mean_nothing_are_known_to_be_so() -> None:
    environment = {"SD2RT_STEPPS": "1", "SD2RT_STEPS": "1", "SD2RT_CACHE": "x", "HOME": "/"}
    assert unknown_variables(root, environment) == ["SD2RT_STEPPS"]


def test_names_of_variables() -> None:
    assert variable("guidance-rescale") == "SD2RT_GUIDANCE_RESCALE"
    names = [variable(key) for key in top_keys(root)]
    assert len(names) == len(set(names))


def test_no_setting_takes_the_name_of_a_variable_that_means_something_else() -> None:
    assert not {"SD2RT_CACHE", "SD2RT_MODELS", "SD2RT_CONFIG", "SD2RT_DEBUG"} & {variable(key) for key in top_keys(root)}


def test_what_belongs_to_one_call_cannot_be_set() -> None:
    assert not {"force", "json", "image", "help"} & set(settable(root.commands["img2img"]))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[generate]\nsteps=1\n[ img2img ]  # x\n  'steps' = 'x'", 4),
        ("[upscale]\n\n[generate]\n\"steps\"   = 'x'", 4),
        ("generate.steps = 'x'", None),  # is right TOML, and its line is not looked for
    ],
)
def test_lines_are_found_however_they_are_written(text: str, line: int | None, tmp_path: Path) -> None:
    place = rf"c\.toml, line {line}: steps" if line else r"c\.toml: steps"
    with pytest.raises(InvalidArgument, match=place):
        held(text, {}, tmp_path)


def test_the_file_is_not_read_where_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """So that tomllib is not loaded either."""
    monkeypatch.setattr("platformdirs.user_config_path", lambda name: tmp_path)
    monkeypatch.setattr(settings_file, "read_file", lambda *arguments: pytest.fail("read"))
    assert read_settings(root, {}) == []
