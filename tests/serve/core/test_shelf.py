"""Models opened when they are wanted, and closed for others, the longest unused first."""

from __future__ import annotations

from pathlib import Path

import pytest

from sd2rt.engine.errors import EngineError
from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.host import HostPainter
from sd2rt.runtime.models import find_model
from sd2rt.runtime.text_to_image import TextToImage
from sd2rt.serve import shelf as shelves
from sd2rt.serve.errors import UnknownModel
from sd2rt.serve.shelf import Shelf, ShelfSettings, resident_bytes, weights_bytes
from tests.runtime.bundles import write_bundle
from tests.runtime.fakes import byte_tokenizer, fake_networks

MODEL_BYTES = 1000


class Memory:
    """Models that take MODEL_BYTES each, and what happened to them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken = 0
        self.evicted: list[str] = []
        self.models = {name: str(write_bundle(folder / name)) for name in "abc"}
        monkeypatch.setattr(shelves, "resident_bytes", lambda: self.taken)
        monkeypatch.setattr(shelves, "weights_bytes", lambda bundle: MODEL_BYTES // 2)

    def open(self, model: str) -> TextToImage:
        self.taken += MODEL_BYTES
        pipe = TextToImage(read_bundle(Path(model)), HostPainter(read_bundle(Path(model)), byte_tokenizer(), fake_networks()))
        close = pipe.close

        def count_and_close() -> None:
            self.taken -= MODEL_BYTES
            close()

        pipe.close = count_and_close  # type: ignore[method-assign]
        return pipe

    def shelf(self, memory_bytes: int) -> Shelf:
        return Shelf(ShelfSettings(models=self.models, memory_bytes=memory_bytes), evicted=self.evicted.append, open_model=self.open)


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Memory:
    return Memory(tmp_path, monkeypatch)


def test_models_stay_open_where_there_is_no_budget(memory: Memory) -> None:
    shelf = memory.shelf(0)
    first = shelf.open("a")
    shelf.open("b")
    assert shelf.open("a") is first
    assert shelf.models == ("b", "a")
    shelf.close()
    assert (shelf.models, memory.taken) == ((), 0)


def test_the_longest_unused_is_closed_before_another_is_opened(memory: Memory) -> None:
    shelf = memory.shelf(2 * MODEL_BYTES)
    for name in ("a", "b", "a", "c", "b"):
        shelf.open(name)
        assert memory.taken <= 2.5 * MODEL_BYTES  # a model's weights are known before it is opened, the rest afterwards
    assert memory.evicted == ["b", "a"]


def test_what_painting_takes_counts(memory: Memory) -> None:
    shelf = memory.shelf(4 * MODEL_BYTES)
    shelf.open("a")
    memory.taken += 3 * MODEL_BYTES
    shelf.measure("a")
    shelf.open("b")
    assert memory.evicted == ["a"]


def test_others_are_closed_when_painting_takes_too_much(memory: Memory) -> None:
    shelf = memory.shelf(4 * MODEL_BYTES)
    for name in "abc":
        shelf.open(name)
    memory.taken += MODEL_BYTES * 3 // 2
    shelf.measure("c")
    assert (shelf.models, memory.evicted) == (("b", "c"), ["a"])
    memory.taken += 9 * MODEL_BYTES
    shelf.measure("c")  # what was freed meanwhile is not subtracted
    assert (shelf.models, memory.evicted) == (("c",), ["a", "b"])
    assert shelf._grown["c"] == MODEL_BYTES * 23 // 2


def test_one_model_may_exceed_the_budget(memory: Memory) -> None:
    shelf = memory.shelf(1)
    shelf.open("a")
    shelf.open("b")
    assert (shelf.models, memory.evicted) == (("b",), ["a"])


def test_unknown_names_are_no_paths(memory: Memory) -> None:
    with pytest.raises(UnknownModel, match="expected one of a, b, c"):
        memory.shelf(0).open(memory.models["a"])


def test_a_model_that_fails_to_open_is_not_kept(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = memory.shelf(0)
    with monkeypatch.context() as patch:
        patch.setattr(shelf, "_open_model", lambda model: (_ for _ in ()).throw(EngineError("broken")))
        with pytest.raises(EngineError):
            shelf.open("a")
    assert shelf.models == ()
    shelf.open("a")


def test_weights_count_as_they_are_loaded(tmp_path: Path) -> None:
    assert 40e6 < weights_bytes(read_bundle(find_model("toyworld"))) < 60e6  # 22 MB in half precision, 23 million numbers
    assert resident_bytes() > 10e6
    assert resident_bytes(-1) == 0
