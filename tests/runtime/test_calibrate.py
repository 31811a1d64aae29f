"""Painting with a UNet that is looked at: what is drawn, what is kept, what is refused."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sd2rt.engine.accuracy import HALF, SINGLE, SINGLE_OTHER_LIBRARY, Gate
from sd2rt.engine.errors import InvalidArgument, TargetUnavailable
from sd2rt.engine.int8_numbers import Range, Window
from sd2rt.engine.protocol import Engine
from sd2rt.engine.spec import BuildOptions, ComponentFiles, TensorSpec
from sd2rt.runtime import calibrate, engine_plan
from sd2rt.runtime.bundle import Bundle, read_bundle
from sd2rt.runtime.calibrate import MOST_ROWS, ROWS, Observer, choose_ranges, compare_evaluations, observe
from sd2rt.runtime.engine_plan import choose_bundle_target
from sd2rt.runtime.verify import choose_gate
from tests.runtime.bundles import write_bundle
from tests.runtime.fakes import COMPUTE, LENGTH, WIDTH, FakeEngine, byte_tokenizer_files

POINT = Window(kernel=(1, 1), stride=(1, 1), pads=(0, 0, 0, 0))
READS = (("hidden", None), ("sample", POINT))
STEPS = 2
SHAPES = {"sample": (2, 4, 8, 8), "timestep": (2,), "encoder_hidden_states": (2, LENGTH, WIDTH)}


class Telling(FakeEngine):
    """A UNet that gives something from its inside too."""

    def __init__(self) -> None:
        super().__init__("unet", COMPUTE["unet"])
        self.outputs = (*self.outputs, TensorSpec(name="hidden", dtype="float32", shape=("batch", 3, 5)))

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        results = super().run(feeds)
        return {**results, "hidden": np.full((len(feeds["sample"]), 3, 5), len(self.feeds), np.float32)}


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle whose engines, the UNet's apart, are fakes."""

    def open_fake(files: ComponentFiles, options: BuildOptions, notify: Any) -> Engine:
        assert (files.name != "unet", options.target) == (True, "cpu")
        return FakeEngine(files.name, COMPUTE[files.name])

    monkeypatch.setattr(calibrate, "open_engine", open_fake)
    return read_bundle(write_bundle(tmp_path / "bundle", contents=byte_tokenizer_files()))


def observed(bundle: Bundle, prompts: tuple[str, ...]) -> tuple[Observer, Telling]:
    engine = Telling()
    observer = Observer(engine, READS, "out_sample")
    observe(bundle, observer, prompts, STEPS, lambda message: None)
    return observer, engine


def test_rows_are_drawn_at_every_evaluation_but_of_the_last_picture(bundle: Bundle) -> None:
    observer, engine = observed(bundle, ("one", "two", "three"))
    hidden = observer.samples["hidden", None].rows
    assert hidden.shape == (2 * STEPS * ROWS, 5)
    assert hidden[:, 0].tolist() == [number for number in range(1, 2 * STEPS + 1) for _ in range(ROWS)]
    assert observer.samples["sample", POINT].rows.shape == (2 * STEPS * ROWS, 4)
    assert len(engine.feeds) == 3 * STEPS
    assert engine.closed


def test_rows_that_are_kept_have_a_limit(bundle: Bundle) -> None:
    observer = Observer(Telling(), READS, "out_sample")
    feeds = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    for _ in range(MOST_ROWS):
        observer.run(feeds)
    hidden = observer.samples["hidden", None].rows
    assert len(hidden) == MOST_ROWS
    assert hidden[:, 0].max() > MOST_ROWS / ROWS  # rows of later evaluations take the place of earlier ones


def test_extremes_are_of_the_whole_arrays_and_not_of_the_rows_drawn(bundle: Bundle) -> None:
    """A single large value, such as CLIP's first token has, is missed by nearly every draw."""
    observer = Observer(Telling(), (("encoder_hidden_states", None), *READS), "out_sample")
    feeds = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    feeds["encoder_hidden_states"][1, 0, 3] = 900.0
    observer.run(feeds)
    feeds["encoder_hidden_states"][1, 0, 3] = -30.0
    observer.run(feeds)
    assert observer.extremes == {"encoder_hidden_states": (-30, 900), "hidden": (1, 2), "sample": (0, 0)}
    assert np.abs(observer.samples["encoder_hidden_states", None].rows).max() == 0
    chosen = choose_ranges(observer, np.dtype("float32"))["encoder_hidden_states"]
    assert np.allclose(chosen.round_trip(np.array([900.0, -30.0], np.float32)), [900, -30], atol=chosen.scale)
    observer.keeps = True  # the comparison is of what was not measured with
    observer.run(feeds)
    assert observer.extremes["hidden"] == (1, 2)


def test_evaluations_of_the_last_picture_are_kept_whole(bundle: Bundle) -> None:
    observer, engine = observed(bundle, ("one", "two"))
    assert len(observer.kept) == STEPS
    for one, feeds in zip(observer.kept, engine.feeds[STEPS:], strict=True):
        assert set(one.outputs) == {"out_sample"}
        assert all(np.array_equal(one.feeds[name], array) for name, array in feeds.items())


def test_pictures_are_the_same_every_time_and_differ_among_each_other(bundle: Bundle) -> None:
    first, again = (observed(bundle, ("one", "one"))[1].feeds for _ in range(2))
    assert np.array_equal(first[0]["sample"], again[0]["sample"])
    assert not np.array_equal(first[0]["sample"], first[STEPS]["sample"])


def test_a_model_that_prompts_alone_do_not_make_paint_is_refused(bundle: Bundle) -> None:
    with pytest.raises(InvalidArgument, match="small: got a model for inpainting; expected one for text-to-image"):
        observe(replace(bundle, task="inpainting"), Observer(Telling(), READS, "out_sample"), ("one", "two"), STEPS, lambda message: None)


def test_one_prompt_is_refused(bundle: Bundle) -> None:
    with pytest.raises(InvalidArgument, match="prompts: got 1; expected at least 2"):
        observed(bundle, ("one",))


def test_a_value_that_is_read_in_two_ways_has_one_range() -> None:
    observer = Observer(Telling(), (("sample", None), *READS), "out_sample")
    feeds = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    feeds["sample"][0, 0, 0, :2] = 3, -1
    observer.run(feeds)
    ranges = choose_ranges(observer, np.dtype("float32"))
    assert set(ranges) == {"sample", "hidden"}
    assert np.allclose(ranges["sample"].round_trip(np.array([3.0, -1.0], np.float32)), [3, -1], atol=0.02)
    assert isinstance(ranges["hidden"], Range)


def test_an_engine_is_compared_with_what_was_kept(bundle: Bundle) -> None:
    kept = observed(bundle, ("one", "two"))[0].kept
    same = compare_evaluations(FakeEngine("unet", COMPUTE["unet"]), kept, Gate(psnr_db=30))
    assert same.psnr_db == 200
    other = compare_evaluations(FakeEngine("unet", lambda feeds: -COMPUTE["unet"](feeds)), kept, Gate(psnr_db=30))
    assert not other.passes


def test_a_bundle_says_which_component_is_in_int8(tmp_path: Path) -> None:
    found = read_bundle(write_bundle(tmp_path / "bundle", lambda document: document["components"]["unet"].update(int8={})))
    assert {name: component.int8 for name, component in found.components.items()} == {
        "text_encoder": False,
        "unet": True,
        "vae_decoder": False,
    }
    assert [choose_gate("cpu", found.component(name), {}).psnr_db for name in ("text_encoder", "unet")] == [35, 30]


@pytest.mark.parametrize(
    ("target", "dtype", "notes", "gate"),
    [
        ("cpu", "float32", {}, SINGLE),
        ("cpu", "float16", {}, HALF),
        ("openvino", "float32", {"precision": "f32"}, SINGLE_OTHER_LIBRARY),
        ("openvino", "float32", {"precision": "bf16"}, HALF),
        ("openvino", "float16", {"precision": "f32"}, HALF),
        ("tensorrt", "float32", {"precision": "f32"}, HALF),
    ],
)
def test_what_computes_in_float32_is_held_to_more(target: str, dtype: str, notes: dict[str, Any], gate: Gate, tmp_path: Path) -> None:
    found = read_bundle(write_bundle(tmp_path / "bundle"))
    assert choose_gate(target, replace(found.component("unet"), dtype=dtype), notes) == gate


def test_targets_on_a_gpu_refuse_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read_bundle(write_bundle(tmp_path / "bundle", lambda document: document["components"]["unet"].update(int8={})))
    monkeypatch.setattr(engine_plan, "choose_target", lambda name, **rest: "cuda" if name == "auto" else name)
    for name in ("auto", "cuda"):
        with pytest.raises(TargetUnavailable, match="target cuda: small is in int8; name openvino or cpu"):
            choose_bundle_target(found, name)
    assert choose_bundle_target(found, "cpu") == "cpu"
