"""The SD2 family's published configs, shipped with the package: one JSON file per model."""

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from sd2rt.engine.errors import InvalidArgument
from sd2rt.export.options import PRESETS


def read_preset(name: str) -> Mapping[str, Any]:
    """Return "model_index", "scheduler", "text_encoder", "unet" and "vae" of a preset, and "source", the repository they come from.

    Depth-to-image models also have "depth_estimator" and "feature_extractor", upscalers "low_res_scheduler".
    Raises InvalidArgument for an unknown name.
    """
    if name not in PRESETS:
        raise InvalidArgument(f"preset: got {name!r}, expected one of {', '.join(PRESETS)}")
    preset: Mapping[str, Any] = json.loads(resources.files(__name__).joinpath(f"{name}.json").read_text(encoding="utf-8"))
    return preset
