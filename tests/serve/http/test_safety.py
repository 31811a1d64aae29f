"""What ill will may send, and that nothing secret comes back."""

import io
import json
import struct
import time
import zlib
from typing import Any

import pytest
from PIL import Image

from tests.serve.http.conftest import Rig, picture, serving, text_of

NUMBERS = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1e999",
    "9" * 5000,
    "-" + "9" * 400,
    "1" + "0" * 308,
    '"7"',
    "true",
    "[]",
    "{}",
    "1.5",
]
FIELDS = ("steps", "seed", "width", "n", "quality", "previews", "noise_level", "clip_skip", "tile")
FLOATS = ("guidance_scale", "strength", "mask_blur", "guidance_rescale", "variation_strength")
TRICKS = [
    *("../../etc/passwd", "/etc/passwd", "..", ".", "", "toyworld/../toyworld", "./toyworld", "TOYWORLD", "toyworld ", "toyworld\x00"),
    *("\\\\server\\share", "C:\\Windows", "~/models", "https://example.com/x", "hub/model", "%2e%2e%2f", "a" * 300, "toyworld-depth", "💥"),
]


def refused(reply: Any, *statuses: int) -> str:
    """Check that a reply refuses in the API's shape, and return its message."""
    assert reply.status_code in statuses, (reply.status_code, reply.text[:300])
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    for secret in ("/tmp/", "/home/", "/usr/", "Traceback", ".py", "site-packages", "0x7f"):
        assert secret not in reply.text
    message = error["message"]
    assert isinstance(message, str)
    assert len(message) < 3000
    return message


def send(rig: Rig, body: str | bytes) -> Any:
    return rig.client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number[:12])
def test_numbers_that_are_none(number: str, rig: Rig) -> None:
    for field in FIELDS:
        assert field in refused(send(rig, f'{{"prompt": "x", "{field}": {number}}}'), 400) or len(number) > 4000
    for field in FLOATS:
        if number != "1.5" or (field != "guidance_scale" and field != "mask_blur"):
            refused(send(rig, f'{{"prompt": "x", "{field}": {number}}}'), 400)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("n", 0), ("n", 9), ("steps", 0), ("steps", 151), ("seed", -1), ("seed", 2**63), ("width", 0), ("width", 65), ("width", 8200)),
        *(("height", 4096), ("quality", 0), ("quality", 101), ("format", "gif"), ("format", "../x"), ("rng", "mt"), ("speed", "warp")),
        *(("decoder", "none"), ("preview_decoder", "x"), ("previews", 151), ("sampler", "no such"), ("sampler", "x" * 81)),
        *(("expand", [1, 2, 3]), ("expand", [1, 2, 3, -4]), ("guidance_interval", [0.9, 0.1]), ("guidance_interval", [0])),
        *(("prompt", "x" * 8193), ("negative_prompt", "x" * 8193), ("prompt", ""), ("prompt", ["a", "b"]), ("prompt", None)),
        *(("images_per_prompt", 2), ("latents", [[0.0]]), ("output", "latents"), ("callback", "x"), ("__class__", "x"), ("model", 5)),
        *(("metadata", "yes"), ("weighting", 1), ("invert", None), ("mask_blur", -1), ("strength", 0.5), ("noise_level", 5)),
    ],
    ids=str,
)
def test_values_that_are_wrong(field: str, value: Any, rig: Rig) -> None:
    if field == "prompt" and value == "":
        assert rig.client.post("/v1/jobs", json={"prompt": "", "steps": 1}).status_code == 202  # an empty text is a text
        return
    message = refused(rig.client.post("/v1/jobs", json={"prompt": "x", field: value}), 400)
    assert message.startswith((f"{field}: ", f"{field}.", "width and height", "image", "height", "width", "noise_level"))


@pytest.mark.parametrize(
    "body",
    [
        *("", "nope", "null", "[]", '"x"', "1", "{", '{"prompt": "x"', "[" * 100_000, '{"a":' * 50_000, '{"prompt": "x"} more'),
        *('{"prompt": "\\ud800"}', '{"prompt": "x", "\\ud800": 1}', '{"prompt": "x", "a' + "b" * 100_000 + '": 1}', "\x00", b"\xff\xfe{"),
        json.dumps({"prompt": "x", **{f"field-{number}": number for number in range(20_000)}}),
    ],
    ids=range(17),
)
def test_bodies_that_are_none(body: str | bytes, rig: Rig) -> None:
    begun = time.process_time()
    refused(send(rig, body), 400)
    assert time.process_time() - begun < 1


def test_a_name_that_comes_twice_is_one(rig: Rig) -> None:
    assert send(rig, '{"prompt": "x", "steps": 1, "steps": 2}').json()["total_steps"] == 2


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "application/jsonx"]
)
def test_what_is_not_said_to_be_json(kind: str, rig: Rig) -> None:
    message = refused(rig.client.post("/v1/jobs", content='{"prompt": "x"}', headers={"Content-Type": kind}), 415)
    assert "expected application/json" in message


@pytest.mark.parametrize("name", TRICKS, ids=range(len(TRICKS)))
def test_names_of_models_are_no_paths(name: str, rig: Rig) -> None:
    message = refused(rig.client.post("/v1/jobs", json={"prompt": "x", "model": name}), 404, 400)
    assert "No such file" not in message


@pytest.mark.parametrize(
    "name", ["..", "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%00", "job-", "*", "' OR 1=1", "job-" + "0" * 16, "x" * 5000, "%ff"]
)
def test_ids_of_jobs_are_no_paths(name: str, rig: Rig) -> None:
    for rest in ("", "/images/0", "/preview", "/events"):
        assert "root:" not in refused(rig.client.get(f"/v1/jobs/{name}{rest}"), 404)
    assert refused(rig.client.delete(f"/v1/jobs/{name}"), 404, 405)


def bomb(width: int, height: int) -> bytes:
    """A PNG file that says that it is large and is a few bytes long."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\x00" * 100)) + chunk(b"IEND", b"")


def gif() -> bytes:
    stream = io.BytesIO()
    Image.new("P", (64, 64)).save(stream, "GIF")
    return stream.getvalue()


PICTURES = {
    "a bomb": (bomb(60_000, 60_000), "got a picture of more pixels than any that is taken"),
    "larger than allowed": (bomb(4_097, 4_096), "expected at most 16,777,216 of them"),
    "empty of pixels": (bomb(0, 64), "expected a file of PNG, JPEG, WEBP"),
    "cut": (picture()[:60], "got a damaged file"),
    "no picture": (b"%PDF-1.7 " + b"x" * 100, "expected a file of PNG, JPEG, WEBP"),
    "another kind": (gif(), "expected a file of PNG, JPEG, WEBP"),
    "a page": (b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>", "expected a file of PNG, JPEG, WEBP"),
}


@pytest.mark.parametrize(("content", "said"), PICTURES.values(), ids=PICTURES.keys())
def test_pictures_that_are_none_are_refused_before_they_are_decoded(content: bytes, said: str, rig: Rig) -> None:
    begun = time.process_time()
    for field in ("image", "mask"):
        good = {"image": text_of(picture()), "mask": text_of(picture())}
        body = {"prompt": "x", "model": "toyworld-inpainting", **good, field: text_of(content)}
        message = refused(rig.client.post("/v1/jobs", json=body), 400)
        assert message.startswith(field)
        assert said in message
    assert time.process_time() - begun < 1


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations", "/sdapi/v1/txt2img"])
def test_a_large_body_of_unknown_names_holds_nobody_up(path: str, rig: Rig) -> None:
    for names in (49_000, 1_400_000):
        body = ('{"prompt": "x", ' + ", ".join(f'"{number}": 1' for number in range(names)) + ', "steps": 0}').encode()
        begun = time.process_time()
        reply = rig.client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert time.process_time() - begun < 0.5
        assert reply.status_code == 400


@pytest.mark.parametrize(
    "text",
    [
        *("http://127.0.0.1/x.png", "https://example.com/x.png", "file:///etc/passwd", "ftp://x/y", "HTTP://x", "//example.com/x.png"),
        *("data:text/html;base64,PGI+", "data:image/svg+xml;base64,PHN2Zy8+", "data:image/png,abc", "data:,", "javascript:1", "blob:x"),
        *("", "   ", "====", "abc", "not base64!", "/etc/passwd", "../x.png", "data:image/png;base64,", "é"),
    ],
)
def test_no_address_is_fetched_and_no_file_is_read(text: str, rig: Rig) -> None:
    message = refused(rig.client.post("/v1/jobs", json={"prompt": "x", "image": text}), 400)
    assert message.startswith("image")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/jobs", "GET, HEAD, POST"),
        ("OPTIONS", "/v1/jobs/x", "GET, HEAD, DELETE"),
        ("POST", "/health", "GET, HEAD"),
        ("TRACE", "/v1/jobs/x/events", "GET, HEAD"),
    ],
)
def test_other_methods(method: str, path: str, allowed: str, rig: Rig) -> None:
    reply = rig.client.request(method, path)
    assert "method" in refused(reply, 405)
    assert reply.headers["Allow"] == allowed


def test_every_reply_has_its_headers(rig: Rig) -> None:
    for method, path in (("GET", "/health"), ("GET", "/nowhere"), ("PUT", "/v1/jobs"), ("GET", "/v1/jobs"), ("POST", "/v1/jobs")):
        headers = rig.client.request(method, path).headers
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "server" not in headers


def test_the_first_of_many_mistakes_are_told(rig: Rig) -> None:
    body = {"prompt": "x", "steps": 0, "n": 0, "quality": 0, "width": 1, "rng": "x", "speed": "x", "format": "x"}
    message = refused(rig.client.post("/v1/jobs", json=body), 400)
    assert message.endswith("; and 2 more")
    assert "steps: got 0; expected greater than or equal to 1" in message


def test_what_a_client_sent_is_not_said_back_at_length(rig: Rig) -> None:
    message = refused(rig.client.post("/v1/jobs", json={"prompt": "secret " * 2000}), 400)
    assert message.count("secret") < 20


@pytest.mark.parametrize(
    ("path", "field"),
    [
        *[("/v1/images/generations", field) for field in ("model", "size", "user", "safety_identifier", "sampler")],
        *[("/sdapi/v1/txt2img", field) for field in ("sampler_name", "sampler_index", "scheduler", "script_name")],
        *[("/sdapi/v1/options", field) for field in ("sd_model_checkpoint", "randn_source")],
        *[("/sdapi/v1/extra-single-image", field) for field in ("upscaler_1", "upscaler_2")],
        *[("/v1/jobs", field) for field in ("model", "sampler")],
    ],
)
def test_every_name_has_a_bound(path: str, field: str, rig: Rig) -> None:
    reply = rig.client.post(path, json={"prompt": "x", "image": text_of(picture()), field: "a " * 600})
    assert reply.status_code == 400
    said = reply.json()["detail"] if path.startswith("/sdapi") else reply.json()["error"]["message"]
    assert f"{field}: got 1,200 characters; expected at most " in said


def test_a_failure_of_ours_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(owner: str) -> None:
        raise RuntimeError("a secret of /home/me/secrets.txt")

    with serving() as rig:
        monkeypatch.setattr(rig.service, "jobs", fail)
        reply = rig.client.get("/v1/jobs")
        assert refused(reply, 500) == "unexpected error; the server's log says which"
        assert reply.headers["X-Request-ID"].startswith("req-")
