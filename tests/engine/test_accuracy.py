"""Comparisons of engines, on outputs whose error is known."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sd2rt.engine.accuracy import (
    EQUAL,
    HALF,
    PIXELS,
    PSNR_CAP_DB,
    SINGLE,
    Gate,
    check_engine,
    compare,
    compare_outputs,
    fixed_feeds,
    worst,
)
from sd2rt.engine.errors import InvalidArgument
from sd2rt.engine.spec import TensorSpec
from sd2rt.engine.step_table import REGISTERS, ROW, SCALARS, TABLE_ROWS

RAMP = np.linspace(-5.0, 5.0, 101, dtype=np.float32)  # spread 10


class Scaled:
    """An engine that gives its input times a factor, and remembers what it was fed."""

    inputs = (TensorSpec(name="x", dtype="float16", shape=("batch",)),)
    outputs = (TensorSpec(name="y", dtype="float32", shape=("batch",)),)

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.fed: Mapping[str, npt.NDArray[Any]] = {}

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        self.fed = feeds
        return {"y": feeds["x"].astype(np.float32) * np.float32(self.factor)}

    def close(self) -> None:
        pass


def test_figures_are_relative_to_the_references_spread() -> None:
    found = compare("y", RAMP + np.float32(0.1), RAMP)
    assert found.max_abs == pytest.approx(0.1, rel=1e-5)
    assert found.max_relative == pytest.approx(0.01, rel=1e-5)
    assert found.psnr_db == pytest.approx(40.0, abs=0.01)
    assert (found.output, found.not_finite, found.passes, str(found)) == ("y", 0, True, "PSNR 40.0 dB")


@pytest.mark.parametrize(
    ("gate", "error", "passes"),
    [(HALF, 0.177, True), (HALF, 0.179, False), (SINGLE, 0.0009, True), (SINGLE, 0.0011, False)],  # HALF: 35.04 and 34.94 dB
)
def test_float_outputs_must_reach_the_gate_given(gate: Gate, error: float, passes: bool) -> None:
    found = compare("y", RAMP + np.float32(error), RAMP, gate)
    assert (found.gate, found.passes) == (gate, passes)


@pytest.mark.parametrize(("error", "passes"), [(8, True), (9, False)])  # 30.07 and 29.05 dB
def test_pixels_have_a_gate_of_their_own(error: int, passes: bool) -> None:
    gray = np.full((4, 4, 3), 100, np.uint8)
    found = compare("pixels", gray + np.uint8(error), gray, SINGLE)
    assert (found.gate, found.passes) == (PIXELS, passes)
    assert found.psnr_db == pytest.approx(20 * np.log10(255 / error), abs=0.01)


def test_other_integers_must_be_equal() -> None:
    step = np.array([1], np.int64)
    assert compare("next_step", step, step).passes
    found = compare("next_step", step + 1, step)
    assert (found.passes, found.gate, found.max_abs) == (False, EQUAL, 1.0)


def test_gates_in_words() -> None:
    assert [str(gate) for gate in (HALF, SINGLE, PIXELS, EQUAL)] == ["PSNR >= 35 dB", "error <= 0.0001", "PSNR >= 30 dB", "error <= 0"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_value_that_is_not_finite_fails(bad: float) -> None:
    got = RAMP.copy()
    got[3] = bad
    found = compare("y", got, RAMP)
    assert (found.not_finite, found.passes, found.max_abs, str(found)) == (1, False, 0.0, "1 values not finite")
    assert not compare("y", np.full_like(RAMP, bad), RAMP).passes


def test_equal_outputs_have_a_finite_psnr() -> None:
    assert compare("y", RAMP, RAMP).psnr_db == PSNR_CAP_DB
    flat = np.zeros(3, np.float32)
    assert compare("y", flat, flat).passes
    assert not compare("y", flat + np.float32(1e-3), flat).passes


def test_shapes_and_names_must_agree() -> None:
    with pytest.raises(InvalidArgument, match=r"y: got shape \[100\]; expected that of the reference, \[101\]"):
        compare("y", RAMP[:-1], RAMP)
    with pytest.raises(InvalidArgument, match="got outputs z; expected those of the reference, y"):
        compare_outputs({"z": RAMP}, {"y": RAMP})


def test_the_worst_output_counts() -> None:
    step = np.array([1], np.int64)
    good, poor = compare("good", RAMP, RAMP), compare("poor", RAMP + np.float32(0.1), RAMP)
    missed, broken = compare("missed", step + 1, step), compare("broken", np.full(101, np.nan, np.float32), RAMP)
    assert worst((good, poor)) is poor
    assert worst((good, missed, poor)) is missed
    assert worst((missed, broken, good)) is broken


def test_both_engines_get_the_same_rounded_inputs() -> None:
    engine, reference = Scaled(1.01), Scaled(1.0)
    found = check_engine(engine, reference, {"x": RAMP})
    assert engine.fed["x"].dtype == np.float16
    np.testing.assert_array_equal(engine.fed["x"], reference.fed["x"])
    assert found.max_relative == pytest.approx(0.005, rel=1e-3)


STEP = (
    TensorSpec(name="registers", dtype="float32", shape=(REGISTERS, "images", 4, "height", "width")),
    TensorSpec(name="table", dtype="float32", shape=(TABLE_ROWS, ROW)),
    TensorSpec(name="step", dtype="int64", shape=(1,)),
    TensorSpec(name="noise", dtype="float32", shape=("images", 4, "height", "width")),
    TensorSpec(name="guidance", dtype="float32", shape=(2,)),
    TensorSpec(name="encoder_hidden_states", dtype="float16", shape=("batch", "sequence", 8)),
    TensorSpec(name="class_labels", dtype="int64", shape=("batch",)),
    TensorSpec(name="known", dtype="float32", shape=("images", 4, "height", "width")),
    TensorSpec(name="mask", dtype="float32", shape=("images", 1, "height", "width")),
)
NOISE = (-0.184480637, -0.317566633, -0.0780668408)
LABELS = (208, 52, 209, 193)
AXES = {"images": 2, "batch": 4, "height": 5, "width": 3, "sequence": 7}


def test_feeds_are_the_same_everywhere() -> None:
    """Against numbers written down; the order of the inputs does not matter."""
    feeds = fixed_feeds(STEP, AXES)
    np.testing.assert_allclose(feeds["noise"].ravel()[:3], NOISE, rtol=1e-6)
    np.testing.assert_array_equal(feeds["class_labels"], LABELS)
    again = fixed_feeds(STEP[::-1], AXES)
    assert all(np.array_equal(feeds[name], again[name]) for name in feeds)
    assert not np.array_equal(fixed_feeds(STEP, AXES, seed=1)["noise"], feeds["noise"])


def test_feeds_suit_their_inputs() -> None:
    feeds = fixed_feeds(STEP, AXES)
    assert {spec.name: (spec.dtype, spec.resolve(AXES)) for spec in STEP} == {n: (str(a.dtype), a.shape) for n, a in feeds.items()}
    assert all(np.isfinite(array).all() for array in feeds.values())
    assert feeds["registers"].std() == pytest.approx(1.0, abs=0.1)
    assert feeds["step"].tolist() == [0]
    assert feeds["guidance"].tolist() == pytest.approx([7.5, 0.7])
    assert 0 <= feeds["class_labels"].min() <= feeds["class_labels"].max() < 256
    assert not feeds["table"][1:].any()
    t, in_scale, *others = feeds["table"][0, :SCALARS].tolist()
    assert (t, in_scale, others) == (500.0, 1.0, pytest.approx([0.0, 1.0, 0.8, 0.6]))
    assert 0 <= feeds["mask"].min() < 0.2 < 0.8 < feeds["mask"].max() <= 1


def test_the_row_shows_the_models_output_and_keeps_every_register_apart() -> None:
    weights = fixed_feeds(STEP, AXES)["table"][0, SCALARS:].reshape(REGISTERS, REGISTERS + 2)
    assert np.linalg.matrix_rank(weights) == REGISTERS
    assert weights[0, -1] != 0
    assert weights[1].tolist() == [0.0] * REGISTERS + [1.0, 0.0]


def test_an_axis_without_a_size_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="noise: got no size of axis 'height'"):
        fixed_feeds(STEP[3:4], {"images": 1})
