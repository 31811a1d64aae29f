"""Reading bundle.json: what a good one says, and one clear error for every way of being wrong."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sd2rt.engine.errors import BundleError
from sd2rt.engine.spec import TensorSpec
from sd2rt.runtime.bundle import read_bundle
from tests.runtime.bundles import SCHEDULER, write_bundle


def test_reads_every_field(tmp_path: Path) -> None:
    bundle = read_bundle(write_bundle(tmp_path / "small"))
    assert (bundle.name, bundle.task, bundle.prediction_type) == ("small", "text-to-image", "epsilon")
    assert (bundle.native_size, bundle.latent_channels, bundle.latent_factor, bundle.scaling_factor) == ((64, 48), 4, 8, 0.18215)
    assert (bundle.defaults.steps, bundle.defaults.guidance_scale, bundle.defaults.sampler) == (3, 7.5, "ddim")
    assert bundle.scheduler == SCHEDULER
    assert len(bundle.sha256) == 64
    unet = bundle.component("unet")
    assert unet.files.onnx == tmp_path / "small" / "unet" / "model.onnx"
    assert unet.files.data == (tmp_path / "small" / "unet" / "model.onnx.data",)
    assert set(unet.files.sha256) == {"model.onnx", "model.onnx.data"}
    assert unet.inputs[0] == TensorSpec(name="sample", dtype="float16", shape=("batch", 4, "height", "width"))
    assert unet.dtype == "float16"


def test_small_files_are_read_whole(tmp_path: Path) -> None:
    bundle = read_bundle(write_bundle(tmp_path / "small"))
    assert bundle.read_file("tokenizer/tokenizer.json") == b'{"version": "1.0"}'


def _with(**changes: Any) -> Any:
    return lambda document: document.update(changes)


def _in(*path: str, **changes: Any) -> Any:
    def edit(document: dict[str, Any]) -> None:
        for key in path:
            document = document[key]
        document.update(changes)

    return edit


SHA = "0" * 64


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_with(schema_version=2), "schema version 2, this sd2rt reads 1"),
        (_with(schema_version="1"), 'schema_version: got "1", expected an integer'),
        (_with(name=""), 'name: got "", expected a non-empty string'),
        (_with(task="sorting"), 'task: got "sorting", expected one of text-to-image'),
        (_with(prediction_type=None), "prediction_type: got null"),
        (_with(native_size=[64]), "native_size: got \\[64\\]"),
        (_with(native_size=[64, 50]), "multiples of 8"),
        (_with(native_size="64x64"), 'native_size: got "64x64", expected a list'),
        (_with(latent_channels=True), "latent_channels: got true"),
        (_with(latent_factor=0), "latent_factor: got 0, expected an integer of at least 1"),
        (_with(size_multiple=0), "size_multiple: got 0, expected an integer of at least 1"),
        (_with(size_multiple=12), "size_multiple: got 12, expected a multiple of latent_factor, 8"),
        (_with(scaling_factor=0), "scaling_factor: got 0, expected a finite number above 0"),
        (_with(scaling_factor=10**400), "scaling_factor: got 1000.*, expected a finite number above 0"),
        (_with(scaling_factor=float("nan")), "scaling_factor: got NaN"),
        (_with(scheduler=[]), "scheduler: got \\[\\], expected an object"),
        (_in("defaults", steps=0), "steps: got 0"),
        (_in("defaults", guidance_scale="high"), 'guidance_scale: got "high", expected a finite number'),
        (_in("defaults", sampler=3), "sampler: got 3"),
        (lambda document: document.pop("components"), "components: got nothing"),
        (_in("components", "unet", dtype="int4"), 'components: unet: dtype: got "int4"'),
        (_in("components", "unet", inputs={}), "inputs: got {}, expected a list"),
        (_in("components", "unet", inputs=["sample"]), "inputs: got .*, expected a list of objects"),
        (_in("components", "unet", outputs=[{"name": "a", "dtype": "float32", "shape": [1.5]}]), "shape: got \\[1.5\\]"),
        (_in("components", "unet", files={}), "expected exactly one .onnx file"),
        (_in("components", "unet", "files", "model.onnx", sha256="abc"), "sha256: got 'abc', expected 64"),
        (_in("components", "unet", "files", "model.onnx", bytes=5), "has 15 bytes, bundle.json says 5"),
        (_in("components", "unet", "files", **{"absent.data": {"sha256": SHA, "bytes": 1}}), "absent.data is missing"),
        (_in("components", "unet", "files", **{"../../x.data": {"sha256": SHA, "bytes": 1}}), "expected a plain file name"),
        (_in("components", "unet", folder=""), 'folder: got "", expected a non-empty string'),
        (_in("components", "unet", folder=3), "folder: got 3, expected a non-empty string"),
        (_in("components", "unet", folder="../small/unet"), "'../small/unet/model.onnx' is no path inside the bundle"),
        (_in("components", "unet", folder="/tmp"), "'/tmp/model.onnx' is no path inside the bundle"),
        (_in("components", "unet", folder="a\\b"), "no path inside the bundle"),
        (_in("components", "unet", folder="elsewhere"), "elsewhere/model.onnx is missing"),
        (_in("files", "tokenizer/tokenizer.json", folder=".."), "'../tokenizer.json' is no path inside the bundle"),
        (_in("files", "tokenizer/tokenizer.json", folder="vocabulary"), "vocabulary/tokenizer.json is missing"),
        (_in("defaults", strength=0), "strength: got 0, expected a finite number above 0"),
        (_in("defaults", strength=1.5), "strength: got 1.5, expected a number above 0 and at most 1"),
        (_in("defaults", noise_level=-1), "noise_level: got -1, expected an integer of at least 0"),
        (_in("components", "unet", "files", **{"w/model.onnx.data": {"sha256": SHA, "bytes": 1}}), "expected a plain file name"),
        (_in("files", **{"/etc/passwd": {"sha256": SHA, "bytes": 1}}), "no path inside the bundle"),
        (_in("files", **{"a\\b": {"sha256": SHA, "bytes": 1}}), "no path inside the bundle"),
        (_in("files", **{"a\0b": {"sha256": SHA, "bytes": 1}}), "is missing or unreadable"),
        (_in("files", **{"a\ud800": {"sha256": SHA, "bytes": 1}}), "is missing or unreadable"),
        (_in("files", **{"": {"sha256": SHA, "bytes": 1}}), "no path inside the bundle"),
    ],
)
def test_wrong_fields_are_named(tmp_path: Path, edit: Any, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        read_bundle(write_bundle(tmp_path / "small", edit))


def test_sizes_are_multiples_of_the_latents_cells_unless_said_otherwise(tmp_path: Path) -> None:
    assert read_bundle(write_bundle(tmp_path / "usual")).size_multiple == 8
    assert read_bundle(write_bundle(tmp_path / "traced", _with(size_multiple=16))).size_multiple == 16


VALUES: list[Any] = [None, True, -1, 0, 1e308, 10**400, "", "..", "/", "\ud800", "a\0", [], [[]], {}, {"": {}}, {"..": 1}, float("nan")]


def test_no_change_of_a_field_gives_another_error(tmp_path: Path) -> None:
    """Every value of the document, replaced by every odd value: read, or refused as a BundleError."""
    folder = write_bundle(tmp_path / "small")
    text = (folder / "bundle.json").read_text()
    refused = 0
    for place in _places(json.loads(text)):
        for value in VALUES:
            document = json.loads(text)
            _put(document, place, value)
            (folder / "bundle.json").write_text(json.dumps(document))
            try:
                read_bundle(folder)
            except BundleError:
                refused += 1
    assert refused > 500


def _places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to every value of a JSON document."""
    if path:
        yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from _places(value, (*path, key))


def _put(node: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_damaged_json_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = write_bundle(tmp_path / "small")
    (folder / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError, match="is damaged"):
        read_bundle(folder)


def test_a_huge_manifest_is_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "small")
    (folder / "bundle.json").write_bytes(b" " * ((4 << 20) + 1))
    with pytest.raises(BundleError, match="larger than 4 MiB"):
        read_bundle(folder)


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"cannot be read .*expected a bundle folder"):
        read_bundle(tmp_path)


def test_links_out_of_the_bundle_are_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "small")
    weights = folder / "unet" / "model.onnx.data"
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="link that leads out of the bundle"):
        read_bundle(folder)


def test_a_link_to_the_bundle_itself_is_fine(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(write_bundle(tmp_path / "small"))
    assert read_bundle(tmp_path / "link").name == "small"


def test_a_component_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="has no vae_encoder, only text_encoder, unet, vae_decoder"):
        read_bundle(write_bundle(tmp_path / "small")).component("vae_encoder")


def test_small_files_are_checked_when_read(tmp_path: Path) -> None:
    bundle = read_bundle(write_bundle(tmp_path / "small"))
    path = bundle.folder / "tokenizer" / "tokenizer.json"
    path.write_text('{"version": "2.0"}')
    with pytest.raises(BundleError, match="is damaged: its SHA-256"):
        bundle.read_file("tokenizer/tokenizer.json")
    path.unlink()
    with pytest.raises(BundleError, match="cannot be read: No such file"):
        bundle.read_file("tokenizer/tokenizer.json")
    with pytest.raises(BundleError, match="names no merges"):
        bundle.read_file("merges.txt")


def test_one_folder_holds_several_models(tmp_path: Path) -> None:
    """A second manifest shares what it can; the rest lies in a folder of its own."""
    folder = write_bundle(tmp_path / "small")
    document = json.loads((folder / "bundle.json").read_text())
    (folder / "other").mkdir()
    for name in ("unet", "tokenizer"):
        (folder / name).rename(folder / "other" / name)
    document["name"], document["components"]["unet"]["folder"] = "other", "other/unet"
    for name, file in document["files"].items():
        file["folder"] = str(Path("other", name).parent)
    document["defaults"] |= {"strength": 0.5, "noise_level": 20}
    (folder / "other.json").write_text(json.dumps(document))
    bundle = read_bundle(folder / "other.json")
    assert (bundle.name, bundle.folder, bundle.manifest.name) == ("other", folder, "other.json")
    assert bundle.sha256 == hashlib.sha256((folder / "other.json").read_bytes()).hexdigest()
    assert bundle.component("unet").files.onnx == folder / "other" / "unet" / "model.onnx"
    assert bundle.component("unet").files.name == "unet"
    assert bundle.component("text_encoder").files.onnx == folder / "text_encoder" / "model.onnx"
    assert bundle.read_file("tokenizer/tokenizer.json") == b'{"version": "1.0"}'
    assert (bundle.defaults.strength, bundle.defaults.noise_level) == (0.5, 20)
    with pytest.raises(BundleError, match=r"unet/model\.onnx is missing"):
        read_bundle(folder)


def test_a_folder_may_be_named_like_a_manifest(tmp_path: Path) -> None:
    assert read_bundle(write_bundle(tmp_path / "small.json")).name == "small"


def test_errors_name_the_manifest_that_was_read(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "small", _in("components", "unet", "files", "model.onnx", bytes=5))
    (folder / "bundle.json").rename(folder / "other.json")
    with pytest.raises(BundleError, match=r"has 15 bytes, other\.json says 5"):
        read_bundle(folder / "other.json")
