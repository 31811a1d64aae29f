"""Engines on disk, found without opening them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sd2rt.engine import index as engine_index
from sd2rt.engine import store as engine_store
from sd2rt.engine.build import build_engine
from sd2rt.engine.cache import drop_engine
from sd2rt.engine.errors import EngineCacheError
from sd2rt.engine.index import EngineIndex
from sd2rt.engine.spec import BuildOptions, PixelForm, Range, TensorRTOptions
from sd2rt.engine.store import cache_root
from sd2rt.engine.trt_run import PLAN_NAME
from tests.engine.device_rig import files
from tests.fake_gpu import TARGET, fake_gpu

DECODER = files("vae_decoder")
FORM = PixelForm(scaling_factor=0.5)


def options(width: Range, **changes: Any) -> BuildOptions:
    """A decoder's, for widths of the latents."""
    axes: Mapping[str, Range] = {"images": (1, 1, 1), "height": (8, 8, 8), "width": width}
    return BuildOptions(**{"target": TARGET, "form": FORM, "axes": axes, **changes})


def refreshed(index: EngineIndex) -> EngineIndex:
    index.refresh()
    return index


def test_an_engine_does_for_all_sizes_in_its_range(tmp_path: Path) -> None:
    index = EngineIndex()
    with fake_gpu(tmp_path):
        assert not refreshed(index).has(DECODER, options((8, 8, 8)))
        before = index.version
        entry = build_engine(DECODER, options((8, 8, 12)))
        assert [refreshed(index).has(DECODER, options((width,) * 3)) for width in (7, 8, 10, 12, 13)] == [False, True, True, True, False]
        assert not index.has(DECODER, options((8, 8, 8), form=None))
        assert index.version == before + 1
        assert refreshed(index).version == before + 1
        assert [sizes["width"] for sizes in index.axes(DECODER, options((99, 99, 99)))] == [[8, 8, 12]]  # type: ignore[index, call-overload]
        assert index.axes(DECODER, options((8, 8, 8), form=None)) == ()
        assert drop_engine(entry.folder)
        assert not refreshed(index).has(DECODER, options((8, 8, 8)))


def test_a_damaged_engine_counts_for_nothing(tmp_path: Path) -> None:
    index = EngineIndex()
    with fake_gpu(tmp_path):
        entry = build_engine(DECODER, options((8, 8, 8)))
        assert refreshed(index).has(DECODER, options((8, 8, 8)))
        (entry.folder / "stray").write_text("x")
        os.utime(cache_root())
        assert not refreshed(index).has(DECODER, options((8, 8, 8)))


def test_manifests_are_read_again_only_after_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = EngineIndex()
    read: list[Path] = []
    monkeypatch.setattr(engine_index, "read_entry", lambda folder, real=engine_index.read_entry: read.append(folder) or real(folder))
    with fake_gpu(tmp_path):
        build_engine(DECODER, options((8, 8, 8)))
        os.utime(cache_root(), (1, 1))
        for _ in range(5):
            assert refreshed(index).has(DECODER, options((8, 8, 8)))
        assert len(read) == 1
        build_engine(DECODER, options((9, 9, 9)))
        assert refreshed(index).has(DECODER, options((9, 9, 9)))
        assert len(read) == 3


def test_copied_engines_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = EngineIndex()
    hashed: list[Path] = []
    with fake_gpu(tmp_path):
        plan = build_engine(DECODER, options((8, 8, 8))).folder / PLAN_NAME
        os.utime(plan, (1, 1))
        monkeypatch.setattr(engine_store, "file_record", lambda path, real=engine_store.file_record: hashed.append(path) or real(path))
        for _ in range(3):
            os.utime(cache_root())
            assert refreshed(index).has(DECODER, options((8, 8, 8)))
        assert hashed == [plan]
        plan.write_bytes(bytes(plan.stat().st_size))
        os.utime(cache_root())
        assert not refreshed(index).has(DECODER, options((8, 8, 8)))
        assert hashed == [plan, plan]


def test_a_cache_that_cannot_be_trusted_is_an_error() -> None:
    cache_root().mkdir(parents=True)
    cache_root().chmod(0o777)
    os.utime(cache_root(), (1, 1))
    index = EngineIndex()
    for _ in range(2):
        with pytest.raises(EngineCacheError, match="other users can write there"):
            index.refresh()


def test_real_engines_for_a_named_gpu_are_found(rtx: Any) -> None:
    named = TensorRTOptions(compute_capabilities=("sm89",))
    build_engine(DECODER, options((8, 8, 12), target="tensorrt-rtx", tensorrt=named))
    index = refreshed(EngineIndex())
    assert index.has(DECODER, options((10, 10, 10), target="tensorrt-rtx", tensorrt=named))
    assert not index.has(DECODER, options((13, 13, 13), target="tensorrt-rtx", tensorrt=named))
    assert not index.has(DECODER, options((10, 10, 10), target="tensorrt-rtx", tensorrt=TensorRTOptions(compute_capabilities=("sm120",))))
