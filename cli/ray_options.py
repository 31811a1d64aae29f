"""The options of verbs that can paint on Ray's replicas, and what they come to. Imports no Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sd2rt.cli.options import Option
from sd2rt.engine.errors import InvalidArgument

if TYPE_CHECKING:
    from sd2rt.serve.ray_settings import RaySettings

ADDRESS = "Of a Ray cluster that runs, such as auto or head:6379; its token is in $RAY_AUTH_TOKEN.  [default: one is started here]"
CPUS = "Cores that Ray sets aside for each.  [default: this machine's, shared out; 1 in a cluster]"
GPUS = "GPUs for each, 0.5 is half a one.  [default: 1 where --target needs one]"


def ray_options() -> list[Option]:
    """Return the options; `take_ray` takes them."""
    return [
        click.option(
            "--backend", type=click.Choice(("local", "ray")), default="local", show_default=True, help="Processes here, or Ray's."
        ),
        click.option("--replicas", metavar="N[-M]", help="ray: how many paint; a range is as many as there is work for.  [default: 1]"),
        click.option("--ray-address", metavar="ADDRESS", help=f"ray: {ADDRESS}"),
        click.option("--cpus-per-replica", type=float, help=f"ray: {CPUS}"),
        click.option("--gpus-per-replica", type=float, help=f"ray: {GPUS}"),
    ]


RAY_OPTIONS = ("backend", "replicas", "ray_address", "cpus_per_replica", "gpus_per_replica")


def take_ray(given: dict[str, Any]) -> RaySettings | None:
    """Take the options out of what a command got; None: no Ray. Raises InvalidArgument."""
    backend, replicas, address, cpus, gpus = (given.pop(name) for name in RAY_OPTIONS)
    if backend == "local":
        for name, value in (("replicas", replicas), ("ray-address", address), ("cpus-per-replica", cpus), ("gpus-per-replica", gpus)):
            if value is not None:
                raise InvalidArgument(f"--{name}: got {value} for --backend local; add --backend ray, or leave it out")
        return None
    from sd2rt.serve.ray_settings import RaySettings, read_replicas

    return RaySettings(address=address or "", replicas=read_replicas(replicas or "1"), cpus=cpus, gpus=gpus)
