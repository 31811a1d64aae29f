"""The web UI's API as its clients use it, against a real server that paints toyworld."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image
from sd_parsers import ParserManager
from sd_parsers.data import Sampler

from sd2rt.serve.settings import ServeSettings
from tests.serve.a1111.clients import (
    CYANIC_IMG2IMG,
    CYANIC_PROBES,
    OPEN_WEBUI,
    PROMPT,
    SILLY_TAVERN,
    WEBUIAPI_EXTRAS,
    WEBUIAPI_IMG2IMG,
    WEBUIAPI_TXT2IMG,
)
from tests.serve.pictures import picture, read, text, white_mask
from tests.serve.toyserver import serving, toyworld_app


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serving(lambda: toyworld_app(ServeSettings())) as address, httpx.Client(base_url=address, timeout=120) as client:
        yield client


def post(client: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    """Post JSON and return the reply's."""
    reply = client.post(f"/sdapi/v1/{path}", json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_open_webui(client: httpx.Client) -> None:
    options = client.get("/sdapi/v1/options").json()
    assert options["sd_model_checkpoint"].startswith("toyworld [")
    assert client.post("/sdapi/v1/options", json=options).json() is None  # all of them, as it does to choose a model
    reply = post(client, "txt2img", OPEN_WEBUI)
    first, second = (read(image) for image in reply["images"])
    assert first.size == second.size == (64, 64)
    info = json.loads(reply["info"])
    assert info["all_seeds"][1] == info["all_seeds"][0] + 1
    assert info["infotexts"] == [first.info["parameters"], second.info["parameters"]]


def test_silly_tavern(client: httpx.Client) -> None:
    for path in ("upscalers", "latent-upscale-modes", "sd-vae", "samplers", "schedulers", "sd-models"):
        assert isinstance(client.get(f"/sdapi/v1/{path}").json(), list)
    title = client.get("/sdapi/v1/sd-models").json()[0]["title"]
    assert client.post("/sdapi/v1/options", json={"sd_model_checkpoint": title}).status_code == 200
    progress = client.get("/sdapi/v1/progress").json()  # polled until the model is loaded
    assert (progress["progress"], progress["state"]["job_count"]) == (0.0, 0)
    reply = post(client, "txt2img", SILLY_TAVERN)
    assert "Steps: 4, Sampler: DPM++ 2M, Schedule type: Karras" in read(reply["images"][0]).info["parameters"]
    assert json.loads(reply["info"])["sampler_name"] == "DPM++ 2M Karras"


def test_webuiapi(client: httpx.Client) -> None:
    reply = post(client, "txt2img", WEBUIAPI_TXT2IMG)
    assert reply["parameters"]["sampler_name"] == "Euler a"
    info = json.loads(reply["info"])
    assert (info["seed"], info["cfg_scale"], info["prompt"], info["width"]) == (7, 7.0, PROMPT, 64)
    again = post(client, "txt2img", WEBUIAPI_TXT2IMG)
    assert again["images"] == reply["images"]
    body = WEBUIAPI_IMG2IMG | {"init_images": [f"data:image/png;base64,{text(picture())}"]}
    reply = post(client, "img2img", body)
    assert reply["parameters"]["init_images"] is None
    assert json.loads(reply["info"])["denoising_strength"] == 0.75
    reply = post(client, "img2img", body | {"mask": f"data:image/png;base64,{text(white_mask())}", "include_init_images": True})
    assert reply["parameters"]["init_images"] == body["init_images"]
    painted = read(reply["images"][0])
    assert painted.getpixel((60, 4)) == picture().getpixel((60, 4))
    assert json.loads(reply["info"])["notes"] == ["inpainting_fill: not done by this server"]


def test_only_masked_keeps_a_large_picture_as_it_was(client: httpx.Client) -> None:
    large = picture().resize((320, 200))
    body = WEBUIAPI_IMG2IMG | {"init_images": [text(large)], "mask": text(white_mask()), "denoising_strength": 1, "n_iter": 2}
    reply = post(client, "img2img", body | {"mask_blur": 2, "inpaint_full_res_padding": 8})
    first, second = (read(image) for image in reply["images"])
    assert first.size == second.size == large.size
    assert first.tobytes() != second.tobytes()
    for box in ((0, 0, 30, 200), (210, 0, 320, 200), (0, 0, 320, 40), (0, 185, 320, 200)):  # 6 pixels and more from the mask
        assert first.crop(box).tobytes() == large.crop(box).tobytes()
    assert first.crop((60, 80, 180, 150)).tobytes() != large.crop((60, 80, 180, 150)).tobytes()
    info = json.loads(reply["info"])
    assert info["infotexts"] == [first.info["parameters"], second.info["parameters"]]
    assert info["infotexts"][0].endswith("Inpaint area: Only masked, Masked area padding: 8")
    assert "sd2rt" not in first.info


def test_webuiapi_upscales(client: httpx.Client) -> None:
    small = text(picture().resize((32, 32)))
    reply = post(client, "extra-single-image", WEBUIAPI_EXTRAS | {"image": small})
    assert read(reply["image"]).size == (64, 64)
    assert "Model: toyworld-upscaler" in reply["html_info"]
    whole = post(client, "extra-single-image", WEBUIAPI_EXTRAS | {"image": small, "upscaling_resize": 4})
    assert read(whole["image"]).size == (128, 128)
    assert "sd2rt" in read(whole["image"]).info
    plain = post(client, "extra-single-image", WEBUIAPI_EXTRAS | {"image": small, "upscaler_1": "Lanczos", "upscaling_resize": 3})
    assert read(plain["image"]).size == (96, 96)


def test_krita(client: httpx.Client) -> None:
    for path in CYANIC_PROBES:
        reply = client.get(path)
        assert reply.status_code == 200, path
        assert reply.json() is not None
    assert client.get("/sdapi/v1/embeddings").json()["loaded"] == {}
    reply = post(client, "img2img", CYANIC_IMG2IMG | {"init_images": [text(picture())], "mask": text(white_mask())})
    assert "Denoising strength: 0.75" in read(reply["images"][0]).info["parameters"]


def test_sd_parsers_reads_the_pictures_back(client: httpx.Client) -> None:
    image = base64.b64decode(post(client, "txt2img", SILLY_TAVERN)["images"][0])
    found = ParserManager().parse(io.BytesIO(image))
    assert found is not None
    assert [prompt.value for prompt in found.prompts] == [PROMPT]
    assert [prompt.value for prompt in found.negative_prompts] == ["blue"]
    sampler = next(iter(found.samplers))
    assert isinstance(sampler, Sampler)
    assert sampler.name == "DPM++ 2M"
    assert (sampler.parameters["seed"], sampler.parameters["steps"], sampler.parameters["cfg_scale"]) == ("7", "4", "4")
    assert sampler.model is not None
    assert sampler.model.name == "toyworld"


def test_png_info_reads_our_own_pictures(client: httpx.Client) -> None:
    image = post(client, "txt2img", SILLY_TAVERN)["images"][0]
    found = post(client, "png-info", {"image": f"data:image/png;base64,{image}"})
    assert found["info"] == read(image).info["parameters"]
    assert found["parameters"]["Prompt"] == PROMPT
    assert (found["parameters"]["Seed"], found["parameters"]["Size-2"]) == ("7", "64")
    assert json.loads(found["items"]["sd2rt"])["seed"] == 7
    assert post(client, "png-info", {"image": text(picture())}) == {"info": "", "items": {}, "parameters": {}}


def test_png_info_reads_no_text_of_any_length(client: httpx.Client) -> None:
    exif, stream = Image.Exif(), io.BytesIO()
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0" + b"x\n" + b"a" * 14_900_000
    Image.new("RGB", (8, 8)).save(stream, "WEBP", exif=exif.tobytes())
    reply = client.post("/sdapi/v1/png-info", json={"image": base64.b64encode(stream.getvalue()).decode()})
    assert reply.status_code == 400
    assert "image: got a text of 14,900,010 bytes" in reply.json()["detail"]


def test_a_batch_counts_its_seeds_up(client: httpx.Client) -> None:
    reply = post(client, "txt2img", {"prompt": PROMPT, "steps": 4, "seed": 7, "batch_size": 2, "n_iter": 2})
    info = json.loads(reply["info"])
    assert (info["all_seeds"], len(reply["images"]), len(set(reply["images"]))) == ([7, 8, 9, 10], 4, 4)
    reply = post(client, "txt2img", {"prompt": PROMPT, "steps": 4, "seed": 7, "subseed_strength": 0.5, "batch_size": 2})
    info = json.loads(reply["info"])
    assert info["all_seeds"] == [7, 7]
    assert info["all_subseeds"][1] == info["all_subseeds"][0] + 1 > 0


def test_sides_are_rounded_down_and_pictures_may_stay(client: httpx.Client) -> None:
    reply = post(client, "txt2img", {"prompt": PROMPT, "steps": 2, "width": 71, "height": 100, "send_images": False})
    info = json.loads(reply["info"])
    assert (reply["images"], info["width"], info["height"]) == ([], 64, 96)


def test_options_are_kept_until_they_are_changed(client: httpx.Client) -> None:
    post(
        client, "options", {"sd_model_checkpoint": "toyworld-inpainting", "CLIP_stop_at_last_layers": 2, "sd_vae": "x", "quicksettings": []}
    )
    options = client.get("/sdapi/v1/options").json()
    assert options["sd_model_checkpoint"].startswith("toyworld-inpainting [")
    assert (options["CLIP_stop_at_last_layers"], options["sd_vae"], "quicksettings" in options) == (2, "Automatic", False)
    post(client, "options", {"sd_model_checkpoint": "toyworld.safetensors", "CLIP_stop_at_last_layers": 1})
    assert client.get("/sdapi/v1/options").json()["sd_model_checkpoint"].startswith("toyworld [")


@pytest.mark.parametrize("fields", [{}, {"mask": text(white_mask())}, {"mask": text(white_mask()), "inpaint_full_res": False}])
def test_no_denoising_is_as_little_as_there_is(client: httpx.Client, fields: dict[str, Any]) -> None:
    body = {"init_images": [text(picture())], "steps": 8, "denoising_strength": 0, **fields}
    assert json.loads(post(client, "img2img", body)["info"])["denoising_strength"] == 0.125


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_model_is_the_best_one_for_the_task_again(client: httpx.Client, nothing: str | None) -> None:
    body = {"init_images": [text(picture())], "mask": text(white_mask()), "steps": 2}
    for chosen, model in (("toyworld", "toyworld"), (nothing, "toyworld-inpainting")):
        post(client, "options", {"sd_model_checkpoint": chosen})
        assert client.get("/sdapi/v1/options").json()["sd_model_checkpoint"].startswith("toyworld [")
        assert f"Model: {model}," in read(post(client, "img2img", body)["images"][0]).info["parameters"]


def test_memory_is_told_in_bytes(client: httpx.Client) -> None:
    ram = client.get("/sdapi/v1/memory").json()["ram"]
    assert 10_000_000 < ram["used"] < ram["total"]
    assert ram["free"] == ram["total"] - ram["used"]


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("txt2img", {"steps": 151}, 400, "steps"),
        ("txt2img", {"steps": "many"}, 400, "steps"),
        ("txt2img", {"batch_size": 9}, 400, "batch_size x n_iter: got '9'"),
        ("txt2img", {"subseed_strength": 3}, 400, "subseed_strength: got '3.0'"),
        ("txt2img", {"subseed_strength": 0.5, "subseed": -2}, 400, "subseed: got '-2'"),
        ("txt2img", {"override_settings": {"CLIP_stop_at_last_layers": 12}}, 400, "CLIP_stop_at_last_layers: got 12"),
        ("img2img", {"init_images": [text(picture())], "denoising_strength": 2}, 400, "denoising_strength: got '2.0'"),
        ("img2img", {"init_images": ["AAAA"]}, 400, "init_images: got 3 bytes"),
        ("txt2img", {"width": 4096, "height": 4096}, 400, "width and height"),
        ("txt2img", {"seed": -2}, 400, "seed"),
        ("txt2img", {"sampler_name": "Restart"}, 400, "sampler_name"),
        ("txt2img", {"override_settings": {"sd_model_checkpoint": "sd15"}}, 404, "sd15"),
        ("options", {"sd_model_checkpoint": "sd15"}, 404, "sd15"),
        ("img2img", {"init_images": ["http://example.org/a.png"]}, 400, "fetches nothing"),
        ("img2img", {}, 400, "init_images"),
        ("extra-single-image", {"image": "", "upscaler_1": "ESRGAN"}, 400, "upscaler_1"),
        ("png-info", {"image": "AAAA"}, 400, "image"),
        ("png-info", {}, 400, "image"),
    ],
)
def test_errors_are_in_the_web_uis_shape(client: httpx.Client, path: str, body: dict[str, Any], status: int, said: str) -> None:
    reply = client.post(f"/sdapi/v1/{path}", json=body)
    assert reply.status_code == status
    assert set(reply.json()) == {"error", "detail", "body", "errors"}
    assert said in reply.json()["detail"]
    assert reply.json()["errors"] == reply.json()["detail"]


def test_what_the_web_ui_can_do_to_itself_is_not_there(client: httpx.Client) -> None:
    for path in (
        "server-kill",
        "server-restart",
        "server-stop",
        "unload-checkpoint",
        "reload-checkpoint",
        "interrogate",
        "train/embedding",
    ):
        assert client.post(f"/sdapi/v1/{path}", json={}).status_code == 404


def test_no_picture_comes_from_a_file_of_the_server(client: httpx.Client, tmp_path: Any) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "secret.png")
    for name in (str(tmp_path / "secret.png"), f"file://{tmp_path}/secret.png"):
        assert client.post("/sdapi/v1/png-info", json={"image": name}).status_code == 400


def test_whatever_is_sent_can_be_said_back(client: httpx.Client) -> None:
    body = b'{"prompt": "a cube", "steps": 2, "force_task_id": "\\ud800", "alwayson_scripts": {"x": {"args": []}}}'
    reply = client.post("/sdapi/v1/txt2img", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == 200
    assert client.post("/sdapi/v1/txt2img", content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415
