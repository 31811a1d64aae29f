"""`--low-memory`: one network at a time, and the same bytes."""

import json
from typing import Any

import numpy as np
import pytest

from sd2rt.engine import build
from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime import load, loading
from tests.cli.conftest import MODEL, Command


def test_one_network_is_open_at_a_time_and_latents_are_the_same(monkeypatch: pytest.MonkeyPatch, paint: Command) -> None:
    opened: list[str] = []
    most: list[int] = []

    def open_engine(files: Any, *rest: Any) -> Any:
        engine = build.open_engine(files, *rest)
        opened.append(files.name)
        most.append(len(opened))
        close = engine.close
        engine.close = lambda: (opened.remove(files.name), close())
        return engine

    monkeypatch.setattr(loading, "open_engine", open_engine)
    call: dict[str, Any] = {"steps": 2, "output": "numpy", "image": np.zeros((64, 64, 3), np.uint8), "strength": 1.0}
    with load(MODEL, target="cpu") as pipe:
        expected = pipe("a red cube", **call).images
        assert max(most) == 4
    most.clear()
    with load(MODEL, target="cpu", low_memory=True) as pipe:
        assert most == []
        for _ in range(2):
            np.testing.assert_array_equal(pipe("a red cube", **call).images, expected)
        assert max(most) == 1
        assert len(most) == 8
    assert opened == []


def test_the_command_writes_the_same_picture(paint: Command) -> None:
    paths = [
        json.loads(paint("a red cube", *more, "--out", f"{len(more)}.png", "--json").out)["images"][0]["path"]
        for more in ((), ("--low-memory",))
    ]
    with open(paths[0], "rb") as one, open(paths[1], "rb") as other:
        assert one.read() == other.read()


def test_engines_on_a_device_are_not_freed_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "choose_bundle_target", lambda bundle, name: name)
    with pytest.raises(InvalidArgument, match="got target cuda, whose engines stay on the device; expected target openvino or cpu"):
        load(MODEL, target="cuda", low_memory=True)
