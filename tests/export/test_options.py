from pathlib import Path

import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.export.options import ExportOptions, Lora, parse_lora


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "int8"}, ["dtype", "'int8'", "fp16, fp32"]),
        ({"task": "video"}, ["task", "'video'", "inpainting"]),
        ({"preset": "sdxl"}, ["preset", "'sdxl'", "sd2-base"]),
        ({"random_weights": True}, ["preset", "sd21"]),
        ({"weights_seed": -1}, ["seed", "-1"]),
        ({"weights_seed": 2**63}, ["seed"]),
        ({"defaults": {"step": 3}}, ["step;", "guidance_scale"]),
    ],
)
def test_wrong_options_say_what_was_expected(options: dict[str, object], words: list[str]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        ExportOptions(**options)  # type: ignore[arg-type]
    assert all(word in str(caught.value) for word in words)


def test_right_options_are_kept() -> None:
    options = ExportOptions(dtype="fp32", task="inpainting", preset="sd21", random_weights=True, weights_seed=0, defaults={"steps": 4})
    assert (options.dtype, options.weights_seed, options.defaults) == ("fp32", 0, {"steps": 4})


@pytest.mark.parametrize(
    ("text", "file", "scale"),
    [
        ("style.safetensors", "style.safetensors", 1.0),
        ("a b/style.safetensors:0.8", "a b/style.safetensors", 0.8),
        ("style.safetensors:-1", "style.safetensors", -1.0),
        ("C:style.safetensors", "C:style.safetensors", 1.0),
        ("v1:2/style.safetensors:1e-1", "v1:2/style.safetensors", 0.1),
        ("style.pt:0.5", "style.pt:0.5", 1.0),
    ],
)
def test_loras_are_a_file_and_perhaps_a_scale(text: str, file: str, scale: float) -> None:
    assert parse_lora(text) == Lora(file=Path(file), scale=scale)


@pytest.mark.parametrize("scale", ["", "much", "0,8"])
def test_a_scale_that_is_no_number_is_refused(scale: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"got the scale '{scale}' in .*expected FILE\.safetensors or FILE\.safetensors:0\.8"):
        parse_lora(f"style.safetensors:{scale}")


@pytest.mark.parametrize("scale", ["nan", "inf"])
def test_scales_are_finite(scale: str) -> None:
    with pytest.raises(InvalidArgument, match=f"got the scale {scale} for style.safetensors, expected a finite number"):
        parse_lora(f"style.safetensors:{scale}")
