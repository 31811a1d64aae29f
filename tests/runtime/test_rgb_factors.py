"""The map from latents to colours: where it comes from, what is refused, and how good it is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sd2rt.engine.errors import BundleError
from sd2rt.runtime import load
from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.models import find_model
from sd2rt.runtime.rgb_factors import FIELD, KNOWN, RgbFactors, find_factors, fit_factors
from tests.runtime.bundles import write_bundle

OWN = RgbFactors(weights=((0.1, 0.2, 0.3), (0.0, 0.1, 0.0), (-0.2, 0.1, 0.0), (0.0, 0.0, 0.4)), bias=(0.5, 0.4, 0.6))


def test_a_fit_finds_the_map_back_and_ignores_the_ridge_where_there_is_much_to_see() -> None:
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((4, 4, 16, 12)).astype(np.float32)
    pictures = (latents.transpose(0, 2, 3, 1) @ np.float32(OWN.weights) + np.float32(OWN.bias)).repeat(8, axis=1).repeat(8, axis=2)
    fitted = fit_factors(latents, pictures)
    np.testing.assert_allclose(fitted.weights, OWN.weights, atol=2e-3)
    np.testing.assert_allclose(fitted.bias, OWN.bias, atol=2e-3)


def test_a_picture_of_one_colour_is_fitted_by_the_bias_alone() -> None:
    fitted = fit_factors(np.ones((1, 4, 2, 2), np.float32), np.full((1, 16, 16, 3), 0.25, np.float32))
    np.testing.assert_allclose(fitted.apply(np.ones((1, 4, 2, 2), np.float32)), 0.25, atol=1e-5)


def test_colours_are_clamped() -> None:
    wild = np.full((1, 4, 1, 1), 100, np.float32)
    np.testing.assert_array_equal(OWN.apply(wild), [[[[0.0, 1.0, 1.0]]]])
    assert OWN.apply(wild).dtype == np.float32


def test_what_a_manifest_says_is_read_back(tmp_path: Path) -> None:
    bundle = read_bundle(write_bundle(tmp_path / "own", lambda document: document.update({FIELD: OWN.as_json()})))
    assert bundle.latent_rgb == OWN
    assert find_factors(bundle) == OWN


@pytest.mark.parametrize(
    ("factor", "scale", "channels", "known"),
    [(8, 0.18215, 4, True), (4, 0.08333, 4, True), (8, 0.13025, 4, False), (8, 0.18215, 16, False)],
)
def test_published_maps_are_for_their_autoencoders_alone(factor: int, scale: float, channels: int, known: bool, tmp_path: Path) -> None:
    said = {"latent_factor": factor, "scaling_factor": scale, "latent_channels": channels}
    bundle = read_bundle(write_bundle(tmp_path / "bundle", lambda document: document.update(said)))
    assert find_factors(bundle) == (KNOWN[factor, scale] if known else None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"weights": [[1, 2, 3]] * 3, "bias": [0, 0, 0]},
        {"weights": [[1, 2, 3]] * 3 + [[1, 2]], "bias": [0, 0, 0]},
        {"weights": [[1, 2, 3]] * 4, "bias": [0, 0, float("inf")]},
        {"weights": [[1, 2, 3]] * 4, "bias": [0, 0, float("nan")]},
        {"weights": [[1, 2, "3"]] * 4, "bias": [0, 0, 0]},
        {"weights": [[1, 2, True]] * 4, "bias": [0, 0, 0]},
    ],
    ids=str,
)
def test_other_shapes_and_numbers_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", lambda document: document.update({FIELD: wrong}))
    with pytest.raises(BundleError, match="expected `weights` of 4 x 3 finite numbers and a `bias` of 3; export the model again"):
        read_bundle(folder)


@pytest.mark.parametrize("name", ["toyworld", "toyworld-inpainting", "toyworld-depth", "toyworld-upscaler"])
def test_every_embedded_model_says_its_own(name: str) -> None:
    manifest = find_model(name)
    path = manifest if manifest.is_file() else manifest / "bundle.json"
    assert json.loads(path.read_bytes())[FIELD] == find_factors(read_bundle(manifest)).as_json()  # type: ignore[union-attr]


def test_toyworlds_map_shows_what_is_painted() -> None:
    with load("toyworld", target="cpu") as pipe:
        *_, last = pipe.steps("a large red sphere on the left and a small blue cube on the right", seed=7, images_per_prompt=4)
        found, expected = (np.stack(last.preview(kind)) / 255 for kind in ("latent", "vae"))  # type: ignore[arg-type]
        cells = [pictures.reshape(4, 8, 8, 8, 8, 3).mean(axis=(2, 4)) for pictures in (found, expected)]
    assert -10 * np.log10(np.square(cells[0] - cells[1]).mean()) > 17
