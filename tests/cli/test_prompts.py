"""Prompts on the command line: weights, long ones, clip skip, alternatives, on the embedded models."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Command, assert_refused

WORDS = " ".join(["a large red sphere on the left, a small blue cube on the right,"] * 36)


def _pixels(path: str) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.asarray(Image.open(path)).astype(np.int64)


def test_a_prompt_of_500_words_paints(paint: Command) -> None:
    assert len(WORDS.split()) >= 500
    found = paint(WORDS, "--negative", WORDS + " BREAK a cone", "--out", "long.png")
    assert found.code == 0
    assert "too long" not in found.err
    paint(" ".join(WORDS.split()[:-40]), "--out", "shorter.png")
    assert np.abs(_pixels("long.png") - _pixels("shorter.png")).max() > 0, "the end is read"


def test_weights_count_unless_they_are_text(paint: Command) -> None:
    for name, prompt, *options in (
        ("plain", "a red cube"),
        ("weighted", "a (red:1.5) cube"),
        ("text", "a (red:1.5) cube", "--no-weighting"),
        ("escaped", r"a \(red:1.5\) cube"),
        ("one", "a (red:1) cube"),
    ):
        assert paint(prompt, "--out", f"{name}.png", *options).code == 0
    assert len({_pixels(f"{name}.png").tobytes() for name in ("plain", "weighted", "text")}) == 3
    assert (_pixels("one.png") == _pixels("plain.png")).all()
    assert (_pixels("escaped.png") == _pixels("text.png")).all()
    assert "Emphasis: None" in Image.open("text.png").info["parameters"]
    assert "Emphasis" not in Image.open("weighted.png").info["parameters"]


def test_clip_skip_takes_an_earlier_layer(paint: Command) -> None:
    for name, *options in (
        ("plain",),
        ("one", "--clip-skip", "1"),
        ("two", "--clip-skip", "2"),
        ("low", "--clip-skip", "2", "--low-memory"),
    ):
        assert paint("a red cube", "--out", f"{name}.png", *options).code == 0
    assert (_pixels("plain.png") == _pixels("one.png")).all()
    assert np.abs(_pixels("plain.png") - _pixels("two.png")).max() > 0
    assert (_pixels("two.png") == _pixels("low.png")).all()
    assert "Clip skip: 2" in Image.open("two.png").info["parameters"]


def test_alternatives_are_pictures_of_their_own(paint: Command) -> None:
    found = paint("a {red|blue} cube", "-n", "2", "--json", "--out", "cubes.png")
    images = json.loads(found.out)["images"]
    assert [(image["prompt"], image["seed"]) for image in images] == [
        (prompt, 7 + index) for index, prompt in enumerate(("a red cube", "a red cube", "a blue cube", "a blue cube"))
    ]
    assert "4 pictures of 2 prompts" in found.err
    assert paint("a blue cube", "--seed", "9", "--out", "alone.png").code == 0
    assert (_pixels("alone.png") == _pixels("cubes-3.png")).all()
    assert json.loads(paint("a {red|blue} cube", "--alternatives", "off", "--json").out)["images"][0]["prompt"] == "a {red|blue} cube"


def test_wildcards_are_drawn_by_the_pictures_seeds(paint: Command) -> None:
    Path("words").mkdir()
    Path("words/colour.txt").write_text("red\nblue\ngreen\n")
    options = ("--wildcards", "words", "--negative", "{cone|}", "--json")
    images = json.loads(paint("a __colour__ cube", *options, "-n", "4").out)["images"]
    assert [image["negative_prompt"] for image in images] == ["cone"] * 4 + [""] * 4
    assert len({image["prompt"] for image in images}) > 1
    one = json.loads(paint("a __colour__ cube", *options, "--seed", "10").out)["images"][0]
    assert one["prompt"] == images[3]["prompt"]
    assert len(json.loads(paint("a __colour__ cube", "--wildcards", "words", "--json", "--alternatives", "all").out)["images"]) == 3
    varied = json.loads(paint("a __colour__ cube", *options, "-n", "4", "--variation-strength", "0.1").out)["images"]
    assert {image["prompt"] for image in varied} == {images[0]["prompt"]}, "variations are of one picture"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("a (b:2000)",), "prompt: got a weight of 2000 for 'b'"),
        (("a", "--clip-skip", "0"), "clip_skip: got '0'; expected an integer at least 1"),
        (("a", "--clip-skip", "99"), "clip_skip: got 99; expected 1 to 4, the layers of this model's text encoder"),
        (("a", "--wildcards", "nowhere"), "wildcards: got nowhere, which is no folder"),
        (("a __b__", "--wildcards", "."), "prompt: got the wildcard __b__, but there is no b.txt"),
        (("{a|b}" * 9,), "prompt: got 512 combinations of alternatives, 1 pictures each; expected at most 256 pictures"),
        (("a", "--alternatives", "some"), "'some' is not one of 'auto', 'all', 'random', 'off'"),
    ],
)
def test_bad_values_are_one_line_and_nothing_is_written(paint: Command, options: tuple[str, ...], words: str) -> None:
    assert_refused(paint(*options, "--quiet"), 2, words)
    assert not list(Path().glob("*.png"))


@pytest.mark.parametrize(
    ("verb", "options"),
    [
        ("img2img", ("--strength", "0.6")),
        ("inpaint", ("--expand", "0,0,16,0")),
        ("depth2img", ("--depth", "scene.png")),
        ("upscale", ("--tile", "0")),
    ],
)
def test_every_verb_reads_prompts_in_the_same_way(sd2rt: Command, verb: str, options: tuple[str, ...]) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save("scene.png")
    prompt = "a (red:1.3) {cube|cone} BREAK on the left"
    if verb != "depth2img":
        options = ("--image", "scene.png", *options)
    found = sd2rt(verb, prompt, *options, "--steps", "2", "--seed", "1", "--clip-skip", "2", "--json", "--out", "made.png")
    assert found.code == 0, found.err
    images = json.loads(found.out)["images"]
    assert [image["prompt"] for image in images] == [prompt.replace("{cube|cone}", solid) for solid in ("cube", "cone")]
    assert {(image["clip_skip"], image["weighting"]) for image in images} == {(2, True)}
    alone = sd2rt(verb, images[1]["prompt"], *options, "--steps", "2", "--seed", "2", "--clip-skip", "2", "--out", "alone.png")
    assert alone.code == 0
    assert (_pixels("alone.png") == _pixels("made-2.png")).all()
