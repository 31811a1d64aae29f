"""What a job begins from, whatever its task: the one place that knows all of them."""

from __future__ import annotations

from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.noise import BatchNoise
from sd2rt.runtime.request import Job
from sd2rt.runtime.start import Materials, RunComponent, Start


def make_start(job: Job, bundle: Bundle, run: RunComponent) -> Start:
    """Draw the job's noise and bring its pictures into the form that the UNet takes; `run` runs the bundle's other components.

    Raises InvalidArgument for pictures that do not fit the model, BundleError when the bundle lacks what the task needs, EngineError.
    """
    factor, source = bundle.latent_factor, job.source
    noise = BatchNoise(job.seeds, (bundle.latent_channels, job.height // factor, job.width // factor), job.rng, job.variation)
    if source is None:
        return Start(noise=noise.draw_first() if job.latents is None else job.latents, draw=noise.draw)
    materials = Materials(source=source, bundle=bundle, noise=noise, given=job.latents, run=run, tile=job.tiles.vae)
    if job.task == "upscaling":
        from sd2rt.runtime.upscale import start_upscaling as begin
    elif job.task == "inpainting":
        from sd2rt.runtime.inpaint import start_inpainting as begin
    elif job.task == "depth-to-image":
        from sd2rt.runtime.depth import start_depth as begin
    else:
        from sd2rt.runtime.image_to_image import start_image_to_image as begin
    return begin(materials)


def components_of_start(job: Job) -> tuple[str, ...]:
    """Return the components that `make_start` runs."""
    source = job.source
    if source is None or job.task == "upscaling":
        return ()
    encoder = () if source.images is None else ("vae_encoder",)
    estimator = ("depth_estimator",) if job.task == "depth-to-image" and source.depth is None else ()
    return (*encoder, *estimator)
