import pytest

from sd2rt.export.defaults import SAMPLERS, sampling_defaults
from sd2rt.export.presets import read_preset
from sd2rt.runtime.samplers_names import parse_sampler


@pytest.mark.parametrize(
    ("config", "steps", "guidance", "sampler"),
    [
        ({"_class_name": "PNDMScheduler"}, 30, 7.5, "pndm"),
        ({"_class_name": "DDIMScheduler", "timestep_spacing": "trailing", "prediction_type": "v_prediction"}, 30, 7.5, "ddim"),
        ({"_class_name": "EulerDiscreteScheduler"}, 30, 7.5, "euler"),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}, 2, 1.0, "euler"),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing", "prediction_type": "v_prediction"}, 30, 7.5, "euler"),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing", "rescale_betas_zero_snr": True}, 30, 7.5, "euler"),
        ({"_class_name": "LCMScheduler"}, 4, 1.0, "lcm"),
        ({"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": True}, 30, 7.5, "dpm++ 2m karras"),
        ({"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"}, 30, 7.5, "dpm++ 2m sde"),
        ({"_class_name": "HeunDiscreteScheduler", "use_exponential_sigmas": True}, 30, 7.5, "heun exponential"),
        ({"_class_name": "DDIMScheduler", "use_karras_sigmas": True}, 30, 7.5, "ddim"),
        ({"_class_name": "EulerAncestralDiscreteScheduler", "use_karras_sigmas": True}, 30, 7.5, "euler a"),
        ({"_class_name": "LCMScheduler", "use_exponential_sigmas": True}, 4, 1.0, "lcm"),
        ({"_class_name": "SomebodysOwnScheduler"}, 30, 7.5, "ddim"),
    ],
)
def test_defaults_follow_the_scheduler(config: dict[str, object], steps: int, guidance: float, sampler: str) -> None:
    assert sampling_defaults(config) == {"steps": steps, "guidance_scale": guidance, "sampler": sampler}


def test_upscalers_are_guided_as_diffusers_does() -> None:
    scheduler = read_preset("x4-upscaler")["scheduler"]
    assert sampling_defaults(scheduler, "upscaling") == {"steps": 30, "guidance_scale": 9.0, "sampler": "ddim"}


@pytest.mark.parametrize("key", ["use_karras_sigmas", "use_exponential_sigmas"])
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("algorithm", ["dpmsolver++", "sde-dpmsolver++"])
@pytest.mark.parametrize("name", [*SAMPLERS, "SomebodysOwnScheduler"])
def test_the_runtime_knows_every_default(name: str, algorithm: str, wanted: bool, key: str) -> None:
    sampler = sampling_defaults({"_class_name": name, "algorithm_type": algorithm, key: wanted})["sampler"]
    assert str(parse_sampler(str(sampler))) == sampler


@pytest.mark.parametrize(("preset", "expected"), [("sd2-base", (30, "pndm")), ("sd21", (30, "ddim")), ("sd-turbo", (2, "euler"))])
def test_presets_get_their_family_defaults(preset: str, expected: tuple[int, str]) -> None:
    defaults = sampling_defaults(read_preset(preset)["scheduler"])
    assert (defaults["steps"], defaults["sampler"]) == expected
