"""Batches and events come out of their bytes as they went in."""

import json

import pytest

from sd2rt.serve.backend import Task
from sd2rt.serve.errors import ServeError
from sd2rt.serve.order import Cancelled, Failed, Finished, Order, Previewed, Started, Stepped
from sd2rt.serve.wire import LENGTH, Evicted, LogLine, Told, decode_batch, decode_event, encode_batch, encode_event

BATCH = (
    Task(id="job-1", order=Order(model="toyworld", options={"prompt": "ein roter Würfel", "seed": 2**63, "guidance_scale": 4.5})),
    Task(
        id="job-2",
        order=Order(
            model="sd21",
            options={"prompt": ["a", "b"], "seeds": [1, 2]},
            pictures={"mask": b"", "image": bytes(range(256)) * 100},
            format="webp",
            quality=80,
            metadata=False,
            previews=3,
            preview_decoder="vae",
        ),
    ),
)
EVENTS = [
    Started(total_steps=5, rows=2),
    Stepped(step=1, total_steps=5),
    Previewed(index=0, step=2, pictures=(b"one", b"", b"three")),
    Finished(pictures=(b"\x89PNG", b"x" * 70_000), parameters=({"seed": 1}, {"seed": 2}), timings={"steps": [0.1]}, notes=("cut",)),
    Failed(message="no", status=500),
    Cancelled(),
    LogLine(level=20, text="opened"),
    Evicted(model="toyworld"),
]


def test_a_batch() -> None:
    content = encode_batch(BATCH)
    assert decode_batch(content) == BATCH
    assert list(decode_batch(content)[1].order.pictures) == ["mask", "image"]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event(event: Told) -> None:
    assert decode_event(encode_event("job-1", event)) == ("job-1", event)


def test_another_version_is_refused() -> None:
    head = json.dumps({"sd2rt": "9.9", "files": [], "said": []}).encode()
    with pytest.raises(ServeError, match=r"got a message of sd2rt 9\.9; expected .*: install one version on all machines"):
        decode_batch(LENGTH.pack(len(head)) + head)
