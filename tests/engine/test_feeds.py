import re

import numpy as np
import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.engine.feeds import check_feeds
from sd2rt.engine.spec import TensorSpec

INPUTS = (
    TensorSpec(name="sample", dtype="float32", shape=("batch", 4, "height", "?")),
    TensorSpec(name="class_labels", dtype="int64", shape=("batch",)),
)
SAMPLE = np.zeros((2, 4, 8, 8), np.float32)
LABELS = np.zeros(2, np.int64)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32"])
def test_numbers_of_another_width_are_cast(dtype: str) -> None:
    fed = check_feeds("unet", INPUTS, {"sample": SAMPLE.astype(dtype), "class_labels": LABELS.astype(np.int32)})
    assert {name: str(array.dtype) for name, array in fed.items()} == {"sample": "float32", "class_labels": "int64"}


def test_array_that_fits_is_passed_on_without_a_copy() -> None:
    assert check_feeds("unet", INPUTS, {"sample": SAMPLE, "class_labels": LABELS})["sample"] is SAMPLE


def test_strided_array_is_made_contiguous() -> None:
    turned = np.zeros((2, 8, 8, 4), np.float32).transpose(0, 3, 1, 2)
    assert check_feeds("unet", INPUTS, {"sample": turned, "class_labels": LABELS})["sample"].flags.c_contiguous


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_labels": None}, "got inputs sample; expected sample, class_labels"),
        ({"mask": LABELS}, "got inputs class_labels, mask, sample; expected sample, class_labels"),
        ({"sample": SAMPLE[:, :3]}, "got sample of shape (2, 3, 8, 8); expected (batch, 4, height, ?)"),
        ({"sample": SAMPLE[0]}, "got sample of shape (4, 8, 8); expected (batch, 4, height, ?)"),
        ({"class_labels": np.zeros(3, np.int64)}, "got class_labels of shape (3,); expected (2)"),
        ({"class_labels": np.zeros(2, np.float32)}, "got class_labels of float32; expected int64"),
        ({"sample": SAMPLE.astype("S1")}, "got sample of |S1; expected float32"),
    ],
    ids=["missing", "unknown", "channels", "rank", "batches differ", "floats for integers", "text"],
)
def test_wrong_feed_is_named(change: dict[str, np.ndarray | None], message: str) -> None:
    feeds = {name: array for name, array in ({"sample": SAMPLE, "class_labels": LABELS} | change).items() if array is not None}
    with pytest.raises(InvalidArgument, match=re.escape(f"unet: {message}")):
        check_feeds("unet", INPUTS, feeds)


def test_unnamed_axes_need_not_agree() -> None:
    inputs = tuple(TensorSpec(name=name, dtype="float32", shape=("?",)) for name in "ab")
    assert len(check_feeds("unet", inputs, {"a": np.zeros(2, np.float32), "b": np.zeros(3, np.float32)})) == 2
