import contextlib
import errno
import json
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from sd2rt.engine import cache as engine_cache
from sd2rt.engine import cache_lock, heartbeat, store, times
from sd2rt.engine.cache import CacheEntry, Recipe, drop_engine, list_engines, obtain, prune_engines, verify_engines
from sd2rt.engine.errors import BuildError, EngineCacheError, InvalidArgument
from sd2rt.engine.manifest import Field
from sd2rt.engine.store import cache_root

RECIPE = Recipe(component="unet", target="cpu", fields={"files": {"model.onnx": "0" * 64}, "size": None})
CONTENT = b"engine" * 100
REPOSITORY = Path(__file__).parents[2]


def write_engine(folder: Path) -> None:
    (folder / "engine.onnx").write_bytes(CONTENT)
    (folder / "engine.bin").write_bytes(CONTENT * 2)


def refuse(folder: Path) -> None:
    raise AssertionError("built although the cache has the engine")


def recipe(number: int) -> Recipe:
    return Recipe(component="unet", target="cpu", fields={"number": number})


def add(number: int, age_s: float = 0, copies: int = 1) -> CacheEntry:
    """Add an engine of 600 bytes, or several times that, last used so long ago."""
    entry = obtain(recipe(number), lambda folder: (folder / "engine.onnx").write_bytes(CONTENT * copies) and {}, print)
    used = time.time() - age_s
    os.utime(entry.folder / "manifest.json", (used, used))
    return entry


def everything_in(root: Path) -> set[str]:
    """Return all paths below the cache's root but for the locks and build times, which stay."""
    found = root.rglob("*") if root.exists() else ()
    return {str(path.relative_to(root)) for path in found if not {".locks", ".times"} & set(path.parts)}


def test_engine_is_built_once_and_said_so(cache: Path) -> None:
    said: list[str] = []
    first = obtain(RECIPE, write_engine, said.append)
    assert len(said) == 2
    assert said[0] == f"building the cpu engine of unet (once; it is kept in {cache})"
    assert re.fullmatch(r"built the cpu engine of unet in \d+\.\d s", said[1])
    again = obtain(RECIPE, refuse, said.append)
    assert (again.folder, again.manifest, len(said)) == (first.folder, first.manifest, 2)
    assert (first.folder / "engine.onnx").read_bytes() == CONTENT


def test_manifest_tells_what_was_built(cache: Path) -> None:
    entry = obtain(RECIPE, write_engine, print)
    content = json.loads((entry.folder / "manifest.json").read_text())
    assert content["fields"] == RECIPE.fields
    assert content["key"] == entry.folder.name == RECIPE.key
    assert {name: record["bytes"] for name, record in content["files"].items()} == {"engine.onnx": 600, "engine.bin": 1200}
    assert entry.bytes == 1800


def test_cache_is_for_its_owner_alone(cache: Path) -> None:
    folder = obtain(RECIPE, write_engine, print).folder
    assert {stat.S_IMODE(path.stat().st_mode) for path in (cache, folder)} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped bit": (lambda folder: flip_bit(folder / "engine.bin"), "engine.bin has SHA-256"),
    "truncated": (lambda folder: truncate(folder / "engine.bin"), "engine.bin has 1199 bytes, expected 1200"),
    "file gone": (lambda folder: (folder / "engine.onnx").unlink(), "engine.onnx cannot be read"),
    "file added": (lambda folder: (folder / "evil.so").write_bytes(b"x"), "evil.so does not belong there"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "manifest.json cannot be read"),
    "manifest cut off": (lambda folder: truncate_to(folder / "manifest.json", 50), "manifest.json cannot be read"),
    "manifest of another": (lambda folder: edit_manifest(folder, "unet", "vae"), ""),
    "fields changed": (lambda folder: edit_manifest(folder, '"size": null', '"size": [8, 8]'), "manifest.json belongs to another engine"),
}


def truncate_to(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


def edit_manifest(folder: Path, old: str, new: str) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(("damage", "problem"), [pytest.param(*DAMAGES[name], id=name) for name in DAMAGES if DAMAGES[name][1]])
def test_damaged_engine_is_reported_removed_and_rebuilt(damage: Callable[[Path], object], problem: str) -> None:
    folder = obtain(RECIPE, write_engine, print).folder
    damage(folder)
    assert [verdict.problems[0].startswith(problem) for verdict in verify_engines()] == [True]
    said: list[str] = []
    entry = obtain(RECIPE, write_engine, said.append)
    assert said[0].startswith(f"the cached unet engine is damaged ({problem}")
    assert (entry.folder / "engine.bin").read_bytes() == CONTENT * 2
    assert [verdict.problems for verdict in verify_engines()] == [()]


def test_failed_build_leaves_nothing(cache: Path) -> None:
    def fail(folder: Path) -> None:
        write_engine(folder)
        raise BuildError("no")

    with pytest.raises(BuildError, match="no"):
        obtain(RECIPE, fail, print)
    assert everything_in(cache) == set()
    obtain(RECIPE, write_engine, print)  # the lock is free again


def test_interrupt_during_a_build_leaves_nothing(cache: Path) -> None:
    def interrupt(folder: Path) -> None:
        write_engine(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        obtain(RECIPE, interrupt, print)
    assert everything_in(cache) == set()


BUILDER = """
import sys
from sd2rt.engine.cache import Recipe, obtain
def build(folder):
    (folder / "engine.onnx").write_bytes(b"x" * 1000)
    print("building", flush=True)
    sys.stdin.readline()
    return {}
obtain(Recipe(component="unet", target="cpu", fields={"number": 7}), build, lambda text: print(text, flush=True))
"""


WAITING = "another process is building this engine: waiting for it\n"


def builder() -> subprocess.Popen[str]:
    """A process that builds until it is sent a line, where nobody else does."""
    return subprocess.Popen([sys.executable, "-c", BUILDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)


def what_it_does(process: subprocess.Popen[str]) -> str:
    """Read what a process says until it builds, or waits for another that does."""
    assert process.stdout is not None
    return next(line for line in process.stdout if line in ("building\n", WAITING))


def test_concurrent_builders_build_once_and_the_others_say_that_they_wait() -> None:
    processes = [builder() for _ in range(4)]
    said = {process: what_it_does(process) for process in processes}
    *waiting, building = sorted(processes, key=lambda process: said[process])
    assert [said[process] for process in (*waiting, building)] == [WAITING, WAITING, WAITING, "building\n"]
    outputs = [process.communicate("\n", timeout=60)[0] for process in (building, *waiting)]
    assert "building\n" not in "".join(outputs)
    assert [verdict.problems for verdict in verify_engines()] == [()]


def test_who_waits_for_a_builder_says_so_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.05)
    (cache / ".locks").mkdir(mode=0o700, parents=True)
    cache.chmod(0o700)
    said: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        with FileLock(cache / ".locks" / f"{RECIPE.key}.lock"):
            waiting = pool.submit(obtain, RECIPE, write_engine, said.append)
            deadline = time.monotonic() + 20
            while len(said) < 3 and time.monotonic() < deadline:
                time.sleep(0.01)
            first, *again = list(said)
        waiting.result(timeout=60)
    assert first + "\n" == WAITING
    assert len(again) >= 2
    assert {re.sub(r"\d+ s", "0 s", line) for line in again} == {"still waiting for another process to build this engine: 0 s so far"}


def test_killed_builder_frees_the_lock_and_what_it_left_is_invisible_then_swept(cache: Path) -> None:
    process = builder()
    assert what_it_does(process) == "building\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert any(path.name.startswith(".tmp-") for path in cache.iterdir())
    assert list_engines() == verify_engines() == ()
    entry = obtain(recipe(7), write_engine, print)
    assert {path.name for path in cache.iterdir()} == {".locks", ".times", entry.folder.name}


def test_prune_sweeps_what_a_killed_builder_left_but_not_a_build_under_way(cache: Path) -> None:
    (cache / f".tmp-{'a' * 64}-x").mkdir(parents=True, mode=0o700)
    cache.chmod(0o700)
    process = builder()
    assert what_it_does(process) == "building\n"
    prune_engines()
    left = [path.name for path in cache.iterdir() if path.name.startswith(".tmp-")]
    process.kill()
    process.wait()
    assert [name.startswith(f".tmp-{recipe(7).key}-") for name in left] == [True]


def test_engine_being_built_again_is_not_pruned() -> None:
    entry = add(7)
    flip_bit(entry.folder / "engine.onnx")
    process = builder()
    assert what_it_does(process) == "building\n"
    entry.folder.mkdir()  # as if it had just been published
    removed = prune_engines(everything=True)
    process.kill()
    process.wait()
    assert removed == ()


@pytest.mark.parametrize("spoil", ["not a folder", "a file"])
def test_cache_that_cannot_be_written_is_one_clear_error(spoil: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SD2RT_CACHE", str(tmp_path / "file" / "cache") if spoil == "not a folder" else str(tmp_path / "file"))
    with pytest.raises(
        EngineCacheError, match=r"cannot write to the engine cache .+: Not a directory; free space there, or set SD2RT_CACHE"
    ):
        obtain(RECIPE, write_engine, print)


def test_read_only_cache_gives_engines_but_takes_none(cache: Path) -> None:
    obtain(RECIPE, write_engine, print)
    cache.chmod(0o500)
    if os.access(cache, os.W_OK):
        pytest.skip("this user may write everywhere")
    assert obtain(RECIPE, refuse, print).manifest.component == "unet"
    with pytest.raises(EngineCacheError, match="Permission denied"):
        obtain(recipe(1), write_engine, print)
    cache.chmod(0o700)


def test_cache_that_cannot_be_entered_is_one_clear_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    obtain(RECIPE, write_engine, print)

    def deny(path: Path, **options: object) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "exists", deny)  # as a folder of another user does; root may enter those
    with pytest.raises(EngineCacheError, match=rf"engine cache {cache}: Permission denied; set SD2RT_CACHE to a folder you can read"):
        obtain(RECIPE, refuse, print)


def test_lock_that_cannot_be_waited_for_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(lock: FileLock, timeout: float | None = None) -> None:
        if timeout == 0:
            raise Timeout(lock.lock_file)
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(FileLock, "acquire", deny)
    with pytest.raises(EngineCacheError, match=r"cannot write to the engine cache .+: Permission denied; .+ set SD2RT_CACHE"):
        obtain(RECIPE, write_engine, print)


def test_full_disk_is_one_clear_error_and_leaves_nothing(cache: Path) -> None:
    """A limit on file size stands for the full disk: writing fails in the middle of the engine all the same."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(EngineCacheError, match=r"cannot write to the engine cache .+: File too large; free space there"):
            obtain(RECIPE, write_engine, print)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert everything_in(cache) == set()


def test_cache_that_others_may_write_is_refused(cache: Path) -> None:
    obtain(RECIPE, write_engine, print)
    cache.chmod(0o777)
    for use in (list_engines, verify_engines, lambda: obtain(recipe(1), write_engine, print), lambda: obtain(RECIPE, refuse, print)):
        with pytest.raises(EngineCacheError, match="other users can write there; chmod 700 it"):
            use()


def test_unreadable_cache_is_one_clear_error(cache: Path) -> None:
    cache.parent.mkdir()
    cache.touch(mode=0o600)
    with pytest.raises(EngineCacheError, match=r"engine cache .+: Not a directory; set SD2RT_CACHE"):
        list_engines()


def test_engines_are_listed_with_the_most_recently_used_first() -> None:
    entries = [add(1, age_s=300), add(2, age_s=100), add(3, age_s=200)]
    assert [entry.folder for entry in list_engines()] == [entries[index].folder for index in (1, 2, 0)]
    obtain(recipe(1), refuse, print)
    assert list_engines()[0].folder == entries[0].folder


def test_empty_cache_lists_verifies_and_prunes_nothing(cache: Path) -> None:
    assert list_engines() == verify_engines() == prune_engines() == ()
    assert not cache.exists()


@pytest.mark.parametrize(
    ("limits", "removed"),
    [
        ({}, set()),
        ({"unused_for": timedelta(seconds=150)}, {1, 3}),
        ({"unused_for": timedelta(0)}, {1, 2, 3}),
        ({"max_bytes": 3000}, set()),
        ({"max_bytes": 1900}, {1}),
        ({"max_bytes": 1799}, {1, 3}),
        ({"max_bytes": 0}, {1, 2, 3}),
        ({"max_bytes": 1900, "unused_for": timedelta(seconds=150)}, {1, 3}),
        ({"everything": True}, {1, 2, 3}),
    ],
)
def test_prune_removes_the_least_recently_used(limits: dict[str, object], removed: set[int], cache: Path) -> None:
    entries = {1: add(1, age_s=300), 2: add(2, age_s=100), 3: add(3, age_s=200, copies=2)}
    assert set(prune_engines(**limits)) == {entries[number].folder for number in removed}  # type: ignore[arg-type]
    assert {entry.folder for entry in list_engines()} == {entries[number].folder for number in entries.keys() - removed}
    assert not [path for path in cache.iterdir() if path.name.startswith(".tmp")]


@pytest.mark.parametrize("damage", [DAMAGES[name][0] for name in ("flipped bit", "no manifest")])
def test_prune_removes_damaged_engines(damage: Callable[[Path], object]) -> None:
    sound, damaged = add(1), obtain(RECIPE, write_engine, print)
    damage(damaged.folder)
    assert prune_engines() == (damaged.folder,)
    assert [entry.folder for entry in list_engines()] == [sound.folder]


def before_the_lock(action: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have another process do something between a prune's decision and its lock."""
    lock = cache_lock.locked_if_free

    @contextlib.contextmanager
    def act_first(root: Path, key: str) -> Iterator[tuple[FileLock, bool]]:
        action()
        with lock(root, key) as held:
            yield held

    monkeypatch.setattr(engine_cache, "locked_if_free", act_first)


def test_engine_that_another_process_has_pruned_is_not_claimed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = add(1).folder
    before_the_lock(lambda: shutil.rmtree(folder), monkeypatch)
    assert prune_engines(everything=True) == ()
    assert everything_in(cache) == set()


@pytest.mark.parametrize("damage", [DAMAGES[name][0] for name in ("flipped bit", "no manifest")])
def test_engine_that_another_process_has_mended_stays(damage: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = obtain(RECIPE, write_engine, print).folder
    damage(folder)
    before_the_lock(lambda: obtain(RECIPE, write_engine, print), monkeypatch)
    assert prune_engines() == ()
    assert [verdict.problems for verdict in verify_engines()] == [()]


def test_engine_that_cannot_be_removed_leaves_no_temporary_folder(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = add(1).folder
    before = everything_in(cache)

    def deny(path: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "rename", deny)
    with pytest.raises(EngineCacheError, match=r"cannot write to the engine cache .+: Permission denied"):
        store.remove(folder)
    assert everything_in(cache) == before


def test_negative_size_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="max_bytes: got -1; expected 0 or more"):
        prune_engines(max_bytes=-1)


def test_cache_is_in_the_users_cache_folder_unless_the_variable_says_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_root() == tmp_path / "cache" / "engines"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SD2RT_CACHE", "~/own")
    assert cache_root() == tmp_path / "own" / "engines"
    monkeypatch.delenv("SD2RT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "sd2rt" / "engines"


def test_slow_build_says_that_it_is_still_at_work_and_how_long_it_took_the_last_time(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.1)

    said: list[str] = []

    def build_slowly(folder: Path) -> Mapping[str, Field]:
        deadline = time.monotonic() + 60
        while len(said) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        write_engine(folder)
        return {}

    obtain(RECIPE, build_slowly, said.append)
    first, said = said, []
    assert {re.sub(r"\d+ s so far", "0 s so far", line) for line in first[1:-1]} == {"still building the cpu engine of unet: 0 s so far"}
    assert len(prune_engines(everything=True)) == 1
    obtain(RECIPE, build_slowly, said.append)
    again = said
    assert re.fullmatch(r"building the cpu engine of unet \(once; it is kept in .+; it took \d+\.\d s the last time\)", again[0])
    assert re.fullmatch(r"still building the cpu engine of unet: \d+ s so far; it took \d+\.\d s the last time", again[1])


@pytest.mark.parametrize("content", ["", "soon", "-1", "nan", "inf", "1\n2", "\xff"])
def test_damaged_time_of_the_last_build_counts_as_none(content: str, cache: Path) -> None:
    obtain(RECIPE, write_engine, print)
    prune_engines(everything=True)
    (cache / ".times" / RECIPE.key).write_bytes(content.encode("latin-1"))
    said: list[str] = []
    obtain(RECIPE, write_engine, said.append)
    assert said[0] == f"building the cpu engine of unet (once; it is kept in {cache})"
    assert times.last_seconds(cache, RECIPE.key) is not None


def test_times_that_cannot_be_kept_do_not_spoil_a_build(cache: Path) -> None:
    cache.mkdir(parents=True, mode=0o700)
    (cache / ".times").touch()
    assert obtain(RECIPE, write_engine, print).bytes == 1800


def shaped(low: int, high: int, **more: Field) -> Recipe:
    axes = {"height": [low, low, high]}
    return Recipe(component="unet", target="tensorrt", fields={"axes": axes, "compute_capabilities": ["sm89"], "gpu": None, **more})


def test_engine_of_a_wider_range_stands_in_for_one_of_its_sizes() -> None:
    wide = obtain(shaped(8, 64), write_engine, print)
    entry = obtain(shaped(16, 32), refuse, print)
    assert entry.folder == wide.folder
    assert obtain(shaped(16, 128), write_engine, print).folder != wide.folder


def test_engine_of_the_very_key_is_preferred_to_one_that_covers_it() -> None:
    exact = obtain(shaped(16, 32), write_engine, print)
    obtain(shaped(8, 64), write_engine, print)
    assert obtain(shaped(16, 32), refuse, print).folder == exact.folder


def test_of_those_that_cover_it_the_most_recently_used_is_taken() -> None:
    older, newer = obtain(shaped(8, 64), write_engine, print), obtain(shaped(4, 48), write_engine, print)
    os.utime(older.folder / "manifest.json", (0, 0))
    assert obtain(shaped(16, 32), refuse, print).folder == newer.folder
    os.utime(newer.folder / "manifest.json", (0, 0))
    os.utime(older.folder / "manifest.json")
    assert obtain(shaped(16, 32), refuse, print).folder == older.folder


def test_damaged_engine_stands_in_for_nothing() -> None:
    wide = obtain(shaped(8, 64), write_engine, print)
    flip_bit(wide.folder / "engine.bin")
    assert obtain(shaped(16, 32), write_engine, print).folder != wide.folder


def test_engine_that_is_not_loaded_is_read_only_where_it_was_written_to() -> None:
    entry = obtain(RECIPE, write_engine, print)
    weights = entry.folder / "engine.bin"
    unchanged = weights.stat().st_mtime_ns
    flip_bit(weights)
    os.utime(weights, ns=(unchanged, unchanged))  # as a disk that forgets does
    assert obtain(RECIPE, refuse, print, hashed=False).folder == entry.folder
    assert verify_engines()[0].problems[0].startswith("engine.bin has SHA-256")
    os.utime(weights)
    said: list[str] = []
    obtain(RECIPE, write_engine, said.append, hashed=False)
    assert said[0].startswith("the cached unet engine is damaged (engine.bin has SHA-256")
    os.utime(weights)
    assert obtain(RECIPE, refuse, print, hashed=False).folder == entry.folder  # written to, but the same


@pytest.mark.parametrize(
    ("damage", "problem"), [pytest.param(*DAMAGES[name], id=name) for name in ("truncated", "file gone", "file added")]
)
def test_what_shows_without_reading_files_is_found_in_any_case(damage: Callable[[Path], object], problem: str) -> None:
    damage(obtain(RECIPE, write_engine, print).folder)
    said: list[str] = []
    obtain(RECIPE, write_engine, said.append, hashed=False)
    assert said[0].startswith(f"the cached unet engine is damaged ({problem}")


@pytest.mark.parametrize("created", ["", "soon", 7])
def test_engine_of_unknown_age_is_read_in_any_case(created: object) -> None:
    entry = obtain(RECIPE, write_engine, print)
    path = entry.folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "created": created}))
    assert obtain(RECIPE, refuse, print, hashed=False).folder == entry.folder
    flip_bit(entry.folder / "engine.bin")
    said: list[str] = []
    obtain(RECIPE, write_engine, said.append, hashed=False)
    assert said[0].startswith("the cached unet engine is damaged")


def test_prune_removes_kernels_of_engines_that_are_gone(cache: Path) -> None:
    kept, gone = add(0), add(1)
    (cache / "jit").mkdir()
    kernels = [cache / "jit" / f"{entry.manifest.key}-0123.bin" for entry in (kept, gone)]
    for file in (*kernels, kernels[0].with_name(".tmp-left")):
        file.write_bytes(b"kernels")
    assert drop_engine(gone.folder)
    assert not drop_engine(gone.folder)
    assert [entry.folder for entry in list_engines()] == [kept.folder]
    assert prune_engines() == ()
    assert list((cache / "jit").iterdir()) == [kernels[0]]
    prune_engines(everything=True)
    assert list((cache / "jit").iterdir()) == []
