"""OpenAI's images API: `/v1/images/generations`, `/edits`, `/variations`, and `/v1/models`. Its fields are in `openai_bodies`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Form, Path, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.samplers_names import NO_SIGMAS, SOLVERS
from sd2rt.serve.errors import UnknownModel
from sd2rt.serve.given_pictures import paint_where_transparent
from sd2rt.serve.jobs_api import require_json
from sd2rt.serve.openai_bodies import Asked, Edit, Generation, Variation, order_of, variation_order
from sd2rt.serve.openai_replies import Kind, Shown, images_response, shown
from sd2rt.serve.openai_stream import ImageStream
from sd2rt.serve.replies import AsciiJSON
from sd2rt.serve.waiting import note_job, owner_of, wait_for

if TYPE_CHECKING:
    from fastapi import UploadFile

    from sd2rt.serve.offers import OfferedModel
    from sd2rt.serve.service import Service

REPLIES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The pictures; with `stream`, events of unfinished and of finished ones.",
        "content": {"application/json": {"schema": {"type": "object"}}, "text/event-stream": {"schema": {"type": "string"}}},
    }
}
SAMPLERS = [f"{solver} {sigmas}".strip() for solver in SOLVERS for sigmas in ("", "karras") if not sigmas or solver not in NO_SIGMAS]
"""What `sampler` may be; "exponential" in place of "karras" too."""


async def require_form(request: Request) -> None:
    """Refuse (415) a body that is no form with files."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise HTTPException(415, f"got a body of type {kind[:80] or 'unknown'}; expected multipart/form-data")


def make_router(service: Service) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1", tags=["openai"])
    started = int(time.time())

    @router.post("/images/generations", response_class=Response, responses=REPLIES, dependencies=[Depends(require_json)])
    async def generate(request: Request, body: Generation) -> Response:
        """Paint pictures of a prompt."""
        return await paint(service, request, body, {})

    @router.post("/images/edits", response_class=Response, responses=REPLIES, dependencies=[Depends(require_form)])
    async def edit(request: Request, body: Annotated[Edit, Form(media_type="multipart/form-data")]) -> Response:
        """Paint a picture anew: where the mask is transparent, or as a whole."""
        service.check_open()
        return await paint(service, request, body, await read_pictures(body, service.settings.limits.upload_pixels))

    @router.post("/images/variations", response_class=Response, responses=REPLIES, dependencies=[Depends(require_form)])
    async def vary(request: Request, body: Annotated[Variation, Form(media_type="multipart/form-data")]) -> Response:
        """Paint pictures like a given one."""
        order = variation_order(body, service.models, await body.image.read())
        job = await service.submit(order, owner_of(request))
        about = Shown(created=int(job.created), size=f"{job.width}x{job.height}")
        return AsciiJSON(images_response(await wait_for(request, service, job), about))

    @router.get("/models")
    async def list_models() -> dict[str, Any]:
        """List the models that are offered."""
        return {"object": "list", "data": [model_view(model, started) for model in service.models]}

    @router.get("/models/{model}")
    async def read_model(model: Annotated[str, Path(max_length=200)]) -> dict[str, Any]:
        """Return one model that is offered."""
        for offered in service.models:
            if offered.name == model:
                return model_view(offered, started)
        raise UnknownModel(f"model: got {model[:80]!r}, which is not offered; GET /v1/models names those that are")

    return router


async def paint(service: Service, request: Request, asked: Asked, pictures: Mapping[str, bytes]) -> Response:
    """Take an order and answer it: at once when it is done, or as events."""
    job = await service.submit(order_of(asked, service.models, pictures), owner_of(request))
    about = shown(asked, (job.width, job.height), job.created)
    if not asked.stream:
        return AsciiJSON(images_response(await wait_for(request, service, job), about))
    note_job(request, job)
    kind: Kind = "image_edit" if isinstance(asked, Edit) else "image_generation"
    return ImageStream(service, job, kind, about)


async def read_pictures(body: Edit, most_pixels: int) -> dict[str, bytes]:
    """Return the picture of an edit, and its mask if any, as orders have them. Raises InvalidArgument."""
    sent: list[UploadFile] = [*body.image, *body.images]
    if len(sent) != 1:
        raise InvalidArgument(f"image: got {len(sent)} pictures; expected one: these models see a single one")
    pictures = {"image": await sent[0].read()}
    if body.mask is not None:
        pictures["mask"] = await asyncio.to_thread(paint_where_transparent, await body.mask.read(), most_pixels)
    return pictures


def model_view(model: OfferedModel, created: int) -> dict[str, Any]:
    """Return a `Model` of OpenAI's API, and beside its fields what the model paints by default; `created` is in epoch seconds."""
    ours = {name: value for name, value in asdict(model).items() if name != "name"}
    return {"id": model.name, "object": "model", "created": created, "owned_by": "sd2rt", **ours, "samplers": SAMPLERS}
