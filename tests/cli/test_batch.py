"""`sd2rt batch` on the embedded models: rows, failures, and real processes that are killed."""

import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sd2rt.cli import batch_run, paint
from sd2rt.cli.batch import batch as verb
from sd2rt.cli.row_options import RowOptions
from sd2rt.engine.errors import EngineError
from tests.cli.conftest import Command, Outcome, assert_refused, fill_disk, start, wait_for

ZERO = "line {}: steps: got '0'; expected an integer from 1 to 1000 "
QUICK = ("--steps", "2", "--seed", "7", "--quiet")


@pytest.fixture
def batch(sd2rt: Command) -> Command:
    """Write rows to a file and paint them with quick steps to `out`."""

    def run(rows: str, *options: str, name: str = "rows.txt") -> Outcome:
        Path(name).write_text(rows)
        return sd2rt("batch", name, "--out-dir", "out", *QUICK, *options)

    return run


def names(folder: str = "out") -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir() if path.suffix == ".png")


def test_rows_paint_what_the_same_command_lines_paint(batch: Command, sd2rt: Command) -> None:
    rows = (
        "a red cube\n--prompt a blue cone --seed 3 --cfg_scale 2 --sampler_name 'Euler a'\n# note\n--prompt a {red|green} cube --name both"
    )
    found = batch(rows)
    assert (found.code, found.err) == (0, "")
    assert found.out.splitlines() == ["out/0001-7.png", "out/0002-3.png", "out/both-1.png", "out/both-2.png"]
    alone = ["a red cube", "a blue cone", "a {red|green} cube"]
    more = [("--seed", "7"), ("--seed", "3", "--guidance", "2", "--sampler", "euler a"), ("--seed", "7")]
    for prompt, options in zip(alone, more, strict=True):
        assert sd2rt("generate", prompt, "--steps", "2", *options, "--out", f"alone/{prompt[2:4]}.png").code == 0
    pairs = [("0001-7", "re"), ("0002-3", "bl"), ("both-1", "{r-1"), ("both-2", "{r-2")]
    for ours, theirs in pairs:
        assert Path(f"out/{ours}.png").read_bytes() == Path(f"alone/{theirs}.png").read_bytes()


def test_engines_are_opened_once_and_the_same_row_twice_is_two(batch: Command, opened_engines: list[str]) -> None:
    assert batch("a red cube\n" * 3).out.splitlines() == [f"out/000{number}-7.png" for number in (1, 2, 3)]
    assert opened_engines == ["text_encoder", "unet", "vae_decoder"]
    assert batch("a red cube\n" * 4).out == "out/0004-7.png\n"
    opened_engines.clear()
    assert batch("a red cube\n" * 4).code == 0
    assert opened_engines == []


def test_the_second_run_goes_on_and_an_edited_file_does_the_right_thing(batch: Command) -> None:
    assert batch("a red cube\na blue cube\n").out == "out/0001-7.png\nout/0002-7.png\n"
    before = {name: Path("out", name).stat().st_mtime_ns for name in names()}
    assert batch("a red cube\na blue cube\n").out == ""
    changed = batch("a green cone\na red cube\na blue cube\na white cube\n", "--json")
    rows = [json.loads(line) for line in changed.out.splitlines()]
    assert [(row["line"], row["status"]) for row in rows] == [
        (2, "finished before"),
        (3, "finished before"),
        (1, "painted"),
        (4, "painted"),
    ]
    assert rows[0]["pictures"] == ["out/0001-7.png"]
    assert rows[2]["pictures"] == ["out/0001-7-2.png"]
    assert rows[2]["images"][0]["prompt"] == "a green cone"
    assert {name: Path("out", name).stat().st_mtime_ns for name in before} == before
    assert batch("a red cube\n", "--guidance", "2").out == "out/0001-7-3.png\n"  # other options are other work
    Path("out/0002-7.png").unlink()
    assert batch("a red cube\na blue cube\n").out == "out/0002-7.png\n"


def test_random_seeds_do_not_make_a_row_another(sd2rt: Command) -> None:
    Path("rows.txt").write_text("a red cube\n--prompt a cone --seed -1\n")
    command = ("batch", "rows.txt", "--out-dir", "out", "--steps", "1", "--quiet")
    assert len(sd2rt(*command).out.splitlines()) == 2
    assert sd2rt(*command).out == ""


def test_csv_and_json_lines_of_any_task(batch: Command, pictures: list[str]) -> None:
    found = batch("prompt,image,mask,strength,name\na cube,rgb.png,,0.9,img\na cone,rgb.png,mask.png,1,mask\na cube,,,,\n", name="rows.csv")
    assert found.out.splitlines() == ["out/img.png", "out/mask.png", "out/0003-7.png"]
    upscaled = batch('{"image": "rgb.png", "noise_level": 5}\n', "--model", "toyworld-upscaler", "--json", name="rows.jsonl")
    (row,) = map(json.loads, upscaled.out.splitlines())
    assert (row["images"][0]["width"], row["images"][0]["noise_level"]) == (256, 5)
    with Image.open(row["pictures"][0]) as image:
        assert image.size == (256, 192)
    Path("rgb.png").write_bytes(Path("palette.gif").read_bytes())  # another picture of the same name is another row
    assert len(batch("prompt,image,strength,name\na cube,rgb.png,0.9,img\n", name="rows.csv").out.splitlines()) == 1


def test_files_of_another_format_without_metadata(batch: Command) -> None:
    assert batch("a red cube\n", "--format", "webp", "--quality", "80", "--no-metadata").out == "out/0001-7.webp\n"
    with Image.open("out/0001-7.webp") as image:
        assert (image.format, "exif" in image.info) == ("WEBP", False)


def test_previews_of_all_rows_are_one_file_or_kept_in_a_folder(sd2rt: Command) -> None:
    Path("rows.txt").write_text("a red cube\na blue cube\n")
    found = sd2rt("batch", "rows.txt", "--out-dir", "out", "--steps", "3", "--seed", "7", "--preview", "latent")
    assert found.err.count("what it is going to be: out/batch-preview.png") == 2
    assert names() == ["0001-7.png", "0002-7.png"]
    assert (
        sd2rt("batch", "rows.txt", "--out-dir", "new", "--steps", "3", "--seed", "7", "--preview", "tiny", "--preview-dir", "seen").code
        == 0
    )
    assert names("seen") == [f"000{row}-7-step-00{step}.png" for row in (1, 2) for step in (1, 2)]


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ("a cube\n--steps 0 --prompt x\n--foo 1", [], ZERO.format(2) + "(and 1 more wrong row: line 3)"),
        ("\n".join(["--steps 0 --prompt x"] * 9), [], ZERO.format(1) + "(and 8 more wrong rows: line 2, 3, 4, 5, 6 and so on)"),
        ("--prompt x --image nope.png", [], "line 1: image: cannot open nope.png"),
        ("--seed 3", [], "line 1: prompt: got an empty text and no picture; expected a description of the picture"),
        ("--prompt x --name ../x", [], "line 1: name: got '../x'; expected a plain file name of at most 100 bytes, such as cube-1"),
        ("--prompt x --name .hidden", [], "line 1: name: got '.hidden'"),
        ("--prompt x --name " + "x" * 101, [], "expected a plain file name"),
        ("--prompt x --model toyworld", [], "line 1: model: no such option here"),
        ("a cube", ["--decoder", "small"], "line 1: decoder: got 'small'"),
        ("a cube", ["--preview", "rgb"], "--preview: got 'rgb'"),
        ("a cube", ["--format", "gif"], "--format: got 'gif'"),
        ("a cube", ["--out-dir", ""], "--out-dir: got an empty name; expected a folder"),
        ("a cube", ["--out-dir", "rows.txt"], "--out-dir: got rows.txt: cannot write there"),
        ("", [], "FILE: rows.txt has no rows"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("unused_cache")
def test_a_wrong_row_is_told_before_any_is_painted(rows: str, options: list[str], words: str, batch: Command) -> None:
    assert_refused(batch(rows, *options), 2, words)
    assert not Path("out").exists()


def fail_at(monkeypatch: pytest.MonkeyPatch, prompts: dict[str, BaseException]) -> None:
    real = paint.run_job

    def run_job(console: Any, pipe: Any, job: Any, *more: Any) -> Any:
        if job.prompts[0] in prompts:
            raise prompts[job.prompts[0]]
        return real(console, pipe, job, *more)

    monkeypatch.setattr(batch_run, "run_job", run_job)


def test_a_failure_stops_and_the_next_run_tries_again(batch: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        fail_at(patch, {"a blue cube": EngineError("the GPU is gone")})
        found = batch("a red cube\na blue cube\na cone\n")
    assert (found.code, found.out) == (1, "out/0001-7.png\n")
    done = "rows painted: 1; the same command goes on, --keep-going leaves out what fails"
    assert found.err == f"sd2rt: line 2: the GPU is gone ({done})\n"
    assert batch("a red cube\na blue cube\na cone\n").out == "out/0002-7.png\nout/0003-7.png\n"


def test_keep_going_paints_the_others(batch: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, {"a blue cube": EngineError("the GPU is gone"), "a cone": MemoryError()})
    found = batch("a blue cube\na red cube\na cone\n", "--keep-going", "--json")
    rows = [json.loads(line) for line in found.out.splitlines()]
    assert [(row["line"], row["status"], row.get("error", "")[:13]) for row in rows] == [
        (1, "failed", "the GPU is go"),
        (2, "painted", ""),
        (3, "failed", "out of memory"),
    ]
    assert (found.code, found.err) == (1, "sd2rt: 2 of 3 rows failed; the same command tries them again\n")


def test_a_picture_that_cannot_be_written_is_a_failure(batch: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_disk(monkeypatch)
    found = batch("a red cube\n")
    assert found.code == 1
    assert "line 1: output file: got out/.sd2rt-batch/new/" in found.err
    assert "it cannot be written (No space left on device); name another one; the picture is lost, since " in found.err
    assert "(rows painted: 0; the same command goes on" in found.err
    assert names() == []


def test_pictures_that_the_folder_does_not_take_are_kept(batch: Command, monkeypatch: pytest.MonkeyPatch, homeless: Path) -> None:
    home = homeless / "home"
    with monkeypatch.context() as patch:
        fill_disk(patch, room=home)
        found = batch("--prompt a {red|blue} cube --name both\n")
    assert (found.code, found.out) == (1, "")
    assert f"painted and kept: {home}/both-1.png, {home}/both-2.png (rows painted: 0" in found.err
    assert names() == []
    assert names(str(home)) == ["both-1.png", "both-2.png"]
    assert batch("--prompt a {red|blue} cube --name both\n").out == "out/both-1.png\nout/both-2.png\n"
    for name in names():
        assert Path("out", name).read_bytes() == (home / name).read_bytes()


def test_rows_take_every_option_that_says_what_to_paint() -> None:
    options = RowOptions(verb, without=("file", "kind", "keep_going"))
    said = ("prompt", "seed", "clip-skip", "wildcards", "rng", "variation-strength", "mask-blur", "noise-level", "tile", "decoder")
    assert [options.name(name) for name in said] == [name.replace("-", "_") for name in said]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_where_it_goes_on(number: signal.Signals, batch: Command) -> None:
    assert batch("a red cube\n").code == 0
    Path("rows.txt").write_text("a red cube\n--prompt a blue cube --steps 900\n")
    process = start("batch", "rows.txt", "--out-dir", "out", *QUICK[:4], "--preview", "latent")
    wait_for(process, Path("out/batch-preview.png").exists)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "rows painted: 0 of 1; the same command goes on\n" in err
    assert names() == ["0001-7.png"]
    assert list(Path("out/.sd2rt-batch/new").iterdir()) == []


def test_killed_at_random_moments_no_row_is_lost_or_painted_twice(batch: Command) -> None:
    rows = "".join(f"a {colour} {shape}\n" for colour in ("red", "blue", "green", "white") for shape in ("cube", "cone", "sphere")) * 2
    assert batch(rows).code == 0
    expected = {name: Path("out", name).read_bytes() for name in names()}
    assert len(expected) == 24
    draw = random.Random(1)
    for attempt in range(30):
        process = start("batch", "rows.txt", "--out-dir", "killed", *QUICK)
        assert process.stdout is not None
        if attempt < 5:
            for _ in range(draw.randint(1, 3)):  # rows of 24: after five kills some are left, however late these come
                process.stdout.readline()
            time.sleep(draw.uniform(0, 0.03))
            process.kill()
        process.communicate(timeout=60)
        if process.returncode == 0:
            break
    assert attempt >= 3
    assert {name: Path("killed", name).read_bytes() for name in names("killed")} == expected
    journal = [json.loads(line) for line in Path("killed/batch.jsonl").read_text().splitlines()]
    assert [entry["line"] for entry in journal] == list(range(1, 25))
