"""How the components of a bundle are built for jobs on a device, and which of them a job takes. Opens nothing, and knows no backend."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

from sd2rt.engine.spec import BuildOptions, Form, TensorRTOptions
from sd2rt.runtime import decoders
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.device_shape import Shape
from sd2rt.runtime.engine_plan import PlanOptions, plan_component, text_form
from sd2rt.runtime.evaluations import is_deep, is_uniform
from sd2rt.runtime.networks import FULL, SHALLOW
from sd2rt.runtime.options import Decoder
from sd2rt.runtime.request import Job
from sd2rt.runtime.tasks import components_of_start
from sd2rt.runtime.tiles import Tiles

DEVICE_PIXELS = 1536**2  # up to there a GPU's memory holds what the autoencoder needs for the whole picture
Plan = tuple[str, BuildOptions]
"""A component's name and how it is built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePlans:
    """A bundle on a target; plans are for exactly one shape, which engines for more serve too."""

    bundle: Bundle
    target: str
    threads: int = 0
    tensorrt: TensorRTOptions = field(default_factory=TensorRTOptions)

    def merged(self, shape: Shape) -> dict[str, BuildOptions]:
        """Return how the three engines of a loop on the device are built."""
        return {name: self._plan(name, shape) for name in ("text_encoder", "unet", decoders.COMPONENTS[shape.decoder])}

    def beside(self, name: str, shape: Shape) -> BuildOptions:
        """Return how a component is built that only the beginning of a run needs, or a preview."""
        return self._plan(name, shape, merged=False)

    def hosted(self, name: str, form: Form, shape: Shape, tiles: Tiles, *, uniform: bool) -> BuildOptions:
        """Return how a component is built for a loop on the host, in tiles; for plain rows besides guided ones unless all are `uniform`."""
        sizes = {"unet": tiles.unet, "vae_decoder": tiles.vae, "vae_encoder": tiles.vae, "tiny_vae_decoder": tiles.vae}
        return replace(self._plan(name, shape, tile=sizes.get(name), merged=False, plain_too=not uniform), form=form)

    def of_job(self, job: Job, shape: Shape, previews: Collection[Decoder] = ()) -> Iterator[Plan]:
        """Yield all that a job of this shape takes, whose previews are decoded so; some of it several times."""
        further = [*components_of_start(job), *(decoders.COMPONENTS[decoder] for decoder in previews if decoder != job.decoder)]
        tiles = device_tiles(job)
        if not runs_on_host(job):
            yield from self.merged(shape).items()
            yield from ((name, self.beside(name, shape)) for name in further)
            return
        deep = is_deep(job.evaluations)
        unets = [("unet", FULL), ("unet", SHALLOW)] if deep else [("unet", None)]
        plain = [(name, None) for name in (decoders.COMPONENTS[shape.decoder], *further)]
        for name, form in [("text_encoder", text_form(shape.clip_skip)), *unets, *plain]:
            yield name, self.hosted(name, form, shape, tiles, uniform=is_uniform(job.evaluations))

    def _plan(self, name: str, shape: Shape, tile: int | None = None, merged: bool = True, plain_too: bool = False) -> BuildOptions:
        """Return how a component is built for exactly this shape, or for tiles of it of so many cells of the latents a side."""
        most = tile * self.bundle.latent_factor if tile is not None else max(shape.height, shape.width)
        size = (min(shape.height, most), min(shape.width, most))
        plan = PlanOptions(
            target=self.target,
            smallest=size,
            usual=size,
            largest=size,
            batch=(shape.images, shape.images, shape.images),
            chunks=(shape.chunks, shape.chunks, shape.chunks),
            clip_skip=shape.clip_skip,
            guidance=shape.guidance,
            kept=shape.kept and merged,
            merged=merged,
            plain_too=plain_too,
            tensorrt=self.tensorrt,
            threads=self.threads,
        )
        return plan_component(self.bundle, name, plan)


def device_tiles(job: Job) -> Tiles:
    """Return the tiles that a job is worked on in: those for the autoencoder alone count only beyond DEVICE_PIXELS."""
    if job.tiles.unet is None and job.height * job.width <= DEVICE_PIXELS:
        return Tiles()
    return job.tiles


def runs_on_host(job: Job) -> bool:
    """Whether a job goes through a loop on the host: one in tiles, or whose rows are not all evaluated in the same way.

    The merged step is for one number of rows of the UNet.
    """
    return device_tiles(job) != Tiles() or not is_uniform(job.evaluations)
