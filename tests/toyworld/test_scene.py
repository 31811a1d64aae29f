"""Scenes drawn at random: captions that read back as the scene, and every word of the vocabulary."""

from collections import Counter

import numpy as np
import pytest

from sd2rt.toyworld.scene import Scene, Solid, parse_caption, render, sample_scene
from sd2rt.toyworld.vocabulary import COLOURS, FLOORS, PLACES, SHAPES, SIZES

RED = Solid(shape="sphere", colour="red", size="large", place="left", x=-1.1, z=0.0, radius=1.0)
BLUE = Solid(shape="cube", colour="blue", size="small", place="right", x=1.2, z=0.1, radius=0.6)
ALONE = Solid(shape="cone", colour="white", size="small", place="", x=0.0, z=0.0, radius=0.6)


@pytest.mark.parametrize(
    ("solids", "caption"),
    [
        ((RED, BLUE), "a large red sphere on the left and a small blue cube on the right, gray floor"),
        ((BLUE,), "a small blue cube on the right, gray floor"),
        ((ALONE,), "a small white cone, gray floor"),
    ],
)
def test_a_caption_names_everything_from_left_to_right(solids, caption):
    assert Scene(solids=solids, floor="gray").caption == caption


def test_a_sampled_scene_reads_back_from_its_caption():
    rng = np.random.default_rng(1)
    for scene in (sample_scene(rng) for _ in range(200)):
        wish = parse_caption(scene.caption)
        assert wish.floor == scene.floor
        read = [(s.shape, s.colour, s.size, s.place or "") for s in wish.solids]
        assert read == [(s.shape, s.colour, s.size, s.place) for s in scene.solids]


def test_every_word_is_drawn_about_equally_often():
    rng = np.random.default_rng(2)
    scenes = [sample_scene(rng) for _ in range(2000)]
    assert 900 < sum(len(scene.solids) == 2 for scene in scenes) < 1100
    assert Counter(len(scene.solids) for scene in scenes).keys() == {1, 2}
    solids = [solid for scene in scenes for solid in scene.solids]
    for words, drawn in (
        (SHAPES, [s.shape for s in solids]),
        (COLOURS, [s.colour for s in solids]),
        (SIZES, [s.size for s in solids]),
        (FLOORS, [scene.floor for scene in scenes]),
        (PLACES, [scene.solids[0].place for scene in scenes if len(scene.solids) == 1]),
    ):
        counts = Counter(drawn)
        assert counts.keys() == set(words)
        assert min(counts.values()) > 0.8 * len(drawn) / len(words)


def test_solids_stand_where_and_as_large_as_their_words_say():
    rng = np.random.default_rng(3)
    for solid in (solid for _ in range(500) for solid in sample_scene(rng).solids):
        assert solid.radius == pytest.approx(SIZES[solid.size], rel=0.0501)
        assert abs(solid.z) <= 0.3
        assert solid.place == ("" if abs(solid.x) < 0.6 else "left" if solid.x < 0 else "right")


def test_the_seed_decides():
    first, again, other = (sample_scene(np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert first == again
    assert first != other


def test_a_scene_is_painted_with_its_own_solids():
    rendering = render(Scene(solids=(RED, BLUE), floor="black"))
    assert set(np.unique(rendering.index)) == {-2, -1, 0, 1}
    red, blue = (rendering.image[rendering.index == k].mean(0) for k in (0, 1))
    assert red.argmax() == 0
    assert blue.argmax() == 2
