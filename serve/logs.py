"""The log: one line of JSON on stderr for every request, job and mishap. No prompts unless asked for, and never tokens or bodies."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sd2rt.serve.jobs import ServedJob
from sd2rt.serve.order import Failed

JOBS = logging.getLogger("sd2rt.serve.jobs")
OURS = "sd2rt"
THEIRS = ("uvicorn.error", "asyncio")  # logged from warnings on: the second tells of callbacks that failed, Ray's among them


class JsonLines(logging.Formatter):
    """Writes a record as one line: time, level, what happened, and the record's `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, plain ASCII."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.name.startswith(OURS):
            line.setdefault("logger", record.name.removeprefix(f"{OURS}."))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


@contextmanager
def json_logs(level: int) -> Iterator[None]:
    """Write what the packages log as lines of JSON on stderr, and nowhere else, for as long as the block lasts."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    handler.setLevel(level)
    loggers = [logging.getLogger(name) for name in (OURS, *THEIRS)]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.DEBUG if logger.name == OURS else logging.WARNING)
    try:
        yield
    finally:
        for logger, (handlers, lowest, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(lowest)


class JobLog:
    """An observer that logs jobs; with `prompts`, also what they show."""

    def __init__(self, *, prompts: bool = False) -> None:
        self._prompts = prompts

    def submitted(self, job: ServedJob) -> None:
        """Log a job that was taken, for those who want to know more."""
        JOBS.debug("job taken", extra={"fields": {"job": job.id, "owner": job.owner, "model": job.order.model}})

    def refused(self, reason: str) -> None:
        """Log an order that was not taken."""
        JOBS.info("order refused", extra={"fields": {"reason": reason}})

    def began(self, rows: int, jobs: int, waited_s: Sequence[float]) -> None:
        """Log a batch, for those who want to know more."""
        waited = [round(seconds, 4) for seconds in waited_s]
        JOBS.debug("batch", extra={"fields": {"images": rows, "jobs": jobs, "waited_s": waited}})

    def ended(self, job: ServedJob) -> None:
        """Log a job's end."""
        failed = isinstance(job.ending, Failed)
        JOBS.log(logging.WARNING if failed else logging.INFO, "job", extra={"fields": job_fields(job, prompts=self._prompts)})

    def lost(self, jobs: int) -> None:
        """Leave it to the service, whose line says which jobs they were."""

    def evicted(self, model: str) -> None:
        """Log a model that was closed to make room."""
        JOBS.info("model closed", extra={"fields": {"model": model}})


def job_fields(job: ServedJob, *, prompts: bool) -> dict[str, Any]:
    """Return a job's line; texts of clients only with `prompts`, errors in what was asked included, since those repeat it."""
    ended = job.ended if job.ended is not None else job.created
    fields: dict[str, Any] = {
        "job": job.id,
        "owner": job.owner,
        "state": job.state,
        "model": job.order.model,
        "images": job.count,
        "width": job.width,
        "height": job.height,
        "steps": job.steps,
        "waited_s": round((job.started or ended) - job.created, 3),
        "seconds": round(ended - job.created, 3),
    }
    if isinstance(job.ending, Failed):
        fields["status"] = job.ending.status
        if job.ending.status >= 500 or prompts:
            fields["error"] = job.ending.message
    if prompts:
        fields["prompt"] = job.order.options.get("prompt")
        fields["negative_prompt"] = job.order.options.get("negative_prompt")
    return fields
