"""The web UI's options: the few that mean something here, kept for each owner while the server runs. Others are ignored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sd2rt.serve.a1111_bodies import Overrides
from sd2rt.serve.a1111_models import find_model, title_of
from sd2rt.serve.a1111_orders import read_rng
from sd2rt.serve.model_choice import default_model

if TYPE_CHECKING:
    from sd2rt.serve.offers import OfferedModel

FIXED = {
    "samples_format": "png",
    "sd_vae": "Automatic",
    "face_restoration_model": None,
    "img2img_color_correction": False,
    "eta_noise_seed_delta": 0,
    "show_progress_every_n_steps": 1,
}
"""What clients look for and nothing here changes."""


class Options:
    """What each owner chose. Owners are as many as there are tokens."""

    def __init__(self) -> None:
        self._chosen: dict[str, Overrides] = {}

    def of(self, owner: str) -> Overrides:
        """Return an owner's choice."""
        return self._chosen.get(owner, Overrides())

    def choose(self, owner: str, said: Overrides, models: Sequence[OfferedModel]) -> None:
        """Take an owner's choice; what is left out stays, null is the default again. Raises InvalidArgument, UnknownModel."""
        if said.sd_model_checkpoint:
            find_model(models, said.sd_model_checkpoint)
        read_rng(said.randn_source)
        self._chosen[owner] = self.of(owner).model_copy(update=said.model_dump(exclude_unset=True))

    def view(self, owner: str, models: Sequence[OfferedModel]) -> dict[str, Any]:
        """Return what `GET /sdapi/v1/options` says."""
        chosen = self.of(owner)
        name = find_model(models, chosen.sd_model_checkpoint) if chosen.sd_model_checkpoint else default_model(models)
        model = next(offered for offered in models if offered.name == name)
        return {
            "sd_model_checkpoint": title_of(model),
            "sd_checkpoint_hash": model.bundle_sha256,
            "CLIP_stop_at_last_layers": chosen.CLIP_stop_at_last_layers or 1,
            "randn_source": chosen.randn_source or "CPU",
            **FIXED,
        }
