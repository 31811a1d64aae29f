"""The checker against renders, spoiled renders and wrong captions, each kind measured by itself; and what its reports say."""

from functools import cache

import numpy as np
import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.toyworld.checker import accuracy, check
from sd2rt.toyworld.scene import Scene, Solid, render
from tests.toyworld.pictures import KINDS, blur_and_add_noise, compress, scenes, wrong_caption

CAPTION = "a large red sphere on the left and a small blue cube on the right, gray floor"


@cache
def _picture() -> np.ndarray:
    red = Solid(shape="sphere", colour="red", size="large", place="left", x=-1.2, z=0.1, radius=1.0)
    blue = Solid(shape="cube", colour="blue", size="small", place="right", x=1.1, z=0.0, radius=0.62)
    return render(Scene(solids=(red, blue), floor="gray")).image


def test_renders_pass_with_their_own_caption():
    reports = [check(image, scene.caption) for scene, image in scenes(400, seed=1)]
    assert np.mean([report.passed for report in reports]) >= 0.99
    assert np.mean([report.floor_right for report in reports]) >= 0.99


@pytest.mark.parametrize("kind", KINDS)
def test_captions_with_one_thing_wrong_fail(kind):
    rng = np.random.default_rng(2)
    pairs = [(image, wrong_caption(scene.caption, kind, rng)) for scene, image in scenes(120, seed=2)]
    rejected = [not check(image, caption).passed for image, caption in pairs if caption]
    assert len(rejected) > 40
    assert np.mean(rejected) >= 0.99


@pytest.mark.parametrize("spoil", ["blur and noise", "jpeg"])
def test_spoiled_renders_pass_and_their_wrong_captions_fail(spoil):
    rng = np.random.default_rng(3)
    spoiled = [(s.caption, blur_and_add_noise(i, rng) if spoil == "blur and noise" else compress(i)) for s, i in scenes(200, seed=3)]
    assert np.mean([check(image, caption).passed for caption, image in spoiled]) >= 0.98
    wrong = [(image, wrong_caption(caption, KINDS[n % 6], rng)) for n, (caption, image) in enumerate(spoiled)]
    assert np.mean([not check(image, caption).passed for image, caption in wrong if caption]) >= 0.98


@pytest.mark.parametrize(
    ("caption", "passed", "description"),
    [
        (CAPTION, True, "right"),
        ("a red sphere and a blue cube", True, "right"),
        ("a small blue cube on the right and a large red sphere on the left", True, "right"),
        ("a sphere and a cube, pink floor", True, "gray floor, not pink"),
        ("a large red sphere", False, "small blue cube on the right is not asked for"),
        ("a red sphere, a blue cube and a cone", False, "no cone"),
        ("a red sphere, a blue cube and a green cone", False, "no green cone"),
        ("a large red sphere on the left and a large green cube on the right", False, "small blue cube on the right: wrong colour, size"),
        ("a large red cone on the left and a small blue cube", False, "large red sphere on the left: wrong shape"),
        (
            "a small blue cube on the left and a large red sphere on the right",
            False,
            "small blue cube on the right: wrong place; large red sphere on the left: wrong place",
        ),
    ],
)
def test_a_report_judges_what_the_caption_states(caption, passed, description):
    report = check(_picture(), caption)
    assert report.passed is passed
    assert report.describe() == description


def test_findings_hold_each_stated_attribute():
    report = check(_picture(), "a large red sphere and a green cube on the left, pink floor")
    sphere, cube = report.findings
    assert sphere.right == {"colour": True, "shape": True, "size": True}
    assert cube.right == {"colour": False, "shape": True, "place": False}
    assert (report.missing, report.extra, report.floor_right) == (0, (), False)
    assert check(_picture(), "a sphere").floor_right is None


def test_a_missing_solid_is_wrong_in_all_that_is_asked_of_it():
    report = check(_picture(), "a red sphere, a blue cube and a small cone")
    assert report.missing == 1
    assert report.findings[2].found is None
    assert report.findings[2].right == {"shape": False, "size": False}


def test_accuracy_is_the_share_of_what_was_stated():
    captions = [CAPTION, "a large red sphere", "a small red sphere and a green cube, gray floor", "a sphere and a cube, pink floor"]
    summed = accuracy([_picture()] * 4, captions)
    assert summed.pictures == 4
    assert summed.attributes == {"colour": 4 / 5, "shape": 1.0, "size": 3 / 4, "place": 1.0}
    assert (summed.count, summed.floor, summed.overall) == (3 / 4, 2 / 3, 2 / 4)


def test_accuracy_of_nothing_is_unknown():
    summed = accuracy([], [])
    assert (summed.pictures, summed.overall, summed.floor, set(summed.attributes.values())) == (0, None, None, {None})


def test_accuracy_needs_a_caption_for_each_picture():
    with pytest.raises(ValueError, match="zip"):
        accuracy([_picture()], [])


@pytest.mark.parametrize("image", [np.full((64, 64, 3), level, np.uint8) for level in (0, 128, 255)], ids=["black", "gray", "white"])
def test_a_blank_picture_fails(image):
    assert not check(image, "a red cube").passed
    assert not check(image, CAPTION).passed


def test_more_than_four_solids_are_refused():
    with pytest.raises(InvalidArgument, match="asks for 5 solids, but at most 4"):
        check(_picture(), "a cube " * 5)
