"""Which files of a repository are downloaded: never a pickle, never weights that nothing reads."""

import pytest

from sd2rt.engine.errors import ExportError
from sd2rt.export.hub_files import HubFile, Kind, choose_files

FULL = {
    "unet/diffusion_pytorch_model.safetensors": 4,
    "vae/diffusion_pytorch_model.safetensors": 4,
    "text_encoder/model.safetensors": 4,
}
HALF = {name.replace(".safetensors", ".fp16.safetensors"): 2 for name in FULL}
CONFIGS = {
    "model_index.json": 1,
    "scheduler/scheduler_config.json": 1,
    "tokenizer/merges.txt": 1,
    "tokenizer/vocab.json": 1,
    "unet/config.json": 1,
    "vae/config.json": 1,
    "text_encoder/config.json": 1,
}
UNREAD = {
    "README.md": 1,
    ".gitattributes": 1,
    "unet/diffusion_pytorch_model.bin": 4,
    "unet/diffusion_pytorch_model.non_ema.safetensors": 4,
    "text_encoder/pytorch_model.bin": 4,
    "safety_checker/model.safetensors": 4,
    "safety_checker/config.json": 1,
    "v2-1_768-ema-pruned.ckpt": 9,
    "v2-1_768-ema-pruned.safetensors": 9,
}
GRAPHS = {f"{name}/{file}": 1 for name in ("text_encoder", "unet", "vae_decoder", "vae_encoder") for file in ("model.onnx", "config.json")}
DEPTH = {"depth_estimator/config.json": 1, "feature_extractor/preprocessor_config.json": 1}
UPSCALER = {"low_res_scheduler/scheduler_config.json": 1}


def listing(*groups: dict[str, int]) -> list[HubFile]:
    return [HubFile(path=path, bytes=size, blob_id="0" * 40) for group in groups for path, size in group.items()]


def chosen(*groups: dict[str, int], dtype: str = "fp16", exporting: bool = True) -> set[str]:
    return {file.path for file in choose_files("me/model", listing(*groups), dtype, exporting=exporting).files}


def test_half_precision_is_enough_for_fp16() -> None:
    assert chosen(FULL, HALF, CONFIGS, UNREAD) == set(HALF) | set(CONFIGS)


def test_full_precision_is_taken_for_fp32() -> None:
    assert chosen(FULL, HALF, CONFIGS, UNREAD, dtype="fp32") == set(FULL) | set(CONFIGS)


@pytest.mark.parametrize(("there", "dtype"), [(FULL, "fp16"), (HALF, "fp32")])
def test_the_other_precision_does_where_the_repository_has_no_choice(there: dict[str, int], dtype: str) -> None:
    assert chosen(there, CONFIGS, dtype=dtype) == set(there) | set(CONFIGS)


def test_components_are_chosen_one_by_one() -> None:
    mixed = {"unet/diffusion_pytorch_model.fp16.safetensors": 2}
    assert chosen(FULL, mixed, CONFIGS) == set(FULL) - {"unet/diffusion_pytorch_model.safetensors"} | set(mixed) | set(CONFIGS)


def test_an_upscalers_autoencoder_stays_in_full_precision() -> None:
    found = chosen(FULL, HALF, CONFIGS, UPSCALER)
    assert "vae/diffusion_pytorch_model.safetensors" in found
    assert "vae/diffusion_pytorch_model.fp16.safetensors" not in found
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in found


def test_a_depth_estimator_is_taken_where_there_is_one() -> None:
    weights = {"depth_estimator/model.safetensors": 4}
    assert chosen(FULL, CONFIGS, DEPTH, weights) == set(FULL) | set(CONFIGS) | set(DEPTH) | set(weights)
    with pytest.raises(ExportError, match="holds no Stable Diffusion checkpoint"):
        chosen(FULL, CONFIGS, DEPTH)


@pytest.mark.parametrize(
    ("index", "shards"),
    [
        ("unet/diffusion_pytorch_model.safetensors.index.json", ["unet/diffusion_pytorch_model-00001-of-00002.safetensors"]),
        ("unet/diffusion_pytorch_model.safetensors.index.fp16.json", ["unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors"]),
        ("unet/diffusion_pytorch_model.safetensors.index.fp16.json", ["unet/diffusion_pytorch_model-00001-of-00002.fp16.safetensors"]),
    ],
)
def test_shards_come_with_their_index(index: str, shards: list[str]) -> None:
    others = {name: size for name, size in FULL.items() if not name.startswith("unet/")}
    assert chosen(others, CONFIGS, {index: 1}, dict.fromkeys(shards, 2)) == set(others) | set(CONFIGS) | {index, *shards}


def test_graphs_are_taken_where_nothing_can_be_exported_and_where_there_is_nothing_else() -> None:
    assert chosen(GRAPHS, FULL, CONFIGS, exporting=False) >= set(GRAPHS)
    assert not any(name.endswith(".safetensors") for name in chosen(GRAPHS, FULL, CONFIGS, exporting=False))
    assert chosen(GRAPHS, CONFIGS) >= set(GRAPHS)
    assert not any(name.endswith(".onnx") for name in chosen(GRAPHS, FULL, CONFIGS))


def test_weights_beside_graphs_come_along() -> None:
    assert "unet/model.onnx_data" in chosen(GRAPHS, CONFIGS, {"unet/model.onnx_data": 9})


def test_a_bundle_comes_whole_but_for_pickles_and_hidden_files() -> None:
    choice = choose_files("me/model", listing({"bundle.json": 1, "unet/model.onnx": 5}, UNREAD), "fp16")
    assert choice.kind is Kind.BUNDLE
    assert {"bundle.json", "unet/model.onnx"} <= {file.path for file in choice.files}
    assert not any(file.path.endswith((".bin", ".ckpt")) or file.path.startswith(".") for file in choice.files)


def test_sizes_add_up() -> None:
    assert choose_files("me/model", listing(FULL, CONFIGS), "fp32").bytes == 12 + 7


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            {"unet/diffusion_pytorch_model.bin": 1, "model_index.json": 1},
            r"unet/diffusion_pytorch_model\.bin is a pickle.*safetensors first",
        ),
        ({"v2.safetensors": 1, "README.md": 1}, r"not in diffusers' layout; download v2\.safetensors yourself"),
        ({"README.md": 1}, r"me/model holds no Stable Diffusion checkpoint: expected diffusers' layout"),
        ({}, "holds no Stable Diffusion checkpoint"),
    ],
)
def test_what_cannot_be_used_is_told(files: dict[str, int], words: str) -> None:
    with pytest.raises(ExportError, match=words):
        chosen(files)
