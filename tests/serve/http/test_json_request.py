"""Large bodies of JSON are read as small ones are, only faster."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message

from sd2rt.serve.json_request import LARGE_BYTES, JsonRequest
from tests.serve.http.conftest import Rig, picture, text_of

FILLING = "x" * LARGE_BYTES
VALUES: tuple[Any, ...] = (
    {"prompt": "ä \ud800 \u2028 \\ / \n", "image": FILLING},
    {"numbers": [0, -1, 1.5e-7, 1e308, 2**63, 2**200, 0.1, True, None], "image": FILLING},
    [[[[FILLING]]]],
)


def read(content: bytes) -> Any:
    """Read a body."""

    async def receive() -> Message:
        return {"type": "http.request", "body": content, "more_body": False}

    return asyncio.run(JsonRequest({"type": "http", "headers": []}, receive).json())


@pytest.mark.parametrize("value", VALUES, ids=("text", "numbers", "lists"))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-le"])
def test_what_a_body_says(value: Any, encoding: str) -> None:
    assert read(json.dumps(value).encode(encoding)) == value
    assert read(json.dumps(value, ensure_ascii=False).encode(encoding, "surrogatepass")) == value


@pytest.mark.parametrize("end", [', "n": NaN}', ', "n": -Infinity}', ', "image": "again"}', ', "n": 1e999}'])
def test_what_is_not_quite_json_is_read_as_ever(end: str) -> None:
    content = f'{{"image": "{FILLING}"{end}'
    assert str(read(content.encode())) == str(json.loads(content))  # a NaN is not equal to itself


@pytest.mark.parametrize("end", ["", "}}", ', "n": 01}', ', "n": "\t"}', ", }"])
def test_what_is_no_json_is_said_as_ever(end: str) -> None:
    content = f'{{"image": "{FILLING}"{end}'
    with pytest.raises(json.JSONDecodeError) as expected:
        json.loads(content)
    with pytest.raises(json.JSONDecodeError) as caught:
        read(content.encode())
    assert str(caught.value) == str(expected.value)


def test_large_bodies_alone_are_read_by_pydantic(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(request: Request) -> Any:
        raise AssertionError("asked the usual parser")

    monkeypatch.setattr(Request, "json", refuse)
    assert read(json.dumps(VALUES[1]).encode()) == VALUES[1]
    with pytest.raises(AssertionError, match="the usual parser"):
        read(b"{}")


@pytest.mark.parametrize("path", ["/v1/jobs", "/sdapi/v1/img2img"])
def test_routes_take_large_bodies(path: str, rig: Rig) -> None:
    image = text_of(picture()) + " " * LARGE_BYTES  # base64 may hold white space
    fields = {"image": image, "strength": 0.5} if path == "/v1/jobs" else {"init_images": [image]}
    reply = rig.client.post(path, json={"prompt": "x", "steps": 2, "width": 64, "height": 64, **fields})
    assert reply.status_code in (200, 202), reply.text
    nothing = rig.client.post(path, content=b" " * (LARGE_BYTES + 1), headers={"Content-Type": "application/json"})
    assert nothing.status_code == 400
    assert "got no JSON" in nothing.text
