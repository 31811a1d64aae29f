import contextlib
import errno
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import helper

from sd2rt.engine import BuildOptions, CacheEntry, ComponentFiles, build_engine, open_engine, ort
from sd2rt.engine.cache import list_engines, prune_engines, verify_engines
from sd2rt.engine.errors import BuildError, BundleError, EngineCacheError, EngineError, MissingDependency, TargetUnavailable
from tests.engine.graphs import block, component, sha256

CPU = BuildOptions(target="cpu")


@pytest.fixture
def files(tmp_path: Path) -> ComponentFiles:
    return component(tmp_path / "bundle" / "unet", block())


def operations(folder: Path) -> set[str]:
    return {node.op_type for node in onnx.load(folder / "engine.onnx", load_external_data=False).graph.node}


@pytest.mark.parametrize("target", ["cpu", "auto"])
def test_engine_is_built_once_for_opening_and_building(target: str, files: ComponentFiles) -> None:
    said: list[str] = []
    entry = build_engine(files, BuildOptions(target=target), said.append)
    assert [text.split(" engine")[0] for text in said] == ["building the cpu", "built the cpu"]
    open_engine(files, CPU, said.append).close()
    assert len(said) == 2
    assert [found.folder for found in list_engines()] == [entry.folder]
    assert verify_engines()[0].problems == ()


def test_built_graph_has_the_forms_that_are_fast(files: ComponentFiles) -> None:
    found = operations(build_engine(files, CPU).folder)
    assert {"InstanceNormalization", "QuickGelu"} <= found
    assert not {"GroupNormalization", "Sigmoid", "Constant"} & found


def test_engine_opens_without_the_bundles_files(files: ComponentFiles) -> None:
    build_engine(files, CPU)
    shutil.rmtree(files.onnx.parent)
    assert open_engine(files, CPU).inputs[0].name == "sample"


def test_any_number_of_threads_uses_the_same_engine(files: ComponentFiles) -> None:
    assert build_engine(files, replace(CPU, threads=1)).folder == build_engine(files, CPU).folder


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_bundle_whose_files_are_links_is_built(link: Callable[[Path, Path], None], files: ComponentFiles, tmp_path: Path) -> None:
    """uv, conda and `cp -al` make hard links, the Hugging Face cache symbolic ones."""
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in files.paths:
        link(path, linked / path.name)
    copy = replace(files, onnx=linked / files.onnx.name, data=tuple(linked / path.name for path in files.data))
    assert open_engine(copy, CPU).inputs[0].name == "sample"


def test_bundle_is_found_from_a_relative_path(files: ComponentFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files.onnx.parent)
    relative = replace(files, onnx=Path(files.onnx.name), data=tuple(Path(path.name) for path in files.data))
    assert build_engine(relative, CPU).manifest.component == "unet"


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data"])
def test_damaged_bundle_is_refused_by_name(name: str, files: ComponentFiles, cache: Path) -> None:
    path = files.onnx.with_name(name)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    expected = rf"{name}: got SHA-256 {sha256(path)[:12]}, bundle\.json says {files.sha256[name][:12]}.+export the bundle again"
    with pytest.raises(BundleError, match=expected):
        build_engine(files, CPU)
    assert list_engines() == ()


def test_missing_bundle_file_is_refused_by_name(files: ComponentFiles) -> None:
    files.data[0].unlink()
    with pytest.raises(BundleError, match=r"model\.onnx\.data: No such file or directory; export the bundle again"):
        open_engine(files, CPU)


def test_bundle_that_cannot_be_read_while_building_is_to_blame(files: ComponentFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the cache that the engine is written to."""

    def vanish(files: ComponentFiles, *_: object) -> None:
        files.data[0].unlink()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(ort, "build", vanish)
    with pytest.raises(BundleError, match=r"model\.onnx\.data: No such file or directory; export the bundle again"):
        build_engine(files, CPU)


def test_engine_pruned_just_before_it_is_loaded_is_built_again(files: ComponentFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    build_engine(files, CPU)

    def prune_first(entry: CacheEntry, options: BuildOptions) -> ort.OrtEngine:
        monkeypatch.undo()  # the test's cache included
        monkeypatch.setenv("SD2RT_CACHE", str(entry.folder.parents[1]))
        assert prune_engines(everything=True) == (entry.folder,)
        return ort.load(entry, options)

    monkeypatch.setattr(ort, "load", prune_first)
    said: list[str] = []
    assert open_engine(files, CPU, said.append).inputs[0].name == "sample"
    assert [text.split(" engine")[0] for text in said] == ["building the cpu", "built the cpu"]


def test_engine_that_is_there_but_cannot_be_loaded_is_not_tried_twice(files: ComponentFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[Path] = []

    def refuse(entry: CacheEntry, options: BuildOptions) -> None:
        tries.append(entry.folder)
        raise EngineError("no")

    monkeypatch.setattr(ort, "load", refuse)
    with pytest.raises(EngineError, match="no"):
        open_engine(files, CPU)
    assert len(tries) == 1


def test_graph_that_onnxruntime_refuses_is_a_build_error(tmp_path: Path, cache: Path) -> None:
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = helper.make_node("NoSuchOperator", ["x"], ["y"], domain="com.example")
    made = helper.make_graph([node], "g", [value], [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])])
    domains = [helper.make_opsetid("", 23), helper.make_opsetid("com.example", 1)]
    files = component(tmp_path, helper.make_model(made, opset_imports=domains, ir_version=10))
    with pytest.raises(BuildError, match=r"unet: onnxruntime \d+\.\d+\.\d+ cannot use the graph: .*NoSuchOperator"):
        build_engine(files, CPU)
    assert {path.name for path in cache.iterdir()} == {".locks"}


def test_graph_that_breaks_its_operators_rules_is_a_build_error(tmp_path: Path) -> None:
    """GroupNormalization without num_groups."""
    model = block()
    del model.graph.node[1].attribute[:]
    with pytest.raises(BuildError, match=r"unet: onnxruntime .+ cannot use the graph: .*num_groups"):
        build_engine(component(tmp_path, model), CPU)


def test_target_without_backend_is_unavailable(files: ComponentFiles) -> None:
    with pytest.raises(TargetUnavailable, match="target tensorrt"):
        open_engine(files, BuildOptions(target="tensorrt"))


@pytest.mark.parametrize("error", ["ImportError('libomp.so: cannot open\\nmore')", "OSError('libomp.so: cannot open')"])
def test_broken_onnxruntime_says_what_to_do(error: str, files: ComponentFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime.py").write_text(f"raise {error}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "onnxruntime")
    monkeypatch.delitem(sys.modules, "sd2rt.engine.ort")
    monkeypatch.delattr("sd2rt.engine.ort")
    expected = "target cpu: onnxruntime cannot be imported (libomp.so: cannot open); uninstall onnxruntime and onnxruntime-gpu, then pip"
    with pytest.raises(TargetUnavailable, match=re.escape(expected)):
        open_engine(files, CPU)


def test_missing_onnx_names_the_extra(files: ComponentFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sd2rt.engine.lowering", raising=False)
    monkeypatch.setitem(sys.modules, "onnx_ir", None)  # type: ignore[arg-type]  # as Python itself blocks an import
    with pytest.raises(MissingDependency, match=r"building an engine needs onnx_ir: pip install 'sd2rt\[cpu\]'"):
        build_engine(files, CPU)


@contextlib.contextmanager
def file_size_limited(limit_bytes: int) -> Iterator[None]:
    """A limit on file size stands for the full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_disk_full_while_lowering_is_one_clear_error_and_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    files = component(tmp_path, block(channels=32, groups=32))
    build_engine(component(tmp_path / "other", block()), CPU)  # so that everything is imported
    before = {path.name for path in cache.iterdir()}
    with (
        file_size_limited(2_000),
        pytest.raises(EngineCacheError, match=r"cannot write to the engine cache .+: File too large; free space"),
    ):
        build_engine(files, CPU)
    assert {path.name for path in cache.iterdir()} == before


@pytest.mark.parametrize(("channels", "limit_bytes"), [(32, 40_000), (4, 500), (4, 0)], ids=["its weights", "its graph", "anything"])
def test_disk_full_while_onnxruntime_writes_is_one_clear_error_and_leaves_nothing(
    channels: int, limit_bytes: int, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimize = ort._optimize

    def optimize_on_a_full_disk(lowered: Path, folder: Path) -> None:
        with file_size_limited(limit_bytes):
            optimize(lowered, folder)

    monkeypatch.setattr(ort, "_optimize", optimize_on_a_full_disk)
    expected = "cannot write to the engine cache .+: ONNX Runtime could not write the engine; free space there"
    with pytest.raises(EngineCacheError, match=expected):
        build_engine(component(tmp_path, block(channels=channels)), CPU)
    assert {path.name for path in cache.iterdir()} == {".locks"}


def test_opening_a_cached_engine_imports_nothing_that_only_building_needs(files: ComponentFiles) -> None:
    build_engine(files, CPU)
    script = (
        "import sys; from pathlib import Path; from sd2rt.engine import *;"
        f"open_engine(ComponentFiles(name='unet', onnx=Path({str(files.onnx)!r}), data=(Path({str(files.data[0])!r}),),"
        f" sha256={dict(files.sha256)!r}), BuildOptions(target='cpu'));"
        "print([m for m in ('onnx', 'onnx_ir', 'filelock', 'torch', 'importlib.metadata') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("[]\n", "")
