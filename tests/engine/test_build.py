import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from sd2rt.engine import BuildOptions, ComponentFiles, build_engine, open_engine
from sd2rt.engine.cache import list_engines, verify_engines
from sd2rt.engine.errors import BuildError, BundleError, EngineCacheError, InvalidArgument, MissingDependency, TargetUnavailable
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


def test_threads_use_the_same_engine_and_size_and_batch_do_not(files: ComponentFiles) -> None:
    changes = ({}, {"threads": 1}, {"size": (4, 6)}, {"batch": 2}, {"size": (6, 4)})
    folders = [build_engine(files, replace(CPU, **change)).folder for change in changes]  # type: ignore[arg-type]
    assert folders[0] == folders[1]
    assert len(set(folders)) == 4


def test_engine_of_fixed_size_takes_only_that(files: ComponentFiles) -> None:
    engine = open_engine(files, replace(CPU, size=(4, 6), batch=2))
    assert engine.inputs[0].shape == (2, 8, 4, 6)
    sample = np.random.default_rng(0).standard_normal((2, 8, 4, 6)).astype(np.float32)
    free = open_engine(files, CPU)
    np.testing.assert_allclose(engine.run({"sample": sample})["out_sample"], free.run({"sample": sample})["out_sample"], atol=1e-5)
    with pytest.raises(InvalidArgument, match=r"expected \(2, 8, 4, 6\)"):
        engine.run({"sample": sample[:1]})


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


def test_missing_onnx_names_the_extra(files: ComponentFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sd2rt.engine.lowering", raising=False)
    monkeypatch.setitem(sys.modules, "onnx_ir", None)  # type: ignore[arg-type]  # as Python itself blocks an import
    with pytest.raises(MissingDependency, match=r"building an engine needs onnx_ir: pip install 'sd2rt\[cpu\]'"):
        build_engine(files, CPU)


@pytest.mark.parametrize("limit_bytes", [2_000, 40_000], ids=["while lowering", "while ONNX Runtime writes"])
def test_full_disk_is_one_clear_error_and_leaves_nothing(limit_bytes: int, tmp_path: Path, cache: Path) -> None:
    """A limit on file size stands for the full disk."""
    files = component(tmp_path, block(channels=32, groups=32))
    build_engine(component(tmp_path / "other", block()), CPU)  # so that everything is imported
    before = {path.name for path in cache.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limits[1]))
    try:
        with pytest.raises((EngineCacheError, BuildError)):
            build_engine(files, CPU)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name for path in cache.iterdir() if path.name != ".locks"} == before - {".locks"}


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
