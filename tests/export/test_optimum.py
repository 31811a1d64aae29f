"""Folders that optimum exported, as bundles: the pictures are those of our own export of the same weights."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from sd2rt.engine.errors import ExportError, InvalidArgument
from sd2rt.export.layout import is_graph_folder
from sd2rt.export.optimum import import_graphs
from sd2rt.runtime import load
from sd2rt.runtime.bundle import read_bundle
from tests.optimum_layout import write_optimum
from tests.tiny import tiny_bundle, tiny_pipeline

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-image model, weights of the UNet in a file of their own."""
    return write_optimum(tiny_pipeline("epsilon"), tmp_path_factory.mktemp("optimum") / "model", external=True)


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(exported, tmp_path / "model"))


def picture(bundle: Path, **call: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    with load(bundle, target="cpu") as pipe:
        images = pipe("a red cube", seed=3, steps=4, guidance_scale=4.0, sampler="euler karras", output="numpy", **call).images
    assert isinstance(images, np.ndarray)
    return images


def assert_alike(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> None:
    assert one.std() > 0.05
    assert -10 * np.log10(np.square(one.astype(np.float64) - other).mean()) >= 60


def test_it_paints_what_our_own_export_paints(exported: Path, tmp_path: Path) -> None:
    """At the native size and another, two at once, through a sampler whose timesteps are fractions."""
    notes: list[str] = []
    made = import_graphs(exported, tmp_path / "bundle", "mine", notes.append)
    assert [note.split(":")[0] for note in notes] == ["text_encoder", "unet", "vae_decoder", "vae_encoder", "sizes"]
    assert notes[-1] == "sizes: this UNet was traced, so that width and height must be multiples of 16"
    own = tiny_bundle("epsilon")
    for call in ({}, {"width": 96, "height": 80}, {"images_per_prompt": 2}):
        assert_alike(picture(made, **call), picture(own, **call))


def test_sizes_are_multiples_of_what_was_traced(exported: Path, tmp_path: Path) -> None:
    bundle = read_bundle(import_graphs(exported, tmp_path / "bundle", "mine"))
    assert (bundle.latent_factor, bundle.size_multiple) == (8, 16)


def test_a_picture_is_painted_at_sizes_that_the_graphs_take(exported: Path, tmp_path: Path) -> None:
    made = import_graphs(exported, tmp_path / "bundle", "mine")
    image = np.random.default_rng(0).integers(0, 256, (72, 88, 3), np.uint8)
    assert picture(made, image=image, strength=0.6).shape == (1, 64, 80, 3)
    with pytest.raises(InvalidArgument, match="width: got 72; expected a multiple of 16 up to 8192; nearest: 64 or 80"):
        picture(made, width=72)


def test_it_reads_pictures_too(exported: Path, tmp_path: Path) -> None:
    made = import_graphs(exported, tmp_path / "bundle", "mine")
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    call = {"image": image, "strength": 0.6}
    assert_alike(picture(made, **call), picture(tiny_bundle("epsilon"), **call))


def test_an_inpainting_model(tmp_path: Path) -> None:
    folder = write_optimum(tiny_pipeline("inpaint"), tmp_path / "model")
    bundle = read_bundle(import_graphs(folder, tmp_path / "bundle", "mine"))
    assert (bundle.task, bundle.name) == ("inpainting", "mine")
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    call = {"image": image, "mask": np.pad(np.full((32, 64), 255, np.uint8), ((0, 32), (0, 0)))}
    assert_alike(picture(bundle.folder, **call), picture(tiny_bundle("inpaint"), **call))


def test_weights_are_linked(exported: Path, tmp_path: Path) -> None:
    made = import_graphs(exported, tmp_path / "bundle", "mine")
    assert (made / "unet" / "model.onnx_data").samefile(exported / "unet" / "model.onnx_data")
    assert not (made / "unet" / "model.onnx").samefile(exported / "unet" / "model.onnx")  # it is not the same any more


def test_what_is_a_folder_of_graphs(exported: Path, tmp_path: Path) -> None:
    assert is_graph_folder(exported)
    assert not is_graph_folder(tmp_path)
    made = import_graphs(exported, tmp_path / "bundle", "mine")
    assert not is_graph_folder(made)  # a bundle has the same files


def edit_graph(file: Path, edit: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(file, load_external_data=False)
    edit(model)
    onnx.save(model, file)


def value(model: onnx.ModelProto, name: str) -> Any:
    return next(value for value in (*model.graph.input, *model.graph.output) if value.name == name)


def integer_timestep(model: onnx.ModelProto) -> None:
    """As optimum exported it before 2024: int64, one number for all rows."""
    old = value(model, "timestep")
    old.name = "timestep_float"
    for node in model.graph.node:
        node.input[:] = ["timestep_scalar" if name == "timestep" else name for name in node.input]
    nodes = [
        helper.make_node("Squeeze", ["timestep"], ["timestep_one"]),
        helper.make_node("Cast", ["timestep_one"], ["timestep_scalar"], to=TensorProto.FLOAT),
        *model.graph.node,
    ]
    model.graph.input.remove(old)
    model.graph.input.append(helper.make_tensor_value_info("timestep", TensorProto.INT64, ["steps"]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def test_an_older_graph_takes_whole_timesteps_as_a_row(copy: Path, tmp_path: Path) -> None:
    edit_graph(copy / "unet" / "model.onnx", integer_timestep)
    made = import_graphs(copy, tmp_path / "bundle", "mine")
    with load(made, target="cpu") as pipe, load(tiny_bundle("epsilon"), target="cpu") as own:
        call: dict[str, Any] = {"seed": 3, "steps": 4, "sampler": "ddim", "output": "numpy"}  # whose timesteps are whole
        assert_alike(np.asarray(pipe("a", **call).images), np.asarray(own("a", **call).images))


def test_without_an_encoder_that_fits_it_still_paints(copy: Path, tmp_path: Path) -> None:
    edit_graph(copy / "vae_encoder" / "model.onnx", lambda model: setattr(value(model, "latent_parameters"), "name", "latent_sample"))
    notes: list[str] = []
    bundle = read_bundle(import_graphs(copy, tmp_path / "bundle", "mine", notes.append))
    assert "vae_encoder" not in bundle.components
    assert "without vae_encoder, so that pictures cannot be read" in notes[-2]


def set_axis(model: onnx.ModelProto, name: str, axis: int, size: int) -> None:
    value(model, name).type.tensor_type.shape.dim[axis].dim_value = size


def misplace_weights(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../elsewhere"


UNFIT: list[tuple[str, Callable[[onnx.ModelProto], Any], str]] = [
    (
        "unet",
        lambda m: m.graph.input.append(helper.make_tensor_value_info("time_ids", 1, [1])),
        "inputs sample, .*time_ids; expected sample, timestep",
    ),
    ("unet", lambda m: m.graph.input.remove(value(m, "timestep")), "inputs sample, encoder_hidden_states; expected"),
    ("unet", lambda m: setattr(value(m, "out_sample"), "name", "noise"), "outputs noise; expected out_sample"),
    ("unet", lambda m: set_axis(m, "sample", 2, 64), r"sample has shape .*64.*; expected .*: export it without fixed sizes"),
    ("unet", lambda m: set_axis(m, "sample", 1, 9), "sample has shape .*9.*; expected"),
    ("text_encoder", lambda m: set_axis(m, "input_ids", 0, 1), "input_ids has shape"),
    (
        "vae_decoder",
        lambda m: setattr(value(m, "sample").type.tensor_type, "elem_type", TensorProto.BFLOAT16),
        "sample is BFLOAT16; expected one of",
    ),
    ("vae_decoder", lambda m: setattr(m.opset_import[0], "version", 12), "opset 12; expected 14 or newer"),
    ("unet", misplace_weights, r"weights in '\.\./elsewhere'; expected a file beside the graph"),
]


@pytest.mark.parametrize(("part", "edit", "words"), UNFIT)
def test_graphs_that_do_not_fit_are_named(
    part: str, edit: Callable[[onnx.ModelProto], Any], words: str, copy: Path, tmp_path: Path
) -> None:
    edit_graph(copy / part / "model.onnx", edit)
    with pytest.raises(ExportError, match=rf"{part}/model\.onnx: {words}"):
        import_graphs(copy, tmp_path / "bundle", "mine")
    assert not (tmp_path / "bundle").exists()


def test_weights_that_are_missing_are_named(copy: Path, tmp_path: Path) -> None:
    (copy / "unet" / "model.onnx_data").unlink()
    with pytest.raises(ExportError, match=r"its weights, model\.onnx_data, are missing"):
        import_graphs(copy, tmp_path / "bundle", "mine")


def test_what_is_no_graph_is_named(copy: Path, tmp_path: Path) -> None:
    (copy / "unet" / "model.onnx").write_bytes(b"\xff\xff\xff")
    with pytest.raises(ExportError, match=r"cannot read .*unet/model\.onnx \(\w+\): expected an ONNX graph"):
        import_graphs(copy, tmp_path / "bundle", "mine")


def edit_config(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("unet", {"in_channels": 7}, "a UNet of 7 channels over 4 latent channels; expected one for text-to-image or inpainting"),
        ("unet", {"in_channels": "many"}, "configs of unet, vae_decoder and text_encoder lack"),
        ("unet", {"sample_size": None}, "configs of unet"),
        ("vae_decoder", {"block_out_channels": None}, "configs of unet"),
    ],
)
def test_configs_that_do_not_fit(file: str, changes: dict[str, object], words: str, copy: Path, tmp_path: Path) -> None:
    edit_config(copy / file / "config.json", **changes)
    with pytest.raises(ExportError, match=words):
        import_graphs(copy, tmp_path / "bundle", "mine")


def test_a_missing_config_is_named(copy: Path, tmp_path: Path) -> None:
    (copy / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(ExportError, match=r"cannot read .*scheduler_config\.json: expected a folder in optimum's layout"):
        import_graphs(copy, tmp_path / "bundle", "mine")


def test_an_autoencoder_that_names_no_scaling_factor_has_diffusers(copy: Path, tmp_path: Path) -> None:
    config = json.loads((copy / "vae_decoder" / "config.json").read_text())
    del config["scaling_factor"]
    (copy / "vae_decoder" / "config.json").write_text(json.dumps(config))
    assert read_bundle(import_graphs(copy, tmp_path / "bundle", "mine")).scaling_factor == 0.18215


def test_a_folder_in_use_is_kept_unless_replaced(exported: Path, tmp_path: Path) -> None:
    import_graphs(exported, tmp_path / "bundle", "mine")
    with pytest.raises(InvalidArgument, match="bundle is not empty"):
        import_graphs(exported, tmp_path / "bundle", "other")
    assert read_bundle(import_graphs(exported, tmp_path / "bundle", "other", replace=True)).name == "other"
