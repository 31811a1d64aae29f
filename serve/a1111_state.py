"""The web UI's progress, interrupt, skip and options: what a client asks beside its pictures, and is told of itself alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, Request

from sd2rt.serve.a1111_bodies import Overrides
from sd2rt.serve.jobs_api import require_json
from sd2rt.serve.waiting import owner_of

if TYPE_CHECKING:
    from sd2rt.serve.a1111_jobs import A1111Jobs
    from sd2rt.serve.a1111_options import Options
    from sd2rt.serve.service import Service


def make_router(service: Service, jobs: A1111Jobs, options: Options) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/sdapi/v1", tags=["a1111"])

    @router.get("/progress")
    async def progress(request: Request, skip_current_image: bool = False) -> dict[str, Any]:
        """Say how far the caller's job is."""
        return jobs.progress(owner_of(request), time.time(), with_picture=not skip_current_image)

    @router.post("/interrupt")
    async def interrupt(request: Request) -> dict[str, Any]:
        """Give up the caller's jobs: those that came by this API."""
        jobs.interrupt(owner_of(request))
        return {}

    @router.post("/skip")
    async def skip(request: Request) -> None:
        """Give up the caller's job that is being painted."""
        jobs.skip(owner_of(request))

    @router.get("/options")
    async def read_options(request: Request) -> dict[str, Any]:
        """Return the caller's options."""
        return options.view(owner_of(request), service.models)

    @router.post("/options", dependencies=[Depends(require_json)])
    async def write_options(request: Request, body: Overrides) -> None:
        """Choose the model and what else means something here, for the caller alone; other options are ignored."""
        options.choose(owner_of(request), body, service.models)

    return router
