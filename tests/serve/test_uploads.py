"""Files as base64 text, decoded part by part."""

from __future__ import annotations

import base64
import random

import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.serve import uploads
from sd2rt.serve.uploads import read_upload


@pytest.mark.parametrize("space", ["", " ", "\r\n", "\n\n\n\n\n\n\n\n\n"])
@pytest.mark.parametrize("head", ["", "data:image/png;base64,"])
def test_any_text_in_parts_of_any_size(head: str, space: str, monkeypatch: pytest.MonkeyPatch) -> None:
    random.seed(0)
    for size in (*range(1, 20), 1000):
        content = random.randbytes(size)
        text = base64.b64encode(content).decode()
        spaced = head + space.join(text[place : place + 5] for place in range(0, len(text), 5)) + space
        for part in (1, 2, 3, 4, 7, 64, 10_000):
            monkeypatch.setattr(uploads, "PART", part)
            assert read_upload("image", spaced) == content


@pytest.mark.parametrize(
    "text",
    ["QQ==QUJD", "QUJDQQ==QUJD", "QUI=QUJD", "QQ==QQ==", "QQ=", "Q", "QUJDQ", "====", "QU=D", "QU!D", "QUJDü", "-_-_", "=QUJ"],
)
def test_what_is_no_base64_is_none_in_parts_of_any_size(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in (1, 2, 3, 4, 5, 8, 10_000):
        monkeypatch.setattr(uploads, "PART", part)
        with pytest.raises(InvalidArgument, match=r"image: got what is no base64 \(.+\); expected a PNG"):
            read_upload("image", text)


@pytest.mark.parametrize("text", ["", " \n ", "data:image/png;base64,"])
def test_nothing_is_no_file(text: str) -> None:
    with pytest.raises(InvalidArgument, match="got an empty text"):
        read_upload("image", text)


@pytest.mark.parametrize("text", ["http://x/y.png", "file:///etc/passwd", "data:text/html;base64,QUJD", "DATA:image/svg+xml;base64,QUJD"])
def test_addresses_are_not_followed(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"got an address .+ this server fetches nothing"):
        read_upload("image", text)
