"""At what size a picture is painted: its own, the asked one, or less where it is too large."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.bundle import Bundle, read_bundle
from sd2rt.runtime.options import Request
from sd2rt.runtime.picture_size import PaintedSize, choose_size
from tests.runtime.bundles import write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of 512 x 512 pixels, with latents of 8."""
    return replace(read_bundle(write_bundle(tmp_path_factory.mktemp("bundle") / "small")), native_size=(512, 512))


def choose(own: tuple[int, int], bundle: Bundle, pad: bool = False, **asked: int) -> PaintedSize:
    return choose_size(Request(prompt="a", **asked), own, bundle, pad=pad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("own", "expected"),
    [((512, 768), (512, 768)), ((511, 769), (504, 768)), ((1, 7), (8, 8)), ((1024, 1024), (1024, 1024)), ((64, 8192), (64, 8192))],
)
def test_a_picture_is_painted_at_its_own_size(bundle: Bundle, own: tuple[int, int], expected: tuple[int, int]) -> None:
    found = choose(own, bundle)
    assert (found.height, found.width) == found.fitted == expected
    assert found.crop is found.scaled_from is None


def test_cells_of_another_size(bundle: Bundle) -> None:
    assert choose((63, 64), replace(bundle, latent_factor=64), pad=False).fitted == (64, 64)
    assert choose((9, 9), replace(bundle, latent_factor=4)).fitted == (8, 8)


@pytest.mark.parametrize(("own", "expected"), [((3000, 4000), (880, 1176)), ((1024, 1025), (1016, 1024)), ((10_000, 10_000), (1024, 1024))])
@pytest.mark.parametrize("pad", [False, True])
def test_a_larger_one_is_scaled_down(bundle: Bundle, own: tuple[int, int], expected: tuple[int, int], pad: bool) -> None:
    assert choose(own, bundle, pad) == PaintedSize(height=expected[0], width=expected[1], scaled_from=own)


@settings(max_examples=100, deadline=None)
@given(own=st.tuples(st.integers(1, 10_000), st.integers(1, 10_000)), pad=st.booleans())
def test_sizes_are_multiples_in_bounds_and_of_the_pictures_shape(bundle: Bundle, own: tuple[int, int], pad: bool) -> None:
    try:
        found = choose(own, bundle, pad)
    except InvalidArgument:
        assert max(own) > 8192
        return
    sides = (found.height, found.width)
    assert all(side % 8 == 0 and side > 0 for side in sides)
    assert found.height * found.width <= 4 * 512 * 512 or (pad and own[0] * own[1] <= 4 * 512 * 512) or min(sides) == 8
    if found.scaled_from and min(sides) >= 256:
        assert found.height / found.width == pytest.approx(own[0] / own[1], rel=0.04)


@pytest.mark.parametrize(
    ("own", "asked", "expected"),
    [
        ((3000, 4000), {"width": 512}, (384, 512)),
        ((3000, 4000), {"height": 384}, (384, 512)),
        ((3000, 4000), {"width": 4000}, (3000, 4000)),
        ((3000, 4000), {"width": 64, "height": 64}, (64, 64)),
        ((1000, 10), {"height": 64}, (64, 8)),
        ((61, 43), {"width": 64}, (88, 64)),
    ],
)
def test_one_side_brings_the_other_along(bundle: Bundle, own: tuple[int, int], asked: dict[str, int], expected: tuple[int, int]) -> None:
    for pad in (False, True):
        assert choose(own, bundle, pad, **asked) == PaintedSize(height=expected[0], width=expected[1])


def test_padded_up_to_multiples(bundle: Bundle) -> None:
    found = choose((61, 43), bundle, pad=True)
    assert found == PaintedSize(height=64, width=48, crop=(61, 43))
    assert found.fitted == (61, 43)
    assert choose((64, 48), bundle, pad=True) == PaintedSize(height=64, width=48)


@pytest.mark.parametrize(
    ("own", "asked", "expected"),
    [
        ((61, 48), {"width": 48}, PaintedSize(height=64, width=48, crop=(61, 48))),
        ((64, 45), {"height": 64}, PaintedSize(height=64, width=48, crop=(64, 45))),
        ((61, 1032), {"width": 1032}, PaintedSize(height=64, width=1032, crop=(61, 1032))),
        ((61, 48), {"width": 48, "height": 64}, PaintedSize(height=64, width=48)),  # both are asked for
        ((61, 48), {"height": 64}, PaintedSize(height=64, width=48)),
        ((8195, 48), {"width": 48}, PaintedSize(height=8192, width=48)),  # more would be too long
    ],
)
def test_the_pictures_own_side_keeps_it_unscaled(
    bundle: Bundle, own: tuple[int, int], asked: dict[str, int], expected: PaintedSize
) -> None:
    assert choose(own, bundle, pad=True, **asked) == expected
    assert choose(own, bundle, **asked) == replace(expected, crop=None)


@pytest.mark.parametrize(
    ("own", "asked", "message"),
    [
        ((8, 8200), {}, "image: got 8,200 x 8 pixels .*; expected at most 8,192 a side: scale it down, or give width and height"),
        ((60_000, 100), {}, "image: got 100 x 60,000 pixels"),
        ((10, 1000), {"height": 128}, "width: got 12800; expected a multiple of 8 up to 8192"),
        ((10, 1000), {"height": 20}, "height: got 20; expected a multiple of 8"),
        ((10, 1000), {"height": 8, "width": 20}, "width: got 20; expected a multiple of 8"),
    ],
)
def test_what_is_too_long_is_refused(bundle: Bundle, own: tuple[int, int], asked: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        choose(own, bundle, **asked)


def test_a_traced_unet_takes_fewer_sizes(bundle: Bundle) -> None:
    traced = replace(bundle, traced_multiple=64)
    assert choose((400, 600), traced) == PaintedSize(height=384, width=576)
    assert choose((400, 600), traced, pad=True) == PaintedSize(height=448, width=640, crop=(400, 600))
    assert choose((400, 600), traced, width=640) == PaintedSize(height=448, width=640)
    assert choose((3000, 4000), traced).height == 832
    with pytest.raises(InvalidArgument, match="width: got 600; expected a multiple of 64 up to 8192; nearest: 576 or 640"):
        choose((400, 600), traced, width=600)
