import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.export.options import ExportOptions


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
