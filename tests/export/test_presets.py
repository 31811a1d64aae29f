import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.export.options import PRESETS
from sd2rt.export.presets import read_preset

PARAMETERS = {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840}  # of the published weights
OTHER_PARAMETERS = {
    "sd2-inpainting": {"unet": 865_925_124},
    "sd2-depth": {"unet": 865_913_604, "depth_estimator": 122_377_985},
    "x4-upscaler": {"unet": 473_398_020, "vae": 55_325_927},
}


def test_an_unknown_preset_lists_the_known() -> None:
    with pytest.raises(InvalidArgument, match=r"'sd3'.*sd2-base, sd2, sd21-base, sd21, sd-turbo"):
        read_preset("sd3")


@pytest.mark.parametrize(
    ("preset", "prediction", "sample_size", "upcast", "scheduler"),
    [
        ("sd2-base", "epsilon", 64, False, "PNDMScheduler"),
        ("sd2", "v_prediction", 96, False, "DDIMScheduler"),
        ("sd21-base", "epsilon", 64, False, "PNDMScheduler"),
        ("sd21", "v_prediction", 96, True, "DDIMScheduler"),
        ("sd-turbo", "epsilon", 64, False, "EulerDiscreteScheduler"),
        ("sd2-inpainting", "epsilon", 64, False, "PNDMScheduler"),
        ("sd2-depth", "epsilon", 32, False, "PNDMScheduler"),
        ("x4-upscaler", "v_prediction", 128, False, "DDIMScheduler"),
    ],
)
def test_presets_differ_where_the_models_do(preset: str, prediction: str, sample_size: int, upcast: bool, scheduler: str) -> None:
    configs = read_preset(preset)
    assert configs["scheduler"].get("prediction_type", "epsilon") == prediction
    assert configs["unet"]["sample_size"] == sample_size
    assert bool(configs["unet"].get("upcast_attention")) == upcast
    assert configs["scheduler"]["_class_name"] == scheduler
    assert configs["text_encoder"]["num_hidden_layers"] == 23


def test_depth_and_upscaling_presets_bring_what_their_tasks_need() -> None:
    depth, upscaler = read_preset("sd2-depth"), read_preset("x4-upscaler")
    assert depth["depth_estimator"]["image_size"] == depth["feature_extractor"]["size"]["height"] == 384
    assert (upscaler["low_res_scheduler"]["beta_end"], upscaler["model_index"]["max_noise_level"]) == (0.02, 350)
    assert upscaler["vae"]["scaling_factor"] == 0.08333


@pytest.mark.torch
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_have_the_published_parameter_counts(preset: str) -> None:
    torch = pytest.importorskip("torch", reason="the export extra is not installed")
    from sd2rt.export.modules import empty_module

    expected = PARAMETERS | OTHER_PARAMETERS.get(preset, {})
    with torch.device("meta"):
        counts = {name: sum(p.numel() for p in empty_module(name, read_preset(preset)[name]).parameters()) for name in expected}
    assert counts == expected
