"""A picture's record, for tests to vary."""

from sd2rt.runtime.parameters import Parameters

PARAMETERS = Parameters(
    prompt="a large red sphere",
    negative_prompt="blurry, dark",
    steps=20,
    sampler="dpm++ 2m",
    sigmas="karras",
    guidance_scale=7.5,
    guidance_rescale=0.0,
    seed=7,
    width=64,
    height=48,
    model="toyworld",
    bundle_sha256="0123456789abcdef" * 4,
    target="cpu",
)
