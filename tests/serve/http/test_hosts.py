"""Names of this server, and pages of other sites."""

import pytest

from sd2rt.serve.hosts import HostGuard, host_name
from tests.serve.http.conftest import Rig, bearer, serving

SECRET = "a-secret-of-20-letters"
EVIL = "http://evil.example"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:7860", "localhost:80", "LOCALHOST", "localhost.", "[::1]:7860", "[::1]"])
def test_loopback_names_with_any_port(host: str, rig: Rig) -> None:
    assert rig.client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:7860", "localhost.evil.example", "127.0.0.1.evil.example", "192.168.1.5", "0.0.0.0", "[::]"),
        *("", " ", "a b", "localhost@evil.example", "evil.example@localhost", "localhost/evil", "localhost:99999", "localhost:x", "[::1"),
        *("127.1", "2130706433", "localhost?x", "localhost#x", "\xff"),
    ],
)
def test_other_names_are_refused_before_everything_else(host: str, rig: Rig) -> None:
    for path in ("/health", "/v1/jobs", "/nowhere"):
        reply = rig.client.get(path, headers={"Host": host.encode("latin-1")})  # type: ignore[dict-item]
        assert reply.status_code == 403, (host, path)
        assert reply.json()["error"]["code"] == "host_not_allowed"
        assert "--allowed-host" in reply.json()["error"]["message"]


def test_two_hosts_are_none(rig: Rig) -> None:
    assert rig.client.get("/health", headers=[("Host", "localhost"), ("Host", "localhost")]).status_code == 403  # type: ignore[arg-type]


def test_hosts_that_were_allowed() -> None:
    with serving(host="192.168.1.5", allowed_hosts=("Pictures.example",), tokens=(("me", SECRET),)) as rig:
        for host, status in {"pictures.example": 200, "192.168.1.5:7860": 200, "localhost": 200, "other.example": 403}.items():
            assert rig.client.get("/health", headers={"Host": host}).status_code == status, host


def test_served_on_all_addresses_any_literal_address_will_do_and_no_name() -> None:
    with serving(host="0.0.0.0", tokens=(("me", SECRET),)) as rig:
        for host, status in {"10.1.2.3:7860": 200, "[fe80::1]:80": 200, "evil.example": 403, "10.1.2.3.evil.example": 403}.items():
            assert rig.client.get("/health", headers={"Host": host}).status_code == status, host


@pytest.mark.parametrize("origin", [EVIL, "null", "https://localhost:1234", "http://127.0.0.1.evil.example", "file://", "http://[", ""])
def test_pages_of_other_sites_send_nothing(origin: str, rig: Rig) -> None:
    for method, path in (("POST", "/v1/jobs"), ("DELETE", "/v1/jobs/x"), ("OPTIONS", "/v1/jobs"), ("GET", "/v1/jobs"), ("POST", "/health")):
        reply = rig.client.request(method, path, headers={"Origin": origin})
        assert reply.status_code == 403, (method, path)
        assert reply.json()["error"]["code"] == "origin_not_allowed"
        assert not [name for name in reply.headers if name.startswith("access-control-")]
    assert rig.service.jobs("local") == ()


def test_pages_of_other_sites_read_what_is_public_and_the_browser_keeps_it_from_them(rig: Rig) -> None:
    reply = rig.client.get("/health", headers={"Origin": EVIL})
    assert reply.status_code == 200
    assert not [name for name in reply.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pictures_in_pages_of_other_sites_are_not_shown(site: str, rig: Rig) -> None:
    """An <img> sends no Origin, but browsers say whose page it is in."""
    assert rig.client.get("/v1/jobs", headers={"Sec-Fetch-Site": site}).status_code == 403
    assert rig.client.get("/health", headers={"Sec-Fetch-Site": site}).status_code == 200


def test_the_servers_own_page_may_do_everything(rig: Rig) -> None:
    headers = {"Origin": "http://127.0.0.1:7860", "Sec-Fetch-Site": "same-origin"}
    assert rig.client.get("/v1/jobs", headers=headers).status_code == 200
    assert rig.client.post("/v1/jobs", headers=headers, json={"prompt": "x", "steps": 1}).status_code == 202


def test_a_token_does_not_open_the_door_for_another_site() -> None:
    with serving(tokens=(("me", SECRET),)) as rig:
        assert rig.client.get("/v1/jobs", headers={**bearer(SECRET), "Origin": EVIL}).status_code == 403


def test_names_are_compared_without_ports_dots_and_case() -> None:
    assert [host_name(host) for host in ("A.b:1", "a.B.", "[::1]:5", "a:b:c")] == ["a.b", "a.b", "::1", ""]
    guard = HostGuard(lambda *arguments: None, host="A.example", allowed=("[FE80::1]",))  # type: ignore[arg-type, return-value]
    assert guard.knows(["a.EXAMPLE.:80"])
    assert guard.knows(["[fe80::1]"])
    assert not guard.knows([])
