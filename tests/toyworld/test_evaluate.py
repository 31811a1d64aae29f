"""Evaluation with painters whose faults are known."""

import numpy as np
import pytest
from PIL import Image

from sd2rt.engine.errors import InvalidArgument
from sd2rt.toyworld.captions import is_held_out, parse_caption
from sd2rt.toyworld.evaluate import contact_sheet, evaluate, held_out_captions
from sd2rt.toyworld.scene import Scene, Solid, render
from sd2rt.toyworld.vocabulary import SIZES

X = {"left": -1.15, "": 0.0, "right": 1.15}


def _paint(captions: list[str], colour: str | None = None) -> list[np.ndarray]:
    """Paint what the captions say, or all solids in one colour."""
    scenes = []
    for wish in map(parse_caption, captions):
        words = [(s.shape, colour or s.colour, s.size, s.place or "") for s in wish.solids]
        solids = tuple(Solid(shape=a, colour=b, size=c, place=d, x=X[d], z=0.0, radius=SIZES[c]) for a, b, c, d in words)
        scenes.append(Scene(solids=solids, floor=wish.floor or "gray"))
    return [render(scene).image for scene in scenes]


def test_held_out_captions_are_different_full_and_half_of_one_solid():
    captions = held_out_captions(60, seed=5)
    assert captions == held_out_captions(60, seed=5)
    assert captions != held_out_captions(60, seed=6)
    assert len(set(captions)) == 60
    assert all(map(is_held_out, captions))
    wishes = [parse_caption(caption) for caption in captions]
    assert sum(len(wish.solids) == 1 for wish in wishes) == 30
    assert all(wish.floor for wish in wishes)


def test_captions_of_one_solid_run_out_before_those_of_two():
    ones = [caption for caption in held_out_captions(200) if len(parse_caption(caption).solids) == 1]
    assert len(ones) == 38


@pytest.mark.parametrize("count", [0, -1, 100_000])
def test_more_captions_than_there_are_is_an_error(count):
    with pytest.raises(InvalidArgument, match=f"{count} held-out captions asked for; expected 1 to"):
        held_out_captions(count)


def test_every_held_out_caption_can_be_had():
    with pytest.raises(InvalidArgument, match=r"expected 1 to 8\d\d,") as caught:
        held_out_captions(0)
    most = int(str(caught.value).split(" to ")[1].split(",")[0])
    assert len(set(held_out_captions(most))) == most


def test_a_perfect_painter_is_all_right():
    batches: list[int] = []

    def paint(captions: list[str]) -> list[np.ndarray]:
        batches.append(len(captions))
        return _paint(captions)

    result = evaluate(paint, 50, batch=20)
    assert batches == [20, 20, 10]
    assert result.accuracy.overall == 1.0
    assert set(result.accuracy.attributes.values()) == {1.0}
    assert result.table().splitlines() == [
        "| captions | pictures | colour | shape | size | place | count | floor | all right |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| one solid | 25 | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 |",
        "| two solids | 25 | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 |",
        "| all | 50 | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 |",
    ]


def test_a_painter_that_knows_one_colour_fails_in_colour_alone():
    result = evaluate(lambda captions: _paint(captions, "blue"), 40)
    asked = [solid.colour for caption in result.captions for solid in parse_caption(caption).solids]
    assert result.accuracy.attributes["colour"] == pytest.approx(asked.count("blue") / len(asked))
    assert result.accuracy.attributes["shape"] == 1.0
    assert result.accuracy.count == 1.0


def test_a_painter_must_return_a_picture_for_each_caption():
    with pytest.raises(ValueError, match="zip"):
        evaluate(lambda captions: _paint(captions)[1:], 3)


def test_a_contact_sheet_frames_right_pictures_in_green_and_wrong_ones_in_red():
    result = evaluate(lambda captions: [Image.fromarray(image) for image in _paint(captions, "blue")], 10)
    sheet = contact_sheet(result.images, result.captions, result.reports, columns=4)
    assert sheet.size == (8 + 4 * 136, 8 + 3 * 182)
    passed = [report.passed for report in result.reports]
    for k, right in enumerate(passed):
        corner = sheet.getpixel((7 + k % 4 * 136, 7 + k // 4 * 182))
        assert corner == ((0, 130, 0) if right else (200, 0, 0))
