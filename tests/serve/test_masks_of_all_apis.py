"""One region of one picture, told the way of each API: the same result."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import openai

from sd2rt.serve.settings import ServeSettings
from tests.serve.conditions import wait_until
from tests.serve.pictures import black_mask, picture, pixels, png, text, transparent_mask, white_mask
from tests.serve.toyserver import serving, toyworld_app

PROMPT = "a large red sphere on the left, gray floor"
MODEL = "toyworld-inpainting"


def by_openai(address: str) -> str:
    """Edit where the mask is transparent."""
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
    extra = {"seed": 11, "steps": 6}
    reply = client.images.edit(image=png(picture()), mask=png(transparent_mask()), prompt=PROMPT, model=MODEL, extra_body=extra)
    return (reply.data or [])[0].b64_json or ""


def by_web_ui(client: httpx.Client, **mask: Any) -> str:
    """Edit where the mask is white, or black with `inpainting_mask_invert`."""
    body = {"prompt": PROMPT, "init_images": [text(picture())], "seed": 11, "steps": 6, "denoising_strength": 1.0}
    body |= {"mask_blur": 0, "inpaint_full_res": False, "override_settings": {"sd_model_checkpoint": MODEL}}
    reply = client.post("/sdapi/v1/img2img", json=body | mask)
    assert reply.status_code == 200, reply.text
    return str(reply.json()["images"][0])


def by_job(client: httpx.Client, **mask: Any) -> str:
    """Edit where the mask is white, or black with `invert`."""
    body = {"prompt": PROMPT, "model": MODEL, "image": text(picture()), "seed": 11, "steps": 6, "paste": True}
    job = client.post("/v1/jobs", json=body | mask).json()
    wait_until(lambda: client.get(f"/v1/jobs/{job['id']}").json()["state"] not in ("queued", "running"))
    return base64.b64encode(client.get(f"/v1/jobs/{job['id']}/images/0").content).decode()


def test_all_conventions_paint_the_same_pixels() -> None:
    with serving(lambda: toyworld_app(ServeSettings(models=(MODEL,)))) as address, httpx.Client(base_url=address, timeout=120) as client:
        transparent = by_openai(address)
        white = by_web_ui(client, mask=text(white_mask()))
        inverted = by_web_ui(client, mask=text(black_mask()), inpainting_mask_invert=1)
        job = by_job(client, mask=text(white_mask()))
        job_inverted = by_job(client, mask=text(black_mask()), invert=True)
    assert transparent == white == job, "the same files, to the byte, records included"
    assert inverted == job_inverted, "their records say that the mask was inverted"
    assert pixels(inverted) == pixels(white)
    assert pixels(white) != picture().tobytes()
