"""Both cuts of exported UNets against diffusers' modules, whose map between two layers is put in place by hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from sd2rt.engine.errors import BuildError
from sd2rt.engine.spec import ComponentFiles, DeepForm, DeepPart
from sd2rt.runtime.bundle import read_bundle
from tests.engine.graphs import relative_error
from tests.engine.written import write_form

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
from tests.tiny import VARIANTS, tiny_bundle, tiny_pipeline  # noqa: E402

Arrays = dict[str, npt.NDArray[Any]]
JOINS = {name: len(shape.widths) * (shape.layers + 1) - (not shape.mid_block) for name, shape in VARIANTS.items()}
LIKE_ANOTHER = {"upcast": "epsilon"}  # the same layers, and in float32 the same graph: what is upcast is float16
CASES = [(name, branch) for name, joins in JOINS.items() if name not in LIKE_ANOTHER for branch in sorted({1, 2, joins})]


def feeds(variant: str, seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    shape = VARIANTS[variant]
    return {
        "sample": rng.standard_normal((2, shape.in_channels, 10, 12), dtype=np.float32),
        "timestep": np.array([900.0 - 40 * seed, 300.0], np.float32),
        "encoder_hidden_states": rng.standard_normal((2, 77, shape.text_width), dtype=np.float32),
        **({"class_labels": np.array([20, 5])} if shape.classes else {}),
    }


def open_parts(files: ComponentFiles, branch: int) -> list[onnxruntime.InferenceSession]:
    """Return sessions of both parts. Links to the weights do not outlast them: a shared bundle's file would not be read again."""
    sessions = []
    for part in DeepPart:
        with TemporaryDirectory() as folder:
            path = write_form(files, DeepForm(part=part, branch=branch), Path(folder))
            sessions.append(onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]))
    return sessions


def predict(unet: Any, arrays: Arrays) -> npt.NDArray[Any]:
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    with torch.no_grad():
        return np.asarray(unet(**tensors).sample)


@contextmanager
def given_map(unet: Any, branch: int, features: npt.NDArray[Any]) -> Iterator[None]:
    """Let the last `branch` layers of the way up start from a map in place of their own: the first channels of what a layer joins."""

    def replace(module: Any, inputs: Any) -> Any:
        joined, *others = inputs
        return torch.cat([torch.from_numpy(features), joined[:, features.shape[1] :]], dim=1), *others

    layers = [layer for block in unet.up_blocks for layer in block.resnets]
    handle = layers[-branch].register_forward_pre_hook(replace)
    yield
    handle.remove()


@pytest.mark.parametrize(("variant", "branch"), CASES)
def test_parts_against_diffusers(variant: str, branch: int) -> None:
    """In the same step, and with the map of another timestep and sample."""
    unet = tiny_pipeline(variant).unet
    full, shallow = open_parts(read_bundle(tiny_bundle(variant)).component("unet").files, branch)
    now, before = feeds(variant, 0), feeds(variant, 1)
    expected = predict(unet, now)
    out_sample, features = full.run(["out_sample", "deep_features"], now)
    assert relative_error(out_sample, expected) < 1e-4
    (same,) = shallow.run(None, now | {"deep_features": features})
    assert relative_error(same, out_sample) < 1e-5
    (features_before,) = full.run(["deep_features"], before)
    with given_map(unet, branch, features_before):
        expected_then = predict(unet, now)
    (then,) = shallow.run(None, now | {"deep_features": features_before})
    assert relative_error(then, expected_then) < 1e-4
    assert relative_error(then, out_sample) > 1e-2


def test_a_unet_without_a_mid_block_has_no_cut_where_it_turns() -> None:
    """Its first layer up joins what came down with itself."""
    files = read_bundle(tiny_bundle("no_mid")).component("unet").files
    with pytest.raises(BuildError, match="branch: got 4; expected 1 to 3"):
        open_parts(files, 4)
