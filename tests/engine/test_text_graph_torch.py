"""Cut text encoders against transformers' hidden states, put through the final norm, on every backend that runs here."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sd2rt.engine.build import open_engine
from sd2rt.engine.errors import InvalidArgument
from sd2rt.engine.spec import BuildOptions, TextForm
from sd2rt.runtime.bundle import read_bundle

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
from tests.tiny import VARIANTS, tiny_bundle, tiny_pipeline  # noqa: E402

IDS = np.random.default_rng(0).integers(0, 49408, (3, 77))


@pytest.mark.parametrize(("variant", "dtype", "decibels"), [("v", "fp32", 100), ("conv", "fp32", 100), ("upcast", "fp16", 50)])
@pytest.mark.parametrize("target", ["cpu", "openvino"])
def test_states_are_those_of_an_earlier_layer(
    variant: str, dtype: str, decibels: float, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if target == "openvino":
        pytest.importorskip("openvino", reason="the openvino extra is not installed")
    monkeypatch.setenv("SD2RT_CACHE", str(tmp_path))
    files = read_bundle(tiny_bundle(variant, dtype)).component("text_encoder").files
    model: Any = tiny_pipeline(variant).text_encoder
    tower = getattr(model, "text_model", model)
    with torch.no_grad():
        hidden = model(torch.from_numpy(IDS), output_hidden_states=True).hidden_states
        layers = VARIANTS[variant].text_layers
        for skip in range(1, layers):
            expected = tower.final_layer_norm(hidden[-(skip + 1)]).numpy()
            engine = open_engine(
                files, BuildOptions(target=target, precision="f32" if target == "openvino" else "auto", form=TextForm(skip=skip))
            )
            own = engine.run({"input_ids": IDS})["last_hidden_state"]
            engine.close()
            error = np.square(own - expected).mean() / np.square(expected).mean()
            assert -10 * np.log10(error + 1e-20) > decibels
    with pytest.raises(InvalidArgument, match=f"clip_skip: got {layers + 1}; expected 1 to {layers}"):
        open_engine(files, BuildOptions(target=target, form=TextForm(skip=layers)))
