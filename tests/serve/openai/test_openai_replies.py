"""What is answered, read by the official client's own types."""

from __future__ import annotations

import json

from openai.types import ImageEditCompletedEvent, ImageGenCompletedEvent, ImageGenPartialImageEvent, ImagesResponse

from sd2rt.serve.openai_bodies import Generation
from sd2rt.serve.openai_replies import completed_events, error_event, images_response, partial_events, shown
from sd2rt.serve.order import Finished, Previewed

FINISHED = Finished(pictures=(b"one", b"two"), parameters=({"seed": 3}, {"seed": 4}), timings={}, notes=("cut: the end",))
ABOUT = shown(Generation(prompt="x", quality="medium", output_format="jpeg", user="me"), (64, 96), 1_800_000_000.9)


def data_of(event: bytes) -> dict[str, object]:
    """Return the fields of a server-sent event, checking its form."""
    name, data, *rest = event.decode().split("\n")
    assert rest == ["", ""]
    fields = json.loads(data.removeprefix("data: "))
    assert name == f"event: {fields['type']}"
    return dict(fields)


def test_the_response_is_what_the_client_reads() -> None:
    reply = ImagesResponse.model_validate(images_response(FINISHED, ABOUT), strict=True)
    assert [image.b64_json for image in reply.data or []] == ["b25l", "dHdv"]
    assert (reply.created, reply.size, reply.quality, reply.output_format) == (1_800_000_000, "64x96", "medium", "jpeg")
    assert (reply.safety_identifier, reply.background) == ("me", "opaque")
    assert reply.model_extra == {"notes": ["cut: the end"]}


def test_events_are_what_the_client_reads() -> None:
    partial = [data_of(event) for event in partial_events("image_generation", Previewed(index=1, step=3, pictures=(b"a", b"b")), ABOUT)]
    assert [ImageGenPartialImageEvent.model_validate(fields, strict=True).partial_image_index for fields in partial] == [1, 1]
    assert [fields["image_index"] for fields in partial] == [0, 1]
    completed = [data_of(event) for event in completed_events("image_generation", FINISHED, ABOUT)]
    assert [ImageGenCompletedEvent.model_validate(fields, strict=True).b64_json for fields in completed] == ["b25l", "dHdv"]
    assert [fields["seed"] for fields in completed] == [3, 4]
    for event in completed_events("image_edit", FINISHED, ABOUT):
        assert ImageEditCompletedEvent.model_validate(data_of(event), strict=True).safety_identifier == "me"


def test_an_error_is_an_event_too() -> None:
    assert data_of(error_event("no room", "server_error")) == {
        "type": "error",
        "error": {"message": "no room", "type": "server_error", "param": None, "code": None},
    }
