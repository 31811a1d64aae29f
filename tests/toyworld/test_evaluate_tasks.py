"""The cases of the other tasks, and their judges, with painters whose faults are known."""

import numpy as np
import pytest
from PIL import Image

from sd2rt.toyworld.captions import is_held_out, parse_caption
from sd2rt.toyworld.evaluate_tasks import (
    enlargements,
    exchanges,
    gain_over_bicubic_db,
    judge_exchange,
    judge_recolouring,
    psnr,
    recolourings,
    silhouette,
)
from sd2rt.toyworld.scene import render, sample_scene


@pytest.mark.parametrize("draw", [exchanges, recolourings, enlargements])
def test_cases_are_held_out_and_repeatable(draw):
    first, again, other = draw(3, 1), draw(3, 1), draw(3, 2)
    assert [case.caption for case in first] == [case.caption for case in again] != [case.caption for case in other]
    assert all(is_held_out(case.caption) for case in first)


def test_a_mask_covers_the_solid_to_exchange_and_the_caption_asks_for_another():
    for case in exchanges(10, seed=3):
        verdict = judge_exchange(case, case.image)
        assert not verdict.solid_right
        assert not verdict.passed
        assert verdict.outside_db == 99
        assert 0 < case.mask.mean() < 0.7
        masked = np.where(case.mask[:, :, None], 128, case.image).astype(np.uint8)
        assert psnr(masked, case.image) < 30


def test_changes_outside_the_mask_are_seen():
    case = exchanges(1)[0]
    spoiled = np.where(case.mask[:, :, None], case.image, 255 - case.image)
    assert judge_exchange(case, spoiled).outside_db < 15


def test_the_old_colours_are_wrong_and_a_wall_has_no_silhouette():
    for case in recolourings(8, seed=4):
        assert not judge_recolouring(case, case.image).colours_right
        wall = judge_recolouring(case, np.full_like(case.image, 200))
        assert not wall.colours_right
        assert wall.overlap < 0.5


def test_silhouettes_of_renders_are_where_their_solids_are():
    rng, overlaps = np.random.default_rng(0), []
    for scene in (sample_scene(rng) for _ in range(60)):
        if all(solid.colour != "white" for solid in scene.solids):
            seen = render(scene)
            found, solids = silhouette(seen.image, scene.caption), seen.index >= 0
            overlaps.append((found & solids).sum() / (found | solids).sum())
    assert len(overlaps) > 30
    assert np.mean(overlaps) > 0.95
    assert min(overlaps) > 0.85


def test_no_solid_becomes_white():
    assert all(solid.colour != "white" for case in recolourings(10) for solid in parse_caption(case.caption).solids)


def test_gains_are_against_bicubic():
    case = enlargements(1)[0]
    assert case.large.shape == (256, 256, 3)
    bicubic = np.asarray(Image.fromarray(case.small).resize((256, 256), Image.Resampling.BICUBIC))
    nearest = np.asarray(Image.fromarray(case.small).resize((256, 256), Image.Resampling.NEAREST))
    assert gain_over_bicubic_db(case, bicubic) == 0
    assert gain_over_bicubic_db(case, nearest) < -1
    assert gain_over_bicubic_db(case, case.large) > 50


def test_psnr_of_bytes():
    black = np.zeros((2, 2), np.uint8)
    assert psnr(black, black) == 99
    assert psnr(black, black + np.uint8(255)) == 0
