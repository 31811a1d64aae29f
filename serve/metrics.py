"""The server's numbers for Prometheus, in a registry of their own. What happened is told by the service, as `observe.Observer` words it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from sd2rt.serve.jobs import ServedJob
from sd2rt.serve.order import Finished

if TYPE_CHECKING:
    from sd2rt.serve.service import Service

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)
STAGES = ("encode", "text", "steps", "decode", "total")  # of the engines; the service adds "waiting"


class Metrics:
    """Counts what it is told; `text` is what Prometheus reads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._queued = Gauge("sd2rt_jobs_queued", "Jobs that wait.", registry=self.registry)
        self._running = Gauge("sd2rt_jobs_running", "Jobs that are being painted.", registry=self.registry)
        self._submitted = Counter("sd2rt_jobs_submitted", "Jobs taken.", ["model"], registry=self.registry)
        self._ended = Counter("sd2rt_jobs_ended", "Jobs by how they ended.", ["model", "state"], registry=self.registry)
        self._images = Counter("sd2rt_images", "Pictures painted.", ["model"], registry=self.registry)
        self._refused = Counter("sd2rt_refusals", "Orders that were not taken.", ["reason"], registry=self.registry)
        self._rows = Histogram("sd2rt_batch_images", "Pictures of one batch.", registry=self.registry, buckets=ROWS)
        self._jobs = Histogram("sd2rt_batch_jobs", "Jobs of one batch.", registry=self.registry, buckets=ROWS)
        self._stages = Histogram(
            "sd2rt_stage_seconds", "Seconds that a job took, by stage.", ["stage"], registry=self.registry, buckets=SECONDS
        )
        self._lost = Counter("sd2rt_workers_lost", "Workers that were lost while they painted, and replaced.", registry=self.registry)
        self._evicted = Counter("sd2rt_model_evictions", "Models closed for want of memory.", ["model"], registry=self.registry)
        self._requests = Counter(
            "sd2rt_http_requests", "Requests by route and status.", ["method", "route", "status"], registry=self.registry
        )

    def watch(self, service: Service) -> None:
        """Read the queue from a service whenever the numbers are asked for."""
        self._queued.set_function(lambda: service.queued)
        self._running.set_function(lambda: service.running)

    def submitted(self, job: ServedJob) -> None:
        """Count a job that was taken."""
        self._submitted.labels(job.order.model).inc()

    def refused(self, reason: str) -> None:
        """Count an order that was not taken."""
        self._refused.labels(reason).inc()

    def began(self, rows: int, jobs: int, waited_s: Sequence[float]) -> None:
        """Count a batch, and how long its jobs waited."""
        self._rows.observe(rows)
        self._jobs.observe(jobs)
        for seconds in waited_s:
            self._stages.labels("waiting").observe(seconds)

    def ended(self, job: ServedJob) -> None:
        """Count a job's end, and how long its stages took."""
        self._ended.labels(job.order.model, job.state).inc()
        if isinstance(job.ending, Finished):
            self._images.labels(job.order.model).inc(len(job.ending.pictures))
            for stage in STAGES:
                seconds = job.ending.timings.get(stage)
                if seconds is not None:
                    self._stages.labels(stage).observe(sum(seconds) if isinstance(seconds, list) else seconds)

    def lost(self, jobs: int) -> None:
        """Count a worker that is gone."""
        self._lost.inc()

    def evicted(self, model: str) -> None:
        """Count a model that was closed to make room."""
        self._evicted.labels(model).inc()

    def answered(self, method: str, route: str, status: int) -> None:
        """Count a request; status 0 is a client that went away."""
        self._requests.labels(method if method in METHODS else "other", route, str(status)).inc()

    def text(self) -> bytes:
        """Return all numbers as Prometheus reads them."""
        return generate_latest(self.registry)


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""Others, which a client may make up, are counted as one."""
