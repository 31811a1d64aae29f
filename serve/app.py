"""The application: every API's routes behind the guards. Paints nothing and keeps nothing; `Service` does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from sd2rt.runtime.parameters import version
from sd2rt.serve import a1111, job_files, jobs_api, openai_images, operations, page_files
from sd2rt.serve.guard import add_guards
from sd2rt.serve.handlers import add_handlers
from sd2rt.serve.metrics import Metrics
from sd2rt.serve.openapi import DESCRIPTION, Application
from sd2rt.serve.replies import AsciiJSON
from sd2rt.serve.service import Service


def make_app(service: Service, metrics: Metrics | None = None) -> FastAPI:
    """Return the ASGI application over a service, which starts and stops with it; `metrics` are those that the service tells."""
    metrics = metrics or Metrics()
    metrics.watch(service)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.stop()

    app = Application(
        title="sd2rt",
        description=DESCRIPTION,
        version=version(),
        lifespan=lifespan,
        openapi_url=None,  # `operations` has it
        docs_url=None,  # these pages load their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        default_response_class=AsciiJSON,
    )
    app.secured = bool(service.settings.tokens)
    for router in (
        openai_images.make_router(service),  # routes are looked at one by one: those first that are in a hurry
        a1111.make_router(service),
        jobs_api.make_router(service),
        job_files.make_router(service),
        operations.make_router(service, metrics),
        page_files.make_router(service),
    ):
        app.include_router(router)
    add_handlers(app)
    add_guards(app, service.settings, metrics.answered)
    return app
