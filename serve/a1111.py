"""The web UI's API, `/sdapi/v1`, as its clients use it. What they send is in `a1111_bodies`, what they are answered in `a1111_replies`."""

from __future__ import annotations

import asyncio
import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from sd2rt.runtime.a1111 import web_ui_text
from sd2rt.serve import a1111_lists, a1111_state
from sd2rt.serve.a1111_bodies import Extras, ImageToImage, PngInfo, TextToImage
from sd2rt.serve.a1111_jobs import A1111Jobs
from sd2rt.serve.a1111_options import Options
from sd2rt.serve.a1111_orders import Asked, image_order, text_order
from sd2rt.serve.a1111_png_info import read_png_info
from sd2rt.serve.a1111_replies import (
    PaintedReply,
    PngInfoReply,
    UpscaledReply,
    as_base64,
    interrupted_reply,
    painted_reply,
    read_parameters,
)
from sd2rt.serve.a1111_upscale import PLAIN, check_extras, find_target, resize_alone, resize_painted
from sd2rt.serve.given_pictures import open_given
from sd2rt.serve.jobs_api import require_json
from sd2rt.serve.json_request import JsonRoute
from sd2rt.serve.order import Order
from sd2rt.serve.replies import AsciiJSON
from sd2rt.serve.uploads import read_upload
from sd2rt.serve.waiting import CONFLICT, NotPainted, owner_of, wait_for

if TYPE_CHECKING:
    from sd2rt.serve.service import Service

PAINTED: dict[int | str, dict[str, Any]] = {200: {"model": PaintedReply}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What the routes that paint share."""

    service: Service
    jobs: A1111Jobs
    options: Options

    @property
    def most_pixels(self) -> int:
        """Pixels of a picture that is sent, and of one that is resized."""
        return self.service.settings.limits.upload_pixels


def make_router(service: Service) -> APIRouter:
    """Return the routes."""
    jobs, options = A1111Jobs(service), Options()
    router = APIRouter()
    router.include_router(painting_router(Desk(service=service, jobs=jobs, options=options)))
    router.include_router(a1111_state.make_router(service, jobs, options))
    router.include_router(a1111_lists.make_router(service))
    return router


def painting_router(desk: Desk) -> APIRouter:
    """Return the routes that take or give pictures."""
    router = APIRouter(prefix="/sdapi/v1", tags=["a1111"], dependencies=[Depends(require_json)], route_class=JsonRoute)

    @router.post("/txt2img", response_class=AsciiJSON, responses=PAINTED)
    async def txt2img(request: Request, body: TextToImage) -> Response:
        """Paint pictures of a prompt."""
        return await paint(desk, request, body, text_order(body, desk.options.of(owner_of(request)), desk.service.models))

    @router.post("/img2img", response_class=AsciiJSON, responses=PAINTED)
    async def img2img(request: Request, body: ImageToImage) -> Response:
        """Paint a picture anew, as a whole or where a mask says."""
        desk.service.check_open()
        chosen = desk.options.of(owner_of(request))
        asked = await asyncio.to_thread(image_order, body, chosen, desk.service.models, desk.most_pixels)
        return await paint(desk, request, body, asked)

    @router.post("/extra-single-image")
    async def upscale(request: Request, body: Extras) -> UpscaledReply:
        """Enlarge a picture."""
        check_extras(body, desk.service.models)
        content = await asyncio.to_thread(read_upload, "image", body.image)
        if body.upscaler_1 in PLAIN:
            resized = await asyncio.to_thread(resize_alone, content, body, desk.most_pixels)
            return UpscaledReply(html_info="", image=as_base64(resized))
        return await upscale_by_model(desk, request, body, content)

    @router.post("/png-info")
    async def png_info(body: PngInfo) -> PngInfoReply:
        """Read what a picture says of how it was made."""
        content = await asyncio.to_thread(read_upload, "image", body.image)
        return await asyncio.to_thread(read_png_info, content, desk.most_pixels)

    return router


async def paint(desk: Desk, request: Request, body: TextToImage, asked: Asked) -> Response:
    """Have an order painted and answer it, also where it was interrupted. Raises as `Service.submit` and `wait_for`."""
    job = await desk.service.submit(asked.order, owner_of(request))
    with desk.jobs.watched(job):
        try:
            finished = await wait_for(request, desk.service, job)
        except NotPainted as error:
            if error.status == CONFLICT:  # somebody interrupted it
                shown = () if job.preview is None else job.preview.pictures
                if asked.region is not None:
                    shown = await asyncio.to_thread(asked.region.wholes, shown)
                return AsciiJSON(interrupted_reply(body, job, shown))
            raise
    if asked.region is not None:
        finished = await asyncio.to_thread(asked.region.put_back, finished)
    return AsciiJSON(painted_reply(body, job, finished, asked))


async def upscale_by_model(desk: Desk, request: Request, body: Extras, content: bytes) -> UpscaledReply:
    """Have a picture enlarged by a model, and then resized to what was asked for. Raises as `Service.submit` and `wait_for`."""
    desk.service.check_open()
    image = await asyncio.to_thread(open_given, "image", content, desk.most_pixels)
    target = find_target(body, image.size, desk.most_pixels)
    order = Order(model=body.upscaler_1, options={"prompt": ""}, pictures={"image": content})
    job = await desk.service.submit(order, owner_of(request))
    with desk.jobs.watched(job):
        finished = await wait_for(request, desk.service, job)
    painted = await asyncio.to_thread(resize_painted, finished.pictures[0], target)
    text = html.escape(web_ui_text(read_parameters(finished.parameters[0])))
    return UpscaledReply(html_info=f"<p>{text}</p>", image=as_base64(painted))
