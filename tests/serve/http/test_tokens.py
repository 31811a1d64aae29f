"""Whose request it is."""

import base64
import hmac
from typing import Any

import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.serve import tokens
from sd2rt.serve.settings import ServeSettings
from sd2rt.serve.tokens import given_secret
from tests.serve.http.conftest import TOKENS, Rig, bearer

ANN, BOB = (secret for _, secret in TOKENS)


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


CLOSED = (
    *(("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("GET", "/v1/jobs/x"), ("DELETE", "/v1/jobs/x"), ("GET", "/v1/jobs/x/events")),
    *(("GET", "/metrics"), ("GET", "/openapi.json"), ("GET", "/nowhere"), ("GET", "/v1/models"), ("POST", "/sdapi/v1/txt2img")),
)
WRONG = [
    {},
    bearer("wrong-secret-0123456789"),
    bearer(ANN[:-1]),
    bearer(ANN + "x"),
    bearer(""),
    {"Authorization": ANN},
    {"Authorization": f"Token {ANN}"},
    {"Authorization": "Basic !!!"},
    {"Authorization": "Basic " + base64.b64encode(ANN.encode()).decode()},  # a user, and no password
    {"X-Api-Key": ANN},
    {"Cookie": f"token={ANN}"},
]


@pytest.mark.parametrize("headers", WRONG, ids=range(len(WRONG)))
def test_without_a_token_nothing_is_told(headers: dict[str, str], guarded: Rig) -> None:
    for method, path in CLOSED:
        reply = guarded.client.request(method, path, headers=headers)
        assert reply.status_code == 401, (method, path)
        assert reply.headers["WWW-Authenticate"] == 'Bearer realm="sd2rt"'
        assert ANN not in reply.text


def test_two_tokens_are_none(guarded: Rig) -> None:
    headers = [("Authorization", f"Bearer {ANN}"), ("Authorization", f"Bearer {BOB}")]
    assert guarded.client.get("/v1/jobs", headers=headers).status_code == 401  # type: ignore[arg-type]


def test_no_token_in_the_address(guarded: Rig) -> None:
    """Addresses end up in logs and histories."""
    assert guarded.client.get(f"/v1/jobs?token={ANN}&api_key={ANN}").status_code == 401


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_what_is_public_needs_none(path: str, guarded: Rig) -> None:
    assert guarded.client.get(path).json() == {"status": "ok"}


@pytest.mark.parametrize("headers", [bearer(ANN), basic("", ANN), basic("anybody", ANN), {"authorization": f"bearer  {ANN} "}])
def test_a_token_as_bearer_and_as_password(headers: dict[str, str], guarded: Rig) -> None:
    for path in ("/v1/jobs", "/metrics", "/openapi.json"):
        assert guarded.client.get(path, headers=headers).status_code == 200


def test_owners_see_their_own_jobs_alone(guarded: Rig) -> None:
    client = guarded.client
    job = client.post("/v1/jobs", json={"prompt": "x", "steps": 1, "previews": 1}, headers=bearer(ANN)).json()["id"]
    paths = [f"/v1/jobs/{job}{rest}" for rest in ("", "/images/0", "/preview", "/events")]
    none = client.get("/v1/jobs/job-0000000000000000", headers=bearer(BOB))
    for path in paths:
        reply = client.get(path, headers=bearer(BOB))
        assert reply.status_code == 404
        assert reply.text.replace(job, "") == none.text.replace("job-0000000000000000", "")  # as if there were none
    assert client.delete(f"/v1/jobs/{job}", headers=bearer(BOB)).status_code == 404
    assert client.get("/v1/jobs", headers=bearer(BOB)).json()["data"] == []
    assert client.get("/v1/jobs", headers=bearer(ANN)).json()["data"][0]["id"] == job
    assert client.get(paths[0], headers=bearer(ANN)).status_code == 200


def test_every_token_is_compared_in_full(guarded: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(tokens, "hmac", type("hmac", (), {"compare_digest": staticmethod(compare)}))
    assert guarded.client.get("/v1/jobs", headers=bearer(ANN)).status_code == 200
    assert compared == [(ANN.encode(), ANN.encode()), (BOB.encode(), ANN.encode())]
    assert hmac.compare_digest(b"x", b"x")


@pytest.mark.parametrize("secret", ["schlüssel-aus-köln-1", "\udcff" * 20, "x" * 20 + "\xa0", " " + "x" * 20, "x" * 20 + "\x01"])
def test_tokens_are_printable_ascii(secret: str) -> None:
    with pytest.raises(InvalidArgument, match=r"token of 'me': got characters .* expected printable ASCII") as refused:
        ServeSettings(tokens=(("me", secret),))
    assert secret not in str(refused.value)


@pytest.mark.parametrize("more", [b"\xa0", b"\x85", b"\xc2\xa0"])
def test_bytes_beside_a_token_are_no_spaces(more: bytes, guarded: Rig) -> None:
    for value in (ANN.encode() + more, more + ANN.encode()):
        assert given_secret(f"Bearer {value.decode('latin-1')}") == value
        headers: Any = {"Authorization": b"Bearer " + value}
        assert guarded.client.get("/v1/jobs", headers=headers).status_code == 401


def test_without_tokens_everybody_is_one_owner(rig: Rig) -> None:
    assert rig.client.get("/v1/jobs").status_code == 200
    assert rig.client.get("/v1/jobs", headers=bearer("any")).status_code == 200
