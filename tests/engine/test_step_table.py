import numpy as np
import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.engine.step_table import REGISTERS, ROW, SCALARS, TABLE_ROWS, pack_row, pack_table


def test_a_row_is_scalars_then_each_registers_weights_over_registers_output_and_noise() -> None:
    weights = np.array([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
    row = pack_row(999.5, 0.25, (2.0, -3.0), weights, known_alpha=0.5, known_sigma=8.0)
    assert (row.dtype, row.shape) == (np.float32, (ROW,))
    first, second, unused = [1, 2, 0, 0, 0, 3, 4], [5, 6, 0, 0, 0, 7, 8], [0] * 7
    assert row.tolist() == [999.5, 0.25, 2, -3, 0.5, 8, *first, *second, *unused * 3]


def test_all_registers_fit() -> None:
    weights = np.arange(REGISTERS * (REGISTERS + 2), dtype=np.float64).reshape(REGISTERS, REGISTERS + 2)
    np.testing.assert_array_equal(pack_row(0.0, 1.0, (0.0, 1.0), weights)[SCALARS:], weights.ravel())


def test_weights_are_rounded_to_float32_as_the_numpy_loop_rounds_them() -> None:
    row = pack_row(1 / 3, 1 / 7, (0.1, 0.2), np.full((1, 3), 0.7), known_alpha=0.3, known_sigma=0.6)
    assert row[: SCALARS + 1].tolist() == [np.float32(x) for x in (1 / 3, 1 / 7, 0.1, 0.2, 0.3, 0.6, 0.7)]


def test_register_0_is_without_noise_after_a_row_unless_it_is_said_otherwise() -> None:
    assert pack_row(0.0, 1.0, (0.0, 1.0), np.ones((1, 3)))[4:SCALARS].tolist() == [1, 0]


@pytest.mark.parametrize("shape", [(0, 2), (6, 8), (2, 3), (2, 5), (3,)], ids=str)
def test_weights_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument, match=rf"got weights of shape \[{shape[0]}.*expected \[r, r \+ 2\] with r from 1 to 5"):
        pack_row(0.0, 1.0, (1.0, 0.0), np.zeros(shape))


def test_a_table_has_its_rows_in_order_and_zeros_after_them() -> None:
    rows = [np.full(ROW, value, np.float32) for value in (1, 2)]
    table = pack_table(rows)
    assert (table.dtype, table.shape) == (np.float32, (TABLE_ROWS, ROW))
    assert table[:, 0].tolist() == [1, 2] + [0] * (TABLE_ROWS - 2)
    assert table[1, -1] == 2


def test_a_table_can_be_full_and_not_fuller() -> None:
    row = np.ones(ROW, np.float32)
    assert pack_table([row] * TABLE_ROWS).all()
    with pytest.raises(InvalidArgument, match="got 2049 model evaluations; expected at most 2048: ask for fewer steps"):
        pack_table([row] * (TABLE_ROWS + 1))
