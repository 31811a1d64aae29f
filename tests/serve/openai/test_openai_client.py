"""OpenAI's images API as the official client speaks it, against a real server that paints toyworld."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

import httpx
import openai
import pytest
from PIL import Image

from sd2rt.serve.settings import ServeSettings
from tests.serve.pictures import picture, pixels, png, read, transparent_mask, white_mask
from tests.serve.toyserver import serving, toyworld_app

PROMPT = "a large red sphere on the left, gray floor"
FEW = {"steps": 4, "seed": 7}
FORMATS = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    with serving(lambda: toyworld_app(ServeSettings())) as address:
        yield openai.OpenAI(base_url=f"{address}/v1", api_key="not-needed", max_retries=0, timeout=120)


def test_generate_answers_with_a_picture_and_all_fields(client: openai.OpenAI) -> None:
    reply = client.images.generate(prompt=PROMPT, extra_body=FEW)
    assert reply.data is not None
    assert read(reply.data[0].b64_json or "").size == (64, 64)
    assert (reply.size, reply.quality, reply.output_format, reply.background) == ("64x64", "high", "png", "opaque")
    assert reply.created > 1_700_000_000
    assert reply.usage is not None
    assert reply.usage.total_tokens == 0
    assert reply.data[0].model_extra == {"seed": 7}


def test_one_seed_paints_one_picture_and_several_count_up(client: openai.OpenAI) -> None:
    both = client.images.generate(prompt=PROMPT, n=2, size="64x64", model="toyworld", extra_body=FEW).data or []
    second = client.images.generate(prompt=PROMPT, extra_body=FEW | {"seed": 8}).data or []
    assert [image.model_extra for image in both] == [{"seed": 7}, {"seed": 8}]
    assert both[0].b64_json != both[1].b64_json
    assert read(both[1].b64_json or "").size == read(second[0].b64_json or "").size


def test_a_seed_that_is_not_given_is_drawn_and_told(client: openai.OpenAI) -> None:
    drawn = (client.images.generate(prompt=PROMPT, extra_body={"steps": 4}).data or [])[0]
    seed = (drawn.model_extra or {})["seed"]
    again = (client.images.generate(prompt=PROMPT, extra_body={"steps": 4, "seed": seed}).data or [])[0]
    assert again.b64_json == drawn.b64_json


def test_our_own_fields_change_the_picture(client: openai.OpenAI) -> None:
    ours = {"steps": 5, "seed": 7, "guidance_scale": 2.0, "sampler": "euler a", "negative_prompt": "blue"}
    image = (client.images.generate(prompt=PROMPT, size="64x96", extra_body=ours).data or [])[0]
    said = read(image.b64_json or "").info["parameters"]
    assert "Negative prompt: blue" in said
    assert "Steps: 5, Sampler: Euler a, CFG scale: 2, Seed: 7, Size: 64x96" in said


@pytest.mark.parametrize(("quality", "steps"), [("low", "Steps: 8"), ("medium", "Steps: 12"), ("hd", "Steps: 15"), ("auto", "Steps: 15")])
def test_quality_is_a_preset_of_speed(client: openai.OpenAI, quality: str, steps: str) -> None:
    reply = client.images.generate(prompt=PROMPT, quality=quality, extra_body={"seed": 7})  # type: ignore[call-overload]
    assert steps in read(reply.data[0].b64_json).info["parameters"]
    assert reply.quality == (quality if quality in ("low", "medium") else "high")


@pytest.mark.parametrize("form", FORMATS)
def test_formats(client: openai.OpenAI, form: str) -> None:
    extra = {} if form == "png" else {"output_compression": 50}
    reply = client.images.generate(prompt=PROMPT, output_format=form, extra_body=FEW | extra)  # type: ignore[call-overload]
    assert Image.open(io.BytesIO(base64.b64decode(reply.data[0].b64_json))).format == FORMATS[form]
    assert reply.output_format == form


@pytest.mark.parametrize("form", FORMATS)
def test_stream_of_a_generation(client: openai.OpenAI, form: str) -> None:
    stream = client.images.generate(  # type: ignore[call-overload]
        prompt=PROMPT, stream=True, partial_images=2, output_format=form, quality="low", user="me", extra_body=FEW
    )
    *partial, completed = list(stream)
    assert [event.type for event in partial] == ["image_generation.partial_image"] * 2
    assert [event.partial_image_index for event in partial] == [0, 1]
    assert completed.type == "image_generation.completed"
    for event in (*partial, completed):
        assert (event.size, event.quality, event.output_format, event.background) == ("64x64", "low", form, "opaque")
        assert read(event.b64_json).format == FORMATS[form]
        assert read(event.b64_json).size == (64, 64)
        assert event.created_at > 1_700_000_000
    assert completed.usage.input_tokens_details.text_tokens == completed.usage.total_tokens == 0
    assert completed.safety_identifier == "me"
    whole = client.images.generate(prompt=PROMPT, output_format=form, quality="low", extra_body=FEW)  # type: ignore[call-overload]
    assert whole.data[0].b64_json == completed.b64_json


def test_stream_without_partial_images_is_one_event(client: openai.OpenAI) -> None:
    stream = client.images.generate(prompt=PROMPT, stream=True, n=2, extra_body=FEW)
    assert [(event.type, (event.model_extra or {})["image_index"]) for event in stream] == [
        ("image_generation.completed", 0),
        ("image_generation.completed", 1),
    ]


def test_edit_with_a_mask_keeps_what_is_opaque(client: openai.OpenAI) -> None:
    reply = client.images.edit(image=png(picture()), mask=png(transparent_mask()), prompt=PROMPT, extra_body=FEW)
    edited = read((reply.data or [])[0].b64_json or "")
    assert "Model: toyworld-inpainting" in edited.info["parameters"]
    assert edited.crop((40, 0, 64, 64)).tobytes() == picture().crop((40, 0, 64, 64)).tobytes()
    assert edited.crop((8, 16, 40, 56)).convert("RGB").tobytes() != picture().crop((8, 16, 40, 56)).tobytes()


def test_edit_without_a_mask_is_image_to_image(client: openai.OpenAI) -> None:
    extra = FEW | {"strength": 0.5}
    reply = client.images.edit(image=("ball.png", png(picture()), "image/png"), prompt=PROMPT, size="64x64", extra_body=extra)
    assert "Denoising strength: 0.5" in read((reply.data or [])[0].b64_json or "").info["parameters"]
    in_a_list = client.images.edit(image=[png(picture())], prompt=PROMPT, extra_body=extra)  # sent as image[]
    assert (in_a_list.data or [])[0].b64_json == (reply.data or [])[0].b64_json


def test_stream_of_an_edit(client: openai.OpenAI) -> None:
    stream = client.images.edit(
        image=png(picture()), mask=png(transparent_mask()), prompt=PROMPT, stream=True, partial_images=1, extra_body=FEW
    )
    partial, completed = list(stream)
    assert (partial.type, completed.type) == ("image_edit.partial_image", "image_edit.completed")
    assert completed.usage.total_tokens == 0  # type: ignore[union-attr]
    whole = client.images.edit(image=png(picture()), mask=png(transparent_mask()), prompt=PROMPT, extra_body=FEW)
    assert pixels(completed.b64_json) == pixels((whole.data or [])[0].b64_json or "")


def test_variations(client: openai.OpenAI) -> None:
    reply = client.images.create_variation(image=png(picture()), n=2, extra_body={"seed": 7, "strength": 0.4})
    first, second = (read(image.b64_json or "") for image in reply.data or [])
    assert first.tobytes() != second.tobytes()
    assert reply.size == "64x64"


def test_models(client: openai.OpenAI) -> None:
    models = client.models.list().data
    assert [model.id for model in models] == ["toyworld", "toyworld-inpainting", "toyworld-depth", "toyworld-upscaler"]
    one = client.models.retrieve("toyworld-inpainting")
    assert one == models[1]
    assert (one.object, one.owned_by) == ("model", "sd2rt")
    ours = one.model_extra or {}
    assert (ours["task"], ours["width"], ours["sampler"], ours["default"]) == ("inpainting", 64, "dpm++ 2m", False)
    assert (ours["strength"], ours["noise_level"], ours["size_multiple"]) == (None, None, 8)
    assert {"euler a", "euler a karras", "ddim"} < set(ours["samplers"])


def test_unknown_models_are_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="gpt-image-1"):
        client.images.generate(prompt=PROMPT, model="gpt-image-1")
    with pytest.raises(openai.NotFoundError, match="dall-e-2") as caught:
        client.models.retrieve("dall-e-2")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"size": "big"}, "size"),
        ({"size": "1024x1024"}, "size"),
        ({"size": "65x64"}, "size"),
        ({"size": "64x65"}, "size"),
        ({"n": 9}, "n"),
        ({"response_format": "url"}, "response_format"),
        ({"background": "transparent"}, "background"),
        ({"output_format": "gif"}, "output_format"),
        ({"output_compression": 50}, "output_compression"),
        ({"partial_images": 2}, "partial_images"),
        ({"stream": True, "partial_images": 4}, "partial_images"),
        ({"quality": "best"}, "quality"),
        ({"extra_body": {"sampler": "none such"}}, "sampler"),
        ({"extra_body": {"steps": 151}}, "steps"),
        ({"extra_body": {"guidance": 4}}, "guidance"),
    ],
)
def test_bad_requests_say_which_field(client: openai.OpenAI, asked: dict[str, object], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(prompt=PROMPT, **asked)  # type: ignore[call-overload]
    assert caught.value.param == param
    assert caught.value.body["message"].startswith(f"{param}: ")  # type: ignore[index]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"image": [png(picture()), png(picture())]}, "image: got 2 pictures"),
        ({"image": b"no picture"}, "image: got 10 bytes"),
        ({"image": png(picture()), "mask": png(white_mask())}, "mask: got a picture that is nowhere transparent"),
        ({"image": png(picture()), "mask": b"none"}, "mask: got 4 bytes"),
        ({"image": png(picture()), "model": "toyworld-inpainting"}, "mask: got none"),
        ({"image": png(picture()), "input_fidelity": "high"}, "input_fidelity"),
    ],
)
def test_bad_edits_say_why(client: openai.OpenAI, asked: dict[str, object], said: str) -> None:
    with pytest.raises(openai.BadRequestError, match=said):
        client.images.edit(prompt=PROMPT, **asked)  # type: ignore[call-overload]


@pytest.mark.parametrize("path", ["generations", "edits", "variations"])
def test_bodies_of_another_type_are_refused(client: openai.OpenAI, path: str) -> None:
    with pytest.raises(openai.APIStatusError, match="expected") as caught:
        client.post(f"/images/{path}", content=b"prompt=x", options={"headers": {"Content-Type": "text/plain"}}, cast_to=object)
    assert caught.value.status_code == 415


PICTURE = ("a.png", png(picture()))


@pytest.mark.parametrize(
    ("path", "fields", "files", "said"),
    [
        ("edits", {"image": "photo.png", "prompt": "x"}, {"mask": PICTURE}, "image: got text; expected a file (curl: -F image=@photo.png)"),
        ("edits", {"image[]": "photo.png", "prompt": "x"}, {"mask": PICTURE}, "image[]: got text; expected a file"),
        ("edits", {"prompt": "x", "mask": "mask.png"}, {"image": PICTURE}, "mask: got text; expected a file (curl: -F mask=@photo.png)"),
        ("variations", {"image": "photo.png"}, {"x": PICTURE}, "image: got text; expected a file"),
        ("edits", {}, {"image": PICTURE, "prompt": PICTURE}, "prompt: got a file; expected a valid string"),
        ("edits", {"prompt": "x" * 1_100_000}, {"image": PICTURE}, "body: got a field of more than 1 MiB; expected texts"),
        ("edits", {str(number): "" for number in range(1001)}, {"image": PICTURE}, "body: got too many fields; expected"),
        ("edits", {"prompt": "x"}, {str(number): PICTURE for number in range(1001)}, "body: got too many files; expected"),
    ],
)
def test_mistakes_in_forms_are_told_in_our_words(
    client: openai.OpenAI, path: str, fields: dict[str, str], files: dict[str, tuple[str, bytes]], said: str
) -> None:
    reply = httpx.post(f"{client.base_url}images/{path}", data=fields, files=files, timeout=60)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"].startswith(said)
    assert "UploadFile" not in reply.text


def test_a_form_without_its_boundary_is_told_of(client: openai.OpenAI) -> None:
    reply = httpx.post(f"{client.base_url}images/edits", content=b"x", headers={"Content-Type": "multipart/form-data"}, timeout=60)
    assert (reply.status_code, reply.json()["error"]["message"][:41]) == (400, "body: got a form without its boundary; ex")
