"""Engines for a range of sizes stay open for all of them: one that is opened anew is read, hashed and unpacked anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sd2rt.engine.build import build_engine
from sd2rt.runtime import load
from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.engine_plan import PlanOptions, plan_engines
from sd2rt.runtime.models import find_model
from tests.fake_gpu import TARGET, fake_gpu


def arrays(pictures: Any) -> list[Any]:
    return [np.asarray(picture, np.int32) for picture in pictures]


def test_they_are_opened_once_and_paint_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SD2RT_CACHE", str(tmp_path / "cache"))
    opened: list[str] = []
    call: dict[str, Any] = {"steps": 2, "seed": 3}
    with load("toyworld", target="cpu") as host:
        expected = [arrays(host("a red cube", **call, **more).images) for more in ({"images_per_prompt": 2}, {"width": 72})]
    with fake_gpu(tmp_path) as gpu:
        real = gpu.load_device
        monkeypatch.setattr(gpu, "load_device", lambda entry, *given: opened.append(entry.manifest.component) or real(entry, *given))
        plan = PlanOptions(target=TARGET, smallest=(64, 64), usual=(64, 64), largest=(64, 72), batch=(1, 1, 2))
        for files, options in plan_engines(read_bundle(find_model("toyworld")), plan):
            build_engine(files, options)
        with load("toyworld", target=TARGET) as pipe:
            pipe("a", **call)
            assert opened == ["text_encoder", "unet", "vae_decoder"]
            for _ in range(2):
                both = arrays(pipe("a red cube", **call, images_per_prompt=2).images)
                wide = arrays(pipe("a red cube", **call, width=72).images)
                got, wanted = [*both, *wide], [picture for pictures in expected for picture in pictures]
                assert max(np.abs(one - other).max() for one, other in zip(got, wanted, strict=True)) <= 1
            assert opened[3:] == []
            pipe("a", **call, width=80)
            assert opened[3:] == ["unet", "vae_decoder"]  # texts do not depend on the size
            pipe("a", **call)
            assert opened[5:] == ["unet", "vae_decoder"]
        assert gpu.cuda.leaks() == {}
