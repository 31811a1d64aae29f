"""For those who run the server: whether it lives, whether it is ready, and its numbers."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from sd2rt.serve.errors import ServeError, Stopping
from sd2rt.serve.metrics import CONTENT_TYPE, Metrics
from sd2rt.serve.replies import AsciiJSON
from sd2rt.serve.service import Service

NUMBERS_REPLY: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus' text format."}
}


class Status(BaseModel):
    """That all is well; anything else is another status."""

    status: Literal["ok"] = "ok"


def make_router(service: Service, metrics: Metrics) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["operations"])

    @router.get("/health")
    async def health() -> Status:
        """Say that the process lives."""
        return Status()

    @router.get("/ready")
    async def ready() -> Status:
        """Say that pictures can be painted now: a model is open, and the server is not stopping."""
        if service.stopping:
            raise Stopping("the server is stopping")
        if not service.ready:
            raise ServeError("no model is open yet")
        return Status()

    @router.get("/metrics", response_class=Response, responses=NUMBERS_REPLY)
    async def numbers() -> Response:
        """Return the server's numbers for Prometheus."""
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    @router.get("/openapi.json", response_class=AsciiJSON, include_in_schema=False)
    async def document(request: Request) -> AsciiJSON:
        """Return what there is to ask, as OpenAPI words it."""
        return AsciiJSON(request.app.openapi())

    return router
