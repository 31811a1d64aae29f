"""Waiting for a job on behalf of a client that holds its connection open: who hangs up gives its job up."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.requests import Request

from sd2rt.serve.errors import ServeError, UnknownJob
from sd2rt.serve.jobs import ServedJob
from sd2rt.serve.order import Failed, Finished
from sd2rt.serve.service import Service

EVERYBODY = "local"  # the one owner where no tokens are set
CONFLICT, CLIENT_GONE, UNAVAILABLE = 409, 499, 503


class NotPainted(ServeError):
    """A job that was waited for came to nothing; `status` is the HTTP status that says why."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def owner_of(request: Request) -> str:
    """Return whose request it is: the name of its token, or everybody's."""
    owner = getattr(request.state, "owner", EVERYBODY)
    assert isinstance(owner, str)  # the guard of tokens set it
    return owner


def note_job(request: Request, job: ServedJob) -> None:
    """Have the log's line of this request name a job."""
    request.state.job = job.id


def own_job(service: Service, request: Request, job_id: str) -> ServedJob:
    """Return a job of the client's own, which the log's line of this request then names. Raises UnknownJob."""
    job = service.find(job_id, owner_of(request))
    note_job(request, job)
    return job


async def wait_for(request: Request, service: Service, job: ServedJob) -> Finished:
    """Return what a job came to, once it did. It is cancelled when the client disconnects, or the request is given up.

    Call it when the request's body was read. Raises NotPainted where the job failed or was cancelled.
    """
    note_job(request, job)

    async def give_up_when_gone() -> None:
        await disconnected(request)
        give_up(service, job)

    gone = asyncio.create_task(give_up_when_gone())
    try:
        ending = await job.wait()
    except BaseException:
        give_up(service, job)
        raise
    finally:
        hung_up = gone.done()
        gone.cancel()
    if hung_up:
        raise NotPainted("the client closed its connection", CLIENT_GONE)
    if isinstance(ending, Finished):
        return ending
    if isinstance(ending, Failed):
        raise NotPainted(ending.message, ending.status)
    if service.stopping:
        raise NotPainted("the server was stopped; ask again when it is back", UNAVAILABLE)
    raise NotPainted("the job was cancelled", CONFLICT)


def give_up(service: Service, job: ServedJob) -> None:
    """Cancel a job that nobody waits for."""
    with contextlib.suppress(UnknownJob):  # it expired meanwhile
        service.cancel(job.id, job.owner)


async def disconnected(request: Request) -> None:
    """Return when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
