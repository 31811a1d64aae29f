"""JPEG files that are small and take minutes to decode."""

from __future__ import annotations

import io
import struct
import time

import pytest
from PIL import Image

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.models import find_model
from sd2rt.serve.admission import check_limits
from sd2rt.serve.given_pictures import open_given
from sd2rt.serve.jpeg_scans import MOST_SCANS, MOST_SEGMENTS, has_many_scans
from sd2rt.serve.order import Order
from sd2rt.serve.settings import Limits

SCAN, END = b"\xff\xda", b"\xff\xd9"
COMMENT = b"\xff\xfe" + struct.pack(">H", 2 + 3000) + SCAN * 1500


def progressive(side: int, more: int = 0) -> bytes:
    """A gray JPEG file, its last scan `more` times more."""
    stream = io.BytesIO()
    Image.new("L", (side, side), 77).save(stream, "JPEG", progressive=True)
    content = stream.getvalue()
    last = content[content.rindex(SCAN) : -len(END)]
    return content[: -len(END)] + last * more + END


@pytest.mark.parametrize("side", [64, 4096])
def test_files_of_a_thousand_scans_are_refused_before_they_are_decoded(side: int) -> None:
    bomb = progressive(side, 100_000)
    began = time.thread_time()
    with pytest.raises(InvalidArgument, match="mask: got a JPEG file of more than 100 scans"):
        open_given("mask", bomb, Limits().upload_pixels)
    order = Order(model="toyworld", options={"prompt": "a"}, pictures={"image": bomb})
    with pytest.raises(InvalidArgument, match="image: got a JPEG file of more than 100 scans"):
        check_limits(order, read_bundle(find_model("toyworld")), Limits())
    assert time.thread_time() - began < 1


def test_as_many_as_are_allowed_are_decoded() -> None:
    own = progressive(64).count(SCAN)
    assert open_given("image", progressive(64, MOST_SCANS - own), 4096).size == (64, 64)
    assert not has_many_scans(progressive(64, MOST_SCANS - own))
    assert has_many_scans(progressive(64, MOST_SCANS - own + 1))


@pytest.mark.parametrize(
    ("content", "many"),
    [
        (b"", False),
        (b"\xff\xd8" + SCAN * 500, False),  # each is the length of the one before it, which leads behind the end
        (progressive(64) + SCAN * 500, False),  # films of phones are behind the picture
        (progressive(64)[:2] + COMMENT + progressive(64)[2:], False),
        (progressive(64)[:2] + COMMENT + progressive(64, MOST_SCANS)[2:], True),
        (progressive(64)[:-2] + b"\xff\x02\xff\x00\xff\xd0" + progressive(64, MOST_SCANS)[2:], True),
        (progressive(64)[:2] + b"\xff\xfe\x00\x02" * MOST_SEGMENTS + progressive(64, MOST_SCANS)[2:], True),
    ],
    ids=range(7),
)
def test_scans_of_the_picture_count_alone(content: bytes, many: bool) -> None:
    assert has_many_scans(content) is many
