"""`sd2rt grid` on the embedded models."""

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sd2rt.cli import grid as module
from sd2rt.cli import paint
from sd2rt.cli.contact_sheet import Sheet
from sd2rt.engine.errors import EngineError
from tests.cli.conftest import Command, Outcome, assert_refused, fill_disk, start, wait_for

RED = "a red cube"


@pytest.fixture
def grid(sd2rt: Command) -> Command:
    """Paint a grid with quick steps."""
    return lambda *options: sd2rt("grid", RED, "--steps", "2", "--seed", "7", "--quiet", *options)


def read(path: str) -> np.ndarray[Any, Any]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def contains(sheet: np.ndarray[Any, Any], cell: np.ndarray[Any, Any]) -> list[tuple[int, int]]:
    """Where a picture is in another: left and top of all places."""
    height, width, _ = cell.shape
    rows, columns = np.nonzero((sheet[: len(sheet) - height + 1, : sheet.shape[1] - width + 1] == cell[0, 0]).all(axis=2))
    corners = zip(columns.tolist(), rows.tolist(), strict=True)
    return [(x, y) for x, y in corners if np.array_equal(sheet[y : y + height, x : x + width], cell)]


def test_cells_are_what_the_same_command_lines_paint(grid: Command, sd2rt: Command) -> None:
    found = grid("--x", "sampler=ddim,euler", "--y", "guidance=1,3", "--out", "sheet.png", "--cells", "cells")
    assert found.code == 0, found.err
    names = ["y1-x1", "y1-x2", "y2-x1", "y2-x2"]
    assert found.out.splitlines() == ["sheet.png", *(f"cells/{name}.png" for name in names)]
    sheet, corners = read("sheet.png"), []
    for name, sampler, guidance in zip(names, ("ddim", "euler") * 2, "1133", strict=True):
        options = ("--steps", "2", "--seed", "7", "--sampler", sampler, "--guidance", guidance)
        assert sd2rt("generate", RED, *options, "--out", f"{name}.png").code == 0
        assert Path(f"cells/{name}.png").read_bytes() == Path(f"{name}.png").read_bytes()
        ((left, top),) = contains(sheet, read(f"{name}.png"))
        corners.append((left, top))
    assert corners[0][1] == corners[1][1] < corners[2][1] == corners[3][1]
    assert corners[0][0] == corners[2][0] < corners[1][0] == corners[3][0]


def test_the_sheet_tells_its_axes_and_cells(grid: Command) -> None:
    found = grid("--x", "prompt:red=red,blue", "--z", "guidance=2", "--json", "--out", "new/")
    assert found.code == 0, found.err
    result = json.loads(found.out)
    assert (result["sheet"], result["cells_written"]) == ("new/grid-7.png", [])
    with Image.open("new/grid-7.png") as image:
        text, ours = image.info["parameters"], json.loads(image.info["sd2rt-grid"])
    assert ours["axes"] == {
        "x": {"option": "prompt", "values": ["red", "blue"], "search": "red"},
        "z": {"option": "guidance", "values": ["2"]},
    }
    assert [(cell["x"], cell["z"], cell["parameters"]["prompt"]) for cell in ours["cells"]] == [(0, 0, RED), (1, 0, "a blue cube")]
    assert result["cells"] == ours["cells"]
    assert text.startswith(f"{RED}\nSteps: 2, Sampler: DPM++ 2M, CFG scale: 2, Seed: 7, Size: 64x64")
    assert text.endswith(', Script: X/Y/Z plot, X Type: prompt, X Values: "red, blue", Z Type: guidance, Z Values: "2"')


def test_one_seed_for_all_cells_unless_an_axis_has_others(sd2rt: Command) -> None:
    def seeds(*options: str) -> list[int]:
        found = sd2rt("grid", RED, "--steps", "1", "--quiet", "--json", *options)
        return [cell["parameters"]["seed"] for cell in json.loads(found.out)["cells"]]

    assert len(set(seeds("--x", "guidance=1,2,3"))) == 1
    assert seeds("--x", "seed=3..1") == [3, 2, 1]


def test_one_variation_seed_for_all_cells_that_need_one(grid: Command) -> None:
    def seeds(*options: str) -> list[int | None]:
        found = grid("--steps", "1", "--json", *options)
        assert found.code == 0, found.err
        return [cell["parameters"]["variation_seed"] for cell in json.loads(found.out)["cells"]]

    for asked in ((), ("--variation-strength", "0.5")):
        none, first, second = seeds("--x", "variation-strength=0,0.1,0.2", *asked)
        assert none is None
        assert first is not None
        assert first == second
    assert seeds("--x", "variation-strength=0.1,0.2", "--variation-seed", "3") == [3, 3]
    assert seeds("--x", "variation-seed=4,5", "--variation-strength", "0.5") == [4, 5]


def test_engines_are_opened_once_and_pictures_of_any_size_fit(grid: Command, opened_engines: list[str]) -> None:
    found = grid("--x", "width=64,128,32", "--y", "height=64,96", "--out", "a.png", "--cells", "cells", "--format", "webp", "--no-metadata")
    assert found.code == 0, found.err
    assert opened_engines == ["text_encoder", "unet", "vae_decoder"]
    with Image.open("cells/y2-x2.webp") as image:
        assert (image.size, "exif" in image.info) == ((128, 96), False)
    with Image.open("a.png") as image:
        assert image.info == {}
        assert image.width > 3 * 128


@pytest.mark.usefixtures("pictures")
def test_other_tasks_have_their_axes(grid: Command) -> None:
    found = grid("--image", "rgb.png", "--x", "strength=0.5,1", "--out", "a.png", "--json")
    assert [cell["parameters"]["strength"] for cell in json.loads(found.out)["cells"]] == [0.5, 1.0]
    upscaled = grid("--model", "toyworld-upscaler", "--image", "rgb.png", "--y", "noise-level=0,50", "--out", "b.png")
    assert upscaled.code == 0, upscaled.err
    with Image.open("b.png") as image:
        assert image.height > 2 * 192


def test_previews_and_notes(sd2rt: Command) -> None:
    command = ("grid", RED, "--x", "seed=1,2", "--steps", "3", "--preview", "latent", "--out", "a.png")
    found = sd2rt(*command)
    assert "2 cells, a sheet of " in found.err
    assert "cell 2 of 2, x2: seed 2\n" in found.err
    assert found.err.count("what it is going to be: a-preview.png") == 2
    assert sorted(path.name for path in Path().iterdir()) == ["a.png"]
    assert sd2rt(*command, "--preview-dir", "seen", "--force").code == 0
    assert sorted(path.name for path in Path("seen").iterdir()) == [f"a-x{cell}-step-00{step}.png" for cell in (1, 2) for step in (1, 2)]


@pytest.mark.parametrize(
    ("error", "code"), [(EngineError("the GPU is gone"), 1), (KeyboardInterrupt(), 130)], ids=["failed", "interrupted"]
)
def test_what_is_painted_outlives_a_failure(error: BaseException, code: int, sd2rt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, error, at=3)
    found = sd2rt("grid", RED, "--x", "seed=1..4", "--steps", "1", "--out", "a.png")
    assert (found.code, found.out) == (code, "")
    assert "unfinished; 2 cells are in a-unfinished.png\n" in found.err
    assert [path.name for path in Path().iterdir()] == ["a-unfinished.png"]
    with Image.open("a-unfinished.png") as image:
        assert len(json.loads(image.info["sd2rt-grid"])["cells"]) == 2


def test_a_failure_before_the_first_cell_leaves_nothing(grid: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, EngineError("the GPU is gone"), at=1)
    assert_refused(grid("--x", "seed=1..4", "--out", "a.png"), 1, "the GPU is gone")
    assert list(Path().iterdir()) == []


def test_a_sheet_that_its_place_does_not_take_is_kept(grid: Command, monkeypatch: pytest.MonkeyPatch, homeless: Path) -> None:
    fill_disk(monkeypatch, room=homeless / "home")
    found = grid("--x", "seed=1,2", "--out", "a.png")
    kept = homeless / "home/a.png"
    assert (found.code, found.out) == (1, f"{kept}\n")
    full = "output file: got a.png: it cannot be written (No space left on device); name another one"
    assert found.err == f"sd2rt: {full}; painted and kept: {kept}\n"
    with Image.open(kept) as image:
        assert len(json.loads(image.info["sd2rt-grid"])["cells"]) == 2


def test_a_cell_that_its_place_does_not_take_is_kept_and_the_sheet_too(
    sd2rt: Command, monkeypatch: pytest.MonkeyPatch, homeless: Path
) -> None:
    home = homeless / "home"
    fill_disk(monkeypatch, room=home)
    found = sd2rt("grid", RED, "--x", "seed=1,2", "--steps", "1", "--out", "a.png", "--cells", "cells")
    assert (found.code, found.out) == (1, "")
    assert f"unfinished; 1 cells are in {home}/a-unfinished.png\n" in found.err
    assert found.err.endswith(f"; painted and kept: {home}/x1.png\n")
    assert sorted(path.name for path in home.iterdir()) == ["a-unfinished.png", "x1.png"]


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "unfinished"])
def test_where_nothing_can_be_written_that_is_told(finished: bool, sd2rt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_disk(monkeypatch)
    if not finished:
        fail_at(monkeypatch, EngineError("the GPU is gone"), at=2)
    found = sd2rt("grid", RED, "--x", "seed=1,2", "--steps", "1", "--out", "a.png")
    assert (found.code, found.out) == (1, "")
    lost = "output file: got a{}.png: it cannot be written (No space left on device); name another one; the picture is lost"
    if finished:
        assert f"sd2rt: {lost.format('')}" in found.err
        assert "finished, and" not in found.err
    else:
        assert f"unfinished, and what is painted is lost: {lost.format('-unfinished')}" in found.err
        assert found.err.endswith("sd2rt: the GPU is gone\n")


def test_interrupted_while_the_sheet_is_written_it_is_not_called_unfinished(sd2rt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, left = Sheet.draw, [1]

    def interrupted_once(*arguments: Any) -> Image.Image:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return draw(*arguments)

    monkeypatch.setattr(Sheet, "draw", interrupted_once)
    found = sd2rt("grid", RED, "--x", "seed=1,2", "--steps", "1", "--out", "a.png")
    assert (found.code, found.out) == (130, "")
    assert "\nfinished; 2 cells are in a.png\n" in found.err
    assert [path.name for path in Path().iterdir()] == ["a.png"]


def fail_at(monkeypatch: pytest.MonkeyPatch, error: BaseException, at: int) -> None:
    left = [at]
    real = paint.run_job

    def run_job(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise error
        return real(*arguments)

    monkeypatch.setattr(module, "run_job", run_job)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_what_is_there(number: signal.Signals, grid: Command) -> None:
    assert grid("--x", "seed=1", "--out", "warm.png").code == 0
    process = start("grid", RED, "--x", "steps=2,900", "--seed", "7", "--out", "a.png", "--cells", "cells", "--preview", "latent")
    wait_for(process, lambda: Path("cells/x1.png").exists() and Path("a-preview.png").exists())
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert sorted(path.name for path in Path().iterdir()) == ["a-unfinished.png", "cells", "warm.png"]
    assert [path.name for path in Path("cells").iterdir()] == ["x1.png"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "--x: got no axis"),
        (["--x", "steps=0,2"], "cell x1 (steps 0): steps: got '0'; expected an integer from 1 to 1000"),
        (["--x", "steps=1,2", "--y", "sampler=ddim,warp"], "cell y2-x1 (steps 1, sampler warp): unknown sampler 'warp'"),
        (["--x", "seed=1,2", "-n", "2"], "a cell is one picture: got 2; leave out --count and {a|b}, or make an axis of it"),
        (["--x", 'prompt="a {red|blue} cube"'], "a cell is one picture: got 2"),
        (["--x", "prompt= "], "prompt: got an empty text and no picture"),
        (["--x", "width=2048,4096", "--y", "height=4096", "--z", "seed=1..4"], "a sheet of "),
        (
            ["--x", "seed=1", "--out", "a.jpg"],
            "--out: got a.jpg; expected a name that ends in .png: --format and --quality are for --cells",
        ),
        (["--x", "seed=1", "--out", "taken.png"], "--out: got taken.png, which exists; choose another name, or replace"),
        (["--x", "seed=1", "--cells", "taken"], "--cells: got taken/x1.png, which exists; choose another folder, or replace files with"),
        (["--x", "seed=1", "--cells", "taken.png"], "--cells: got taken.png: cannot write there"),
        (["--x", "seed=1", "--cells", ""], "--cells: got an empty name; expected a folder"),
        (["--x", "seed=1", "--cells", "new", "--format", "gif"], "--format: got 'gif'"),
        (["--x", "seed=1", "--preview", "rgb"], "--preview: got 'rgb'"),
        (["--x", "decoder=vae,small"], "cell x2 (decoder small): decoder: got 'small'"),
    ],
)
@pytest.mark.usefixtures("unused_cache")
def test_what_is_refused(options: list[str], words: str, grid: Command) -> None:
    Path("taken.png").write_bytes(b"before")
    Path("taken").mkdir()
    Path("taken/x1.png").write_bytes(b"before")
    found: Outcome = grid(*options)
    assert_refused(found, 2, words)
    assert sorted(path.name for path in Path().iterdir()) == ["taken", "taken.png"]


def test_force_replaces(grid: Command) -> None:
    Path("cells").mkdir()
    for name in ("a.png", "cells/x1.png"):
        Path(name).write_bytes(b"before")
    assert grid("--x", "seed=1", "--out", "a.png", "--cells", "cells", "--force").code == 0
    assert read("a.png").shape[0] > 64
    assert read("cells/x1.png").shape == (64, 64, 3)
