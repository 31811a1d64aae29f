"""What clients of the web UI ask for when they connect: samplers, models, and the kinds of things that there are none of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from sd2rt.serve.a1111_models import list_models, list_upscalers
from sd2rt.serve.a1111_samplers import list_samplers, list_schedules

if TYPE_CHECKING:
    from sd2rt.serve.service import Service

NONE_OF: dict[str, Any] = {
    "/sdapi/v1/sd-vae": [],
    "/sdapi/v1/loras": [],
    "/sdapi/v1/hypernetworks": [],
    "/sdapi/v1/face-restorers": [],
    "/sdapi/v1/realesrgan-models": [],
    "/sdapi/v1/prompt-styles": [],
    "/sdapi/v1/latent-upscale-modes": [],
    "/sdapi/v1/extensions": [],
    "/sdapi/v1/script-info": [],
    "/sdapi/v1/scripts": {"txt2img": [], "img2img": []},
    "/sdapi/v1/embeddings": {"loaded": {}, "skipped": {}},
    "/sdapi/v1/cmd-flags": {"api": True},
}
"""Krita's plug-ins, SillyTavern and webuiapi read these; without an answer some take the server for none."""


def make_router(service: Service) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["a1111"])

    @router.get("/sdapi/v1/samplers")
    async def samplers() -> list[dict[str, Any]]:
        """List samplers."""
        return list_samplers()

    @router.get("/sdapi/v1/schedulers")
    async def schedulers() -> list[dict[str, Any]]:
        """List schedules of sigmas."""
        return list_schedules()

    @router.get("/sdapi/v1/sd-models")
    async def models() -> list[dict[str, Any]]:
        """List the models that are offered."""
        return list_models(service.models)

    @router.get("/sdapi/v1/upscalers")
    async def upscalers() -> list[dict[str, Any]]:
        """List what enlarges pictures."""
        return list_upscalers(service.models)

    @router.get("/sdapi/v1/memory")
    async def memory() -> dict[str, Any]:
        """Say how much memory this process takes, in bytes; its workers are not counted."""
        return {"ram": read_memory(), "cuda": {"error": "not told"}}

    @router.post("/sdapi/v1/refresh-checkpoints")
    async def refresh() -> None:
        """Do nothing: models are offered from start to end."""

    _add_probes(router, service)
    return router


def _add_probes(router: APIRouter, service: Service) -> None:
    """Add what clients ask just to see what there is."""

    @router.get("/queue/status")
    async def queue_status() -> dict[str, Any]:
        """Say how long the queue is, as the web UI's page does; a plug-in for Krita asks this to see whether there is a server."""
        return {"msg": "estimation", "rank": None, "queue_size": service.queued, "avg_event_process_time": None, "queue_eta": 0}

    for path, nothing in NONE_OF.items():
        _add_empty(router, path, nothing)


def _add_empty(router: APIRouter, path: str, nothing: Any) -> None:
    async def list_none() -> Any:
        """List nothing: there is none of it here."""
        return nothing

    router.add_api_route(path, list_none, name=path.rpartition("/")[2])


def read_memory() -> dict[str, Any]:
    """Return free, used and total bytes; used is what this process has in memory. Where the system does not tell: an error."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total = page * os.sysconf("SC_PHYS_PAGES")
        used = page * int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, AttributeError):
        return {"error": "unknown on this system"}
    return {"free": total - used, "used": used, "total": total}
