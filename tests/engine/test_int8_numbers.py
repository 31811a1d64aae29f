"""Eight bits in numpy: what is drawn is what a layer multiplies, and what is rounded comes back as near as eight bits allow."""

import numpy as np
import onnxruntime
import pytest
from onnx import helper

from sd2rt.engine.int8_numbers import (
    SNR_CAP_DB,
    Range,
    RowSample,
    Window,
    choose_range,
    draw_rows,
    layer_snr_db,
    narrow_range,
    round_weight,
    weight_scales,
)
from tests.engine.graphs import graph

HALF, SINGLE = np.dtype("float16"), np.dtype("float32")


def test_rows_of_tokens_are_rows() -> None:
    values = np.arange(2 * 5 * 3, dtype=np.float16).reshape(2, 5, 3)
    rows = draw_rows(values, None, 40, np.random.default_rng(0))
    assert (rows.shape, rows.dtype) == ((40, 3), np.float32)
    assert {tuple(row) for row in rows} == {tuple(row) for row in values.reshape(-1, 3)}


@pytest.mark.parametrize(
    ("kernel", "stride", "pads"),
    [((3, 3), (1, 1), (1, 1, 1, 1)), ((3, 3), (2, 2), (1, 1, 1, 1)), ((3, 3), (2, 2), (0, 0, 1, 1)), ((1, 1), (1, 1), (0, 0, 0, 0))],
    ids=["padded", "strided", "padded on one side", "pointwise"],
)
def test_patches_times_the_weight_are_pixels_of_the_convolution(
    kernel: tuple[int, int], stride: tuple[int, int], pads: tuple[int, int, int, int]
) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 4, 6, 5)).astype(np.float32), rng.standard_normal((3, 4, *kernel)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=stride, pads=pads)
    model = graph([node], [("x", "float32", x.shape)], [("y", "float32", [2, 3, "h", "w"])], {"w": w}, infer=False)
    y = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    pixels = np.moveaxis(np.asarray(y), 1, -1).reshape(-1, 3)
    rows = draw_rows(x, Window(kernel=kernel, stride=stride, pads=pads), 400, np.random.default_rng(1)) @ w.reshape(3, -1).T
    distances = np.abs(rows[:, None] - pixels[None]).max(axis=2)
    assert distances.min(axis=1).max() < 1e-4  # every row drawn is a pixel
    assert set(distances.argmin(axis=1)) == set(range(len(pixels)))  # and every pixel is drawn, corners too


def test_the_same_generator_draws_the_same() -> None:
    values = np.random.default_rng(0).standard_normal((1, 4, 8, 8)).astype(np.float32)
    window = Window(kernel=(3, 3), stride=(1, 1), pads=(1, 1, 1, 1))
    first, second = (draw_rows(values, window, 5, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first, second)


def test_a_sample_holds_all_rows_until_it_is_full_and_then_any_of_them() -> None:
    hits = np.zeros(40)
    for seed in range(300):
        sample = RowSample(10, np.random.default_rng(seed))
        for first in range(0, 40, 2):
            rows = np.array([[first], [first + 1]], np.float32)
            sample.add(rows)
            rows[:] = -1  # what is kept is a copy
            if first == 8:
                assert sample.rows[:, 0].tolist() == list(range(10))
        assert sample.rows.shape == (10, 1)
        hits[sample.rows[:, 0].astype(int)] += 1
    assert hits.sum() == 3000
    assert 45 < hits.min() <= hits.max() < 110  # 75 each


def test_a_range_fits_values_of_both_signs_and_of_one() -> None:
    rng = np.random.default_rng(0)
    for values in (rng.uniform(-1, 3, (50, 40)), rng.uniform(0, 2, (50, 40)), rng.uniform(-2, 0, (50, 40))):
        rows = values.astype(np.float32)
        chosen = choose_range(rows, SINGLE)
        assert 0 <= chosen.zero <= 255
        assert chosen.scale * 255 == pytest.approx(np.ptp(np.append(rows, 0)), rel=1e-5)
        assert np.abs(chosen.round_trip(rows) - rows).max() <= chosen.scale


def test_a_narrow_range_cuts_off_what_is_rare_where_that_costs_less_than_coarse_steps() -> None:
    values = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    ends = (-12.0, 12.0)  # which none of the values reaches
    whole, chosen = choose_range(np.array(ends, np.float32), SINGLE), narrow_range(values, ends, SINGLE)
    assert chosen.scale < 0.5 * whole.scale
    assert np.square(chosen.round_trip(values) - values).sum() < 0.5 * np.square(whole.round_trip(values) - values).sum()
    many = np.append(values, np.full(1000, 12, np.float32))
    assert narrow_range(many, ends, SINGLE) == whole


def test_zero_comes_back_as_zero() -> None:
    """Padding is zero, and most of what an activation function gives is near it."""
    chosen = choose_range(np.random.default_rng(0).uniform(-0.3, 5, (50, 40)).astype(np.float32), HALF)
    assert chosen.round_trip(np.zeros(3, np.float32)).tolist() == [0, 0, 0]


def test_scales_are_numbers_of_the_graphs_type_and_never_zero() -> None:
    chosen = choose_range(np.zeros((4, 4), np.float32), HALF)
    assert chosen.scale > 0
    assert float(np.float16(chosen.scale)) == chosen.scale
    scales = weight_scales(np.zeros((4, 3), np.float32), HALF)
    assert scales.dtype == HALF
    assert (scales > 0).all()


def test_a_weight_uses_all_levels_of_every_column() -> None:
    weight = np.random.default_rng(0).standard_normal((64, 3)).astype(np.float32) * np.array([1, 10, 0.01], np.float32)
    scales = weight_scales(weight, SINGLE)
    levels = round_weight(weight, scales)
    assert levels.dtype == np.int8
    assert np.abs(levels).max(axis=0).tolist() == [127, 127, 127]
    assert (np.abs(levels * scales - weight) <= 0.501 * scales).all()


def test_a_layer_of_few_levels_has_less_signal_over_noise() -> None:
    rng = np.random.default_rng(0)
    rows, weight = rng.standard_normal((100, 32)).astype(np.float32), rng.standard_normal((32, 16)).astype(np.float32)
    fine = layer_snr_db(rows, weight, choose_range(rows, SINGLE), SINGLE)
    coarse = layer_snr_db(rows, weight, Range(scale=0.5, zero=128), SINGLE)
    assert 35 < fine < 50
    assert 12 < coarse < 20


def test_a_layer_that_loses_nothing_has_the_most_that_json_can_say() -> None:
    rows, weight = np.ones((4, 2), np.float32), np.ones((2, 2), np.float32)
    assert layer_snr_db(np.zeros_like(rows), weight, Range(scale=1.0, zero=0), SINGLE) == SNR_CAP_DB
