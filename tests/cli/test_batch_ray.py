"""`sd2rt batch --backend ray`: the same files as without, also after it was killed; what it does not take is refused before."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from sd2rt.cli import batch_ray
from sd2rt.cli.batch_ray import require_finished
from sd2rt.engine.errors import Sd2rtError
from sd2rt.serve import ray_batch
from sd2rt.serve.backend import Task
from sd2rt.serve.order import LAST, Cancelled, Event, Failed
from sd2rt.serve.painting import paint_batch
from sd2rt.serve.ray_settings import RaySettings
from sd2rt.serve.shelf import Shelf, ShelfSettings
from tests.cli.conftest import Command, assert_refused, start

ROWS = 12
RAY = ("--backend", "ray", "--replicas", "2")
SESSION_GONE_S = 30.0


def entries(folder: str) -> list[dict[str, object]]:
    path = Path(folder, "batch.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


@pytest.mark.slow
@pytest.mark.skipif(not all(map(importlib.util.find_spec, ("ray", "pyarrow", "pandas"))), reason="needs the ray extra")
def test_a_killed_run_goes_on_and_its_files_are_those_of_a_run_here(sd2rt: Command, pictures: list[str]) -> None:
    rows = [{"prompt": f"a {colour} cube", "seed": seed} for seed, colour in enumerate(("red", "green", "blue") * 3)]
    rows += [{"prompt": "a {red|blue} cone", "name": "both", "seed": 1}]
    rows += [{"prompt": "a cube", "image": "rgb.png", "strength": 0.9, "seed": 2}, {"prompt": "a cone", "guidance_scale": 2, "seed": 3}]
    assert len(rows) == ROWS
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ("batch", "rows.jsonl", "--steps", "60", "--target", "cpu", "--quiet", "--out-dir")
    assert sd2rt(*command, "here").code == 0

    process = start(*command, "elsewhere", *RAY)
    until = time.monotonic() + 120
    while len(entries("elsewhere")) < 3 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = entries("elsewhere")
    assert 3 <= len(before) < ROWS
    painted = {path.name: path.stat().st_mtime_ns for path in Path("elsewhere").glob("*.png")}

    found = sd2rt(*command, "elsewhere", *RAY)
    assert (found.code, entries("elsewhere")[: len(before)]) == (0, before), found.err
    assert sorted(str(entry["key"]) for entry in entries("elsewhere")) == sorted(str(entry["key"]) for entry in entries("here"))
    same = {path.name: path.read_bytes() for path in Path("here").glob("*.png")}
    assert {path.name: path.read_bytes() for path in Path("elsewhere").glob("*.png")} == same
    assert {name: Path("elsewhere", name).stat().st_mtime_ns for name in painted} == painted


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--replicas", "2"), "--replicas: got 2 for --backend local; add --backend ray"),
        (("--ray-address", "auto"), "--ray-address: got auto for --backend local"),
        (("--backend", "ray", "--replicas", "0"), "replicas: got 0 to 0"),
        (("--backend", "ray", "--preview", "latent"), "--preview: got it with --backend ray"),
        (("--backend", "ray", "--low-memory"), "--low-memory: got it with --backend ray"),
        (("--backend", "ray", "--precision", "f32", "--target", "openvino"), "--precision: got it with --backend ray"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: tuple[str, ...], words: str, sd2rt: Command) -> None:
    Path("rows.txt").write_text("a red cube\n")
    assert_refused(sd2rt("batch", "rows.txt", "--out-dir", "out", *options), 2, words)


def test_pictures_that_replicas_do_not_read_are_refused(sd2rt: Command, pictures: list[str]) -> None:
    Path("rows.jsonl").write_text('{"prompt": "a cube", "image": "palette.gif"}\n')
    found = sd2rt("batch", "rows.jsonl", "--out-dir", "out", *RAY)
    assert (found.code, found.out) == (2, "")
    assert "line 1: image: got" in found.err
    assert "which --backend ray takes" in found.err


@pytest.mark.parametrize("options", [(), ("--keep-going",)])
def test_a_picture_that_is_gone_when_its_row_comes_fails_that_row(
    options: tuple[str, ...], sd2rt: Command, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lots: list[list[str]] = []

    def paint_here(asked: Iterable[Sequence[Task]], shelf: ShelfSettings, ray: RaySettings) -> Iterator[tuple[str, Event]]:
        kept = Shelf(shelf)
        for tasks in asked:
            lots.append([task.id for task in tasks])
            Path("soon-gone.png").unlink(missing_ok=True)
            yield from ((task_id, event) for task_id, event in paint_batch(kept, tasks, tuple) if isinstance(event, LAST))
        kept.close()

    monkeypatch.setattr(ray_batch, "paint_with_ray", paint_here)
    monkeypatch.setattr(batch_ray, "LOT_BYTES", 1)
    shutil.copy("rgb.png", "soon-gone.png")
    names = ("rgb.png", "soon-gone.png", "rgb.png")
    Path("rows.jsonl").write_text("".join(json.dumps({"prompt": "a cube", "image": name, "seed": 1}) + "\n" for name in names))
    found = sd2rt("batch", "rows.jsonl", "--steps", "2", "--target", "cpu", "--out-dir", "out", *RAY, *options)
    assert found.code == 1
    assert ("line 2 failed: " if options else "line 2: ") in found.err
    assert "soon-gone.png" in found.err
    assert lots == [["1"], ["3"]]  # each is read when the one before is painted
    assert len(entries("out")) == (2 if options else 1)


@pytest.mark.parametrize(("event", "words"), [(Failed(message="no room", status=500), "no room"), (Cancelled(), "it was given up")])
def test_a_row_that_came_to_nothing_is_an_error(event: Failed | Cancelled, words: str) -> None:
    with pytest.raises(Sd2rtError, match=words):
        require_finished(event)
