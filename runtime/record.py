"""What a job's pictures remember of it: their parameters, as `metadata` puts them into files."""

from __future__ import annotations

from dataclasses import replace

from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.evaluations import used_shortcuts
from sd2rt.runtime.guidance import is_guided
from sd2rt.runtime.parameters import Parameters
from sd2rt.runtime.request import Job
from sd2rt.runtime.source import Source


def record(job: Job, bundle: Bundle, target: str, unet_rows: int, precision: str = "auto") -> tuple[Parameters, ...]:
    """Return the parameters of each picture of a job, so that each can be painted again by itself; `unet_rows` is what each took.

    `precision` is what `load` was asked for. Shortcuts that changed nothing are left out.
    """
    shortcuts = used_shortcuts(job.evaluations, job.shortcuts, guided=is_guided(job.guidance_scale))
    each = tuple(
        Parameters(
            prompt=prompt,
            negative_prompt=negative,
            steps=job.steps,
            sampler=job.sampler.solver,
            sigmas=job.sampler.sigmas,
            guidance_scale=job.guidance_scale,
            guidance_rescale=job.guidance_rescale,
            guidance_interval=shortcuts.interval,
            guidance_reuse=shortcuts.reuse,
            deep_cache=shortcuts.deep_cache,
            unet_rows=unet_rows,
            seed=seed,
            rng=job.rng,
            variation_seed=None if job.variation is None else job.variation.seeds[index],
            variation_strength=0.0 if job.variation is None else job.variation.strength,
            width=job.width,
            height=job.height,
            model=bundle.name,
            bundle_sha256=bundle.sha256,
            target=target,
            precision=precision,
            given_latents=job.latents is not None,
            task=job.task,
            decoder=job.decoder,
            weighting=job.weighting,
            clip_skip=job.clip_skip,
            tile=(job.tiles.vae or 0) * bundle.latent_factor,
        )
        for index, (prompt, negative, seed) in enumerate(zip(job.prompts, job.negative_prompts, job.seeds, strict=True))
    )
    if job.source is None:
        return each
    return tuple(
        _add_source(parameters, job.source, index * len(job.source.image_sha256) // len(each)) for index, parameters in enumerate(each)
    )


def _add_source(parameters: Parameters, source: Source, index: int) -> Parameters:
    """Add what the caller gave besides words; `index` is that of the picture to begin from."""
    upscaling = parameters.task == "upscaling"
    return replace(
        parameters,
        strength=None if source.images is None or upscaling else source.strength,
        noise_level=source.noise_level if upscaling else None,
        image_sha256=source.image_sha256[index],
        mask_sha256=source.mask_sha256,
        depth_sha256=source.depth_sha256,
        mask_blur=source.mask_blur,
        invert=source.invert,
        paste=source.paste is not None,
        height=source.result_size[0],
        width=source.result_size[1],
        expand=source.expand,
    )
