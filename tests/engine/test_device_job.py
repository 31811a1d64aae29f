"""The text encoder's axes in a device loop: as many chunks as make the UNet's context."""

import pytest

from sd2rt.engine.device_job import text_axes
from sd2rt.engine.errors import InvalidArgument
from sd2rt.engine.spec import TensorSpec


def _inputs(*shape: int | str) -> tuple[TensorSpec, ...]:
    return (TensorSpec(name="input_ids", dtype="int64", shape=shape),)


@pytest.mark.parametrize(("sequence", "batch"), [(77, 2), (154, 4), (231, 6)])
def test_every_row_of_the_unet_has_its_chunks(sequence: int, batch: int) -> None:
    axes = {"batch": 2, "sequence": sequence, "height": 8}
    assert text_axes(_inputs("batch", 77), axes) == {"batch": batch, "sequence": sequence, "height": 8}


@pytest.mark.parametrize(
    ("inputs", "tokens"),
    [(_inputs("batch", 77), "77"), (_inputs("batch", "sequence"), "sequence"), ((), "no tokens")],
    ids=["part", "loose", "none"],
)
def test_a_context_that_chunks_do_not_make_is_refused(inputs: tuple[TensorSpec, ...], tokens: str) -> None:
    with pytest.raises(InvalidArgument, match=f"text encoder: got a context of 78 tokens for an encoder of {tokens}; expected a multiple"):
        text_axes(inputs, {"batch": 2, "sequence": 78})
