"""`--model` that names a checkpoint: from a folder of weights to a picture in one command."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Command, assert_refused

pytest.importorskip("torch", reason="needs the export extra")

from safetensors.torch import load_file, save_file

from sd2rt.export import ExportOptions
from tests.hub_server import Hub, serve
from tests.optimum_layout import write_optimum
from tests.tiny import shared_folder, tiny_bundle, tiny_checkpoint, tiny_pipeline
from tests.traced import traced_once

pytestmark = pytest.mark.torch
VARIANT = "upcast"  # which other tests have in float16 too
PAINT = ("--target", "cpu", "--steps", "1", "--seed", "0", "--force", "--out", "red.png")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SD2RT_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Export nothing: put a bundle that is there already in place, and remember of what. Real exports take seconds."""
    sources: list[Path] = []

    def put(source: Path, out: Path, options: ExportOptions, notify: object) -> Path:
        sources.append(source)
        shutil.copytree(tiny_bundle(VARIANT, options.dtype), out)
        return out

    monkeypatch.setattr("sd2rt.export.export", put)
    return sources


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub whose mirror of SD 2.1 is a tiny model, in both precisions."""
    folder = tiny_checkpoint(VARIANT)
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for name in [name for name in files if name.endswith(".safetensors")]:
        half = tmp_path / "half.safetensors"
        save_file({key: tensor.half() for key, tensor in load_file(folder / name).items()}, half)
        files[name.replace(".safetensors", ".fp16.safetensors")] = half.read_bytes()
    with serve({"stabilityai/stable-diffusion-2-1": files}) as served:
        monkeypatch.setenv("HF_TOKEN", "")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", served.url)
        template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield served


def test_a_folder_of_weights_becomes_a_picture_and_is_exported_once(quick: list[Path], sd2rt: Command, root: Path) -> None:
    shutil.copytree(tiny_checkpoint(VARIANT), "my checkpoint")
    painted = sd2rt("generate", "a red cube", "--model", "my checkpoint", *PAINT)
    assert (painted.code, painted.out) == (0, "red.png\n"), painted.err
    assert "exporting " in painted.err
    [model] = json.loads(sd2rt("models", "list", "--json").out)["models"]
    assert model["name"].startswith("my-checkpoint-")

    Path("my checkpoint").rename("moved")
    for name in ("moved", model["name"]):
        assert sd2rt("generate", "a red cube", "--model", name, *PAINT).code == 0
    assert len(quick) == 1

    weights = Path("moved") / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({key: tensor * 0.9 for key, tensor in load_file(weights).items()}, weights)
    assert sd2rt("generate", "a red cube", "--model", "moved", *PAINT).code == 0
    assert len(quick) == 2
    assert len(list(root.glob("m*"))) == 2


@pytest.mark.parametrize("name", ["v2.safetensors", "v2.SAFETENSORS"])
def test_a_single_file_too(name: str, quick: list[Path], sd2rt: Command, tmp_path: Path) -> None:
    Path(name).write_bytes(b"weights")
    assert sd2rt("generate", "a red cube", "--model", name, *PAINT).code == 0
    assert quick == [tmp_path / name]


@pytest.mark.parametrize(
    "wrong",
    [
        ("--size", "64"),
        ("--batch", "none"),
        ("--chunks", "0"),
        ("--target", "abacus"),
        ("--target", "cpu", "--compute-capability", "sm89"),
        ("--compute-capability", "portable,sm89"),
    ],
    ids=" ".join,
)
def test_nothing_is_made_for_a_build_with_wrong_options(wrong: tuple[str, ...], quick: list[Path], sd2rt: Command) -> None:
    Path("v2.safetensors").write_bytes(b"weights")
    assert_refused(sd2rt("build", "v2.safetensors", *wrong), 2, ": got ")
    assert quick == []


def test_an_alias_is_downloaded_exported_and_painted_with(hub: Hub, sd2rt: Command, root: Path) -> None:
    """Half precision is enough, the first mirror has it not, and the next command needs no network."""
    with traced_once(shared_folder()):
        painted = sd2rt("generate", "a red cube", "--model", "sd21", *PAINT)
    assert (painted.code, painted.out) == (0, "red.png\n"), painted.err
    notes = painted.err.splitlines()
    assert notes[0] == f"sd21 is not in {root} yet: it is downloaded and exported, once; --offline forbids it"
    assert "downloading 3 files of stabilityai/stable-diffusion-2-1, " in notes[1]
    assert {name for name in hub.fetched() if name.endswith(".safetensors")} == {
        f"{name}.fp16.safetensors" for name in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model")
    }
    hub.down = True
    again = sd2rt("generate", "a red cube", "--model", "sd21", *PAINT)
    assert (again.code, "downloading" in again.err) == (0, False)
    shown = json.loads(sd2rt("models", "show", "sd21", "--json").out)
    assert (shown["name"], shown["precision"], shown["targets"]) == ("sd21", "fp16", ["cpu"])
    assert "stable-diffusion-2-1" in shown["source"]


def test_optimums_folder_needs_no_torch(sd2rt: Command, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_optimum(tiny_pipeline("epsilon"), Path("onnx"))
    monkeypatch.setattr("sd2rt.cli.add_model.TORCH", ("no_such_module",))
    painted = sd2rt("generate", "a red cube", "--model", "onnx", *PAINT)
    assert (painted.code, painted.out) == (0, "red.png\n"), painted.err
    assert [path.name.split("-")[0] for path in root.glob("o*")] == ["onnx"]


def test_a_single_file_that_does_not_tell_says_so_and_leaves_nothing(sd2rt: Command, root: Path) -> None:
    Path("model.ckpt").write_bytes(b"\x80\x04")
    found = sd2rt("generate", "x", "--model", "model.ckpt", "-q")
    assert (found.code, found.out, found.err.count("\n")) == (1, "", 1)
    assert "model.ckpt is a pickle: pickles can run any code" in found.err
    assert not list(root.glob("m*"))


def test_build_makes_what_it_needs_too(quick: list[Path], sd2rt: Command) -> None:
    built = sd2rt("build", str(tiny_checkpoint(VARIANT)), "--target", "cpu")
    assert (built.code, len(built.out.splitlines())) == (0, 4), built.err
