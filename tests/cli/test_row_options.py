"""Options by name, as rows and axes say them."""

from typing import Any

import pytest

from sd2rt.cli.batch import batch
from sd2rt.cli.ray_options import RAY_OPTIONS
from sd2rt.cli.row_options import RowOptions
from sd2rt.engine.errors import InvalidArgument

OPTIONS = RowOptions(batch, without=("file", "kind", "keep_going", *RAY_OPTIONS))


@pytest.mark.parametrize(
    ("said", "values"),
    [
        ({"prompt": "a red cube", "seed": "7"}, {"prompt": "a red cube", "seed": 7}),
        ({"--prompt": "--not an option", "--seed": 7}, {"prompt": "--not an option", "seed": 7}),
        ({"negative": "x", "guidance": 2.5, "count": "2"}, {"negative_prompt": "x", "guidance_scale": 2.5, "images_per_prompt": 2}),
        ({"negative_prompt": "x", "guidance_scale": 2}, {"negative_prompt": "x", "guidance_scale": 2.0}),
        (
            {"cfg_scale": "3", "sampler_name": "Euler a", "batch_size": 2},
            {"guidance_scale": 3.0, "sampler": "Euler a", "images_per_prompt": 2},
        ),
        ({"Guidance-Scale": 4, "Mask Blur": 2}, {"guidance_scale": 4.0, "mask_blur": 2.0}),
        ({"guidance_interval": [0.2, 0.8]}, {"guidance_interval": (0.2, 0.8)}),
        ({"expand": "0,0,64,0", "image": "a.png"}, {"expand": (0, 0, 64, 0), "image": "a.png"}),
        ({"invert": True, "paste": "no"}, {"invert": True, "paste": False}),
        ({"paste": "1", "no-weighting": "yes"}, {"paste": True, "weighting": False}),
        ({"weighting": True}, {"weighting": True}),  # the runtime's name, as our own records have it
        ({"weighting": "false"}, {"weighting": False}),
        ({"weighting": ""}, {}),
        ({"seed": -1}, {"seed": None}),
        ({"steps": "", "sampler": None}, {}),
        ({"seed": 0}, {"seed": 0}),
    ],
)
def test_values_are_read_as_on_the_command_line(said: dict[str, object], values: dict[str, Any]) -> None:
    assert OPTIONS.read(said) == values


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"colour": "red"}, "colour: no such option here; expected one of prompt, image, mask, depth, strength"),
        ({"model": "toyworld"}, "model: no such option here"),
        ({"out": "a.png"}, "out: no such option here"),
        ({"preview": "latent"}, "preview: no such option here"),
        ({"help": True}, "help: no such option here"),
        ({"": "x"}, ": no such option here"),
        ({"steps": "many"}, "Invalid value for '--steps': 'many' is not a valid integer."),
        ({"steps": True}, "steps: got True; expected a text or a number"),
        ({"steps": [1, "2"]}, "steps: got [1, '2']; expected a text or a number"),
        ({"prompt": {"a": 1}}, "prompt: got {'a': 1}; expected a text or a number"),
        ({"speed": "warp"}, "Invalid value for '--speed'"),
        ({"expand": "1,2"}, "--expand: got '1,2'; expected LEFT,TOP,RIGHT,BOTTOM"),
        ({"invert": "perhaps"}, "invert: got 'perhaps'; expected true or false"),
        ({"invert": False}, "invert: got False; leave it out where it is not meant"),
        ({"no-weighting": False}, "no-weighting: got False; leave it out where it is not meant"),
        ({"weighting": "perhaps"}, "weighting: got 'perhaps'; expected true or false"),
        ({"weighting": True, "no-weighting": True}, "no-weighting: got it a second time, as weighting; say it once"),
        ({"guidance": 2, "cfg_scale": 3}, "cfg_scale: got it a second time, as guidance; say it once"),
    ],
)
def test_what_is_refused(said: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        OPTIONS.read(said)
    assert words in str(caught.value)
