"""`sd2rt serve`: pictures over HTTP, until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sd2rt.cli.byte_size import ByteSize
from sd2rt.cli.choices import offline_option
from sd2rt.cli.console import Console, console_options
from sd2rt.cli.options import Option, add_options
from sd2rt.cli.ray_options import ray_options, take_ray
from sd2rt.cli.signals import Stopped
from sd2rt.engine.errors import InvalidArgument, MissingDependency

if TYPE_CHECKING:
    from sd2rt.serve.backend import Backend
    from sd2rt.serve.observe import Observer
    from sd2rt.serve.ray_settings import RaySettings
    from sd2rt.serve.server import Ended
    from sd2rt.serve.settings import Engines, ServeSettings

MODEL = "What to offer: as for generate; several by giving it again, the first is the default one.  [default: toyworld's four]"
HOST = "Address to listen on. Any but 127.0.0.1, ::1 and localhost takes a token."
HANG = "After so long without a word, between two steps, a worker is replaced; 0: never."
BATCH = "Most pictures of several orders painted at once; on TensorRT as engines allow; 1 on cuda, and for large models on OpenVINO."
BUILD = "TensorRT here: build engines for the sizes and numbers that orders ask for, in minutes. Else such orders get 400."
SERVING: list[Option] = [
    click.option("-m", "--model", "models", multiple=True, help=MODEL),
    offline_option,
    click.option("--host", default="127.0.0.1", show_default=True, help=HOST),
    click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True, help="0 is a free one."),
    click.option("--token-file", type=click.Path(path_type=Path), help="Lines of name:secret, which clients send as Bearer tokens."),
    click.option("--allowed-host", "allowed_hosts", multiple=True, help="Another name that this server is asked by; may be given again."),
    click.option("--target", default="auto", show_default=True, help="What runs it; `sd2rt info` lists what works here."),
    click.option("--threads", type=click.IntRange(0), default=0, show_default=True, help="Per worker; 0 shares the cores."),
    click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes that paint."),
    click.option("--queue", type=click.IntRange(1, 10_000), default=16, show_default=True, help="Orders that may wait; more get 429."),
    click.option("--batch", type=click.IntRange(1, 64), default=8, show_default=True, help=BATCH),
    click.option("--build-engines", is_flag=True, help=BUILD),
    click.option(
        "--memory-limit", "memory_bytes", type=ByteSize(), default=0, help="Of loaded models per worker, as 8GB.  [default: none]"
    ),
    click.option("--max-images", type=click.IntRange(1, 256), default=8, show_default=True, help="Pictures of one order."),
    click.option("--max-steps", type=click.IntRange(1, 1000), default=150, show_default=True, help="Steps of one order."),
    click.option("--results-seconds", "results_s", type=click.FloatRange(1), default=600.0, show_default=True, help="Finished jobs stay."),
    click.option("--drain-seconds", "drain_s", type=click.FloatRange(0), default=60.0, show_default=True, help="To finish when stopped."),
    click.option("--hang-seconds", "hang_s", type=click.FloatRange(0), default=900.0, show_default=True, help=HANG),
    click.option("--log-prompts", is_flag=True, help="Have the log tell what was asked for."),
    *ray_options(),
]


@click.command()
@add_options(SERVING)
@console_options
@click.pass_obj
def serve(console: Console, /, log_prompts: bool, **given: Any) -> int:
    """Serve pictures over HTTP: a page at /, OpenAI's images API, the web UI's API, and jobs.

    Prints the address once pictures can be painted; the log, lines of JSON, goes to stderr. Ctrl-C or SIGTERM: no new orders, what was
    taken is finished, then it ends; again: at once. $SD2RT_TOKEN is a token too.

    \b
    Examples:
      sd2rt serve
      sd2rt serve --model ./sd21 --model toyworld-upscaler --memory-limit 8GB
      sd2rt serve --backend ray --replicas 1-4
      sd2rt serve --host 0.0.0.0 --token-file tokens.txt --allowed-host pictures.example
    """
    require_libraries()
    from sd2rt.serve.logs import json_logs

    ray = take_ray(given)
    given["engines"] = choose_engines(given.pop("build_engines"), ray)
    settings = read_settings(console, given)
    with json_logs(logging.WARNING if console.quiet else logging.DEBUG if console.debug else logging.INFO):
        ended = asyncio.run(listen(console, settings, ray, log_prompts=log_prompts))
    if ended.at_once:
        raise Stopped(ended.signal)
    return 0 if ended.signal == signal.SIGTERM else Stopped(ended.signal).exit_code


def require_libraries() -> None:
    """Raise MissingDependency where what serves is not installed."""
    try:
        import fastapi
        import prometheus_client
        import python_multipart
        import uvicorn
    except ImportError as error:
        raise MissingDependency(f'serving needs {error.name}: pip install "sd2rt[serve]"') from error
    del fastapi, prometheus_client, python_multipart, uvicorn


def read_settings(console: Console, given: dict[str, Any]) -> ServeSettings:
    """Return how to serve, models made ready and tokens read. Raises InvalidArgument, and as `ready_model`."""
    from sd2rt.cli.ready_model import ready_model
    from sd2rt.serve.settings import EMBEDDED, Limits, ServeSettings
    from sd2rt.serve.token_file import read_tokens

    limits = Limits(images=given.pop("max_images"), steps=given.pop("max_steps"))
    tokens = read_tokens(given.pop("token_file"))
    models = tuple(ready_model(console, model) for model in given.pop("models") or EMBEDDED)
    return ServeSettings(models=models, tokens=tokens, limits=limits, **given)


def choose_engines(build: bool, ray: RaySettings | None) -> Engines:
    """Return what becomes of orders for which there are no engines. Raises InvalidArgument for a choice that is not this server's."""
    if ray is not None:
        if build:
            raise InvalidArgument("--build-engines: got it for --backend ray, whose replicas always build what they lack; leave it out")
        return "elsewhere"
    return "on demand" if build else "built"


def make_backend(settings: ServeSettings, ray: RaySettings | None, observer: Observer) -> Backend:
    """Return what paints. Raises InvalidArgument and TargetUnavailable for what cannot be, MissingDependency for Ray without ray."""
    if ray is None:
        from sd2rt.engine.targets import choose_target
        from sd2rt.serve.workers import LocalBackend

        choose_target(settings.target)
        return LocalBackend(settings, observer)
    if find_spec("ray") is None:
        raise MissingDependency('--backend ray needs ray: pip install "sd2rt[ray]"')
    from sd2rt.serve.ray_backend import RayBackend

    return RayBackend(settings, ray, observer)


async def listen(console: Console, settings: ServeSettings, ray: RaySettings | None, *, log_prompts: bool) -> Ended:
    """Serve until a signal comes; say where once pictures can be painted. Raises ServeError for a port that is taken."""
    from sd2rt.serve.app import make_app
    from sd2rt.serve.logs import JobLog
    from sd2rt.serve.metrics import Metrics
    from sd2rt.serve.observers import Observers
    from sd2rt.serve.server import bind, run, url_of
    from sd2rt.serve.service import Service

    metrics = Metrics()
    observer = Observers(metrics, JobLog(prompts=log_prompts))
    backend = make_backend(settings, ray, observer)
    service = Service(settings, backend, observer)
    listener = bind(settings.host, settings.port)
    url = url_of(listener)

    def ready() -> None:
        """Say where, on stdout."""
        console.item({"url": url, "models": [model.name for model in service.models], "pid": os.getpid()}, [url])

    return await run(make_app(service, metrics), service, backend, listener, ready)
