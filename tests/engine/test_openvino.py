"""The openvino target on tiny graphs: what its engines give, what is kept of them, and what it says when something is wrong."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from sd2rt.engine import BuildOptions, TensorSpec, build_engine, open_engine
from sd2rt.engine.accuracy import compare_outputs, worst
from sd2rt.engine.build import open_device_engine
from sd2rt.engine.cache import list_engines, verify_engines
from sd2rt.engine.errors import BuildError, BundleError, EngineError, InvalidArgument, MissingDependency, TargetUnavailable
from sd2rt.engine.spec import ComponentFiles, PixelForm
from tests.engine.graphs import block, component, graph

openvino = pytest.importorskip("openvino", reason="the openvino target needs openvino")
from sd2rt.engine import openvino as backend  # noqa: E402
from sd2rt.engine import openvino_graph, openvino_run  # noqa: E402
from sd2rt.engine.openvino_run import OpenVinoEngine  # noqa: E402

SAMPLE = np.random.default_rng(0).standard_normal((2, 8, 6, 10)).astype(np.float32)
F32 = BuildOptions(target="openvino", threads=1, precision="f32")
BF16 = replace(F32, precision="bf16")
AUTO = replace(F32, precision="auto")
USUAL = {"batch": (2, 2, 2), "height": (6, 6, 6), "width": (10, 10, 10)}
Tell = Callable[[str], None]


@pytest.fixture(autouse=True)
def with_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take this CPU for one that computes in bfloat16; OpenVINO does so on any, only slower."""
    monkeypatch.setattr(backend, "has_bf16", lambda: True)


@pytest.fixture
def half(tmp_path: Path) -> ComponentFiles:
    return component(tmp_path / "half", block("float16"))


def opened(files: ComponentFiles, options: BuildOptions, notify: Tell = lambda message: None) -> OpenVinoEngine:
    engine = open_engine(files, options, notify)
    assert isinstance(engine, OpenVinoEngine)
    return engine


def psnr(engine: OpenVinoEngine, files: ComponentFiles, sample: Any = SAMPLE) -> float:
    """Compare with the cpu target."""
    pytest.importorskip("onnxruntime", reason="the reference needs onnxruntime")
    expected = open_engine(files, BuildOptions(target="cpu", threads=1)).run({"sample": sample})
    return worst(compare_outputs(engine.run({"sample": sample}), expected)).psnr_db


def test_engine_of_a_half_precision_bundle_is_float32_outside(half: ComponentFiles) -> None:
    for options in (F32, BF16):
        engine = opened(half, options)
        assert engine.inputs == (TensorSpec(name="sample", dtype="float32", shape=("batch", 8, "height", "width")),)
        assert engine.outputs == (TensorSpec(name="out_sample", dtype="float32", shape=("batch", 8, "height", "width")),)


@pytest.mark.parametrize(("options", "least"), [(F32, 90), (BF16, 40)])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_outputs_are_those_of_the_cpu_target(options: BuildOptions, least: float, dtype: str, tmp_path: Path) -> None:
    files = component(tmp_path, block(dtype))
    assert psnr(opened(files, options), files) >= least


def test_narrow_engines_are_narrow(half: ComponentFiles) -> None:
    """A test of the gates above: what is called bf16 does not compute in float32."""
    assert psnr(opened(half, BF16), half) < 80


def test_half_precision_becomes_bf16_and_float32_stays(tmp_path: Path) -> None:
    built = {dtype: build_engine(component(tmp_path / dtype, block(dtype)), AUTO) for dtype in ("float16", "float32")}
    assert {dtype: entry.manifest.notes["precision"] for dtype, entry in built.items()} == {"float16": "bf16", "float32": "f32"}
    assert 'element_type="bf16"' in (built["float16"].folder / "engine.xml").read_text()


def test_weights_are_kept_in_two_bytes(half: ComponentFiles) -> None:
    for options in (F32, BF16):
        weights = build_engine(half, options).folder / "engine.bin"
        assert weights.stat().st_size < 1.1 * half.data[0].stat().st_size


def test_rounding_is_to_the_nearest_with_ties_to_even() -> None:
    values = np.array([0.0, -0.0, 1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-9, -65504.0, 6e-8, np.inf], np.float16)
    got = openvino_graph.to_bf16(values.reshape(3, 3)).data.view(np.uint16).astype(np.uint32) << 16
    expected = [0.0, -0.0, 1.0, 1.0, 1 + 2**-6, 1.0, -65536.0, 2**-24, np.inf]
    np.testing.assert_array_equal(got.view(np.float32).reshape(-1), np.array(expected, np.float32))


def test_what_bf16_misses_is_computed_in_f32_and_the_caller_is_told(tmp_path: Path) -> None:
    """Scaled so that rounding the weights to eight bits is all that is left of them."""
    weights = {"large": np.full((1, 8, 1, 1), 1000.0, np.float16), "w": np.full((1, 8, 1, 1), 1000.5, np.float16)}
    nodes = [
        helper.make_node("Add", ["sample", "w"], ["a"]),
        helper.make_node("Sub", ["a", "large"], ["out_sample"]),
    ]
    shape = ["batch", 8, "height", "width"]
    files = component(tmp_path, graph(nodes, [("sample", "float16", shape)], [("out_sample", "float16", shape)], weights))
    said: list[str] = []
    entry = build_engine(files, replace(AUTO, axes=USUAL), said.append)
    assert entry.manifest.notes["precision"] == "f32"
    assert any("in bf16; expected PSNR >= 35 dB: it will compute in f32" in line for line in said)
    assert sorted(path.name for path in entry.folder.iterdir()) == ["engine.bin", "engine.xml", "manifest.json"]
    np.testing.assert_allclose(opened(files, replace(AUTO, axes=USUAL)).run({"sample": SAMPLE})["out_sample"], SAMPLE + 0.5, atol=1e-3)


def test_what_bf16_reaches_is_noted(tmp_path: Path) -> None:
    """Also where outputs have axes of their own, as a decoder's have."""
    model = block("float16")
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_param = "image_height"
    notes = build_engine(component(tmp_path, model), replace(AUTO, axes=USUAL)).manifest.notes
    assert notes["precision"] == "bf16"
    assert notes["bf16_psnr_db"] > 35  # type: ignore[operator]


@pytest.mark.parametrize("axes", [{}, {"batch": (2, 2, 2)}])
def test_without_all_sizes_nothing_is_compared(axes: Any, half: ComponentFiles) -> None:
    assert build_engine(half, replace(AUTO, axes=axes)).manifest.notes == {"precision": "bf16"}


def test_what_was_not_tried_does_not_stand_in_for_what_was(half: ComponentFiles) -> None:
    """Nor what was tried at other sizes."""
    unchecked = build_engine(half, AUTO)
    checked = build_engine(half, replace(AUTO, axes=USUAL))
    wider = replace(AUTO, axes={**USUAL, "width": (4, 12, 12)})
    assert len({unchecked.folder, checked.folder, build_engine(half, wider).folder}) == 3
    assert "bf16_psnr_db" in checked.manifest.notes
    assert build_engine(half, replace(AUTO, axes={**USUAL, "width": (1, 10, 99)})).folder == checked.folder  # the usual size counts


def test_precisions_are_engines_of_their_own_and_sizes_and_threads_are_not(half: ComponentFiles) -> None:
    folders = {str(options.precision): build_engine(half, options).folder for options in (F32, BF16, AUTO)}
    assert len(set(folders.values())) == 3
    assert build_engine(half, replace(BF16, threads=2, axes=USUAL)).folder == folders["bf16"]


def test_bf16_where_the_cpu_has_none_is_refused_and_auto_is_f32(half: ComponentFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "has_bf16", lambda: False)
    with pytest.raises(InvalidArgument, match="precision: got bf16; this CPU computes in f32 alone"):
        opened(half, BF16)
    assert build_engine(half, AUTO).folder == build_engine(half, F32).folder


def test_other_targets_have_no_precision_to_choose(half: ComponentFiles) -> None:
    with pytest.raises(InvalidArgument, match="precision: got bf16; cpu has no choice: leave it out, or use --target openvino"):
        open_engine(half, BuildOptions(target="cpu", precision="bf16"))
    with pytest.raises(InvalidArgument, match="precision: got 'int3'; expected one of auto, bf16, f32"):
        BuildOptions(target="openvino", precision="int3")


@pytest.mark.parametrize("shape", [(1, 8, 4, 4), (3, 8, 5, 9), (2, 8, 6, 10)])
def test_shapes_may_vary(shape: tuple[int, ...], half: ComponentFiles) -> None:
    engine = opened(half, F32)
    engine.run({"sample": SAMPLE})
    assert psnr(engine, half, np.random.default_rng(1).standard_normal(shape).astype(np.float32)) >= 90


def test_the_last_shapes_stay_compiled(half: ComponentFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_run, "KEPT_BYTES", 0)  # as for large networks
    engine = opened(half, F32)
    compiled: list[Any] = []
    compile_model = engine._compile

    def count(model: Any, shapes: Any) -> Any:
        compiled.append(shapes[0][0])
        return compile_model(model, shapes)

    monkeypatch.setattr(engine, "_compile", count)
    for rows in (1, 2, 1, 2, 3, 2, 1):
        engine.run({"sample": np.zeros((rows, 8, 4, 4), np.float32)})
        assert len(engine._requests) <= openvino_run.KEPT_SHAPES
    assert compiled == [1, 2, 3, 1]


@pytest.mark.parametrize(("weights_bytes", "shapes"), [(0, 16), (13 << 20, 16), (64 << 20, 4), (200 << 20, 2), (2 << 30, 2)])
def test_small_networks_stay_compiled_for_more_shapes(weights_bytes: int, shapes: int) -> None:
    assert openvino_run.kept_shapes(weights_bytes) == shapes


def test_outputs_stay_as_they_were_given(half: ComponentFiles) -> None:
    engine = opened(half, F32)
    first = engine.run({"sample": SAMPLE})["out_sample"]
    kept = first.copy()
    engine.run({"sample": SAMPLE + 1})
    np.testing.assert_array_equal(first, kept)


def test_same_feeds_give_the_same_bytes(half: ComponentFiles) -> None:
    engine = opened(half, BF16)
    assert len({engine.run({"sample": SAMPLE})["out_sample"].tobytes() for _ in range(3)}) == 1
    assert opened(half, BF16).run({"sample": SAMPLE})["out_sample"].tobytes() == engine.run({"sample": SAMPLE})["out_sample"].tobytes()


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_threads_are_as_asked(threads: int, half: ComponentFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_run, "cpu_count", lambda: 2)
    engine = opened(half, replace(F32, threads=threads))
    engine.run({"sample": SAMPLE})
    (request,) = engine._requests.values()
    assert request.get_compiled_model().get_property("INFERENCE_NUM_THREADS") == (threads or 2)


def test_the_engine_is_taken_from_the_cache(half: ComponentFiles) -> None:
    said: list[str] = []
    opened(half, BF16, said.append)
    assert [line.split(" engine")[0] for line in said] == ["building the openvino", "built the openvino"]
    said.clear()
    opened(half, BF16, said.append)
    assert said == []


def test_a_damaged_engine_is_built_again(half: ComponentFiles) -> None:
    weights = build_engine(half, BF16).folder / "engine.bin"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    said: list[str] = []
    assert psnr(opened(half, BF16, said.append), half) >= 40
    assert "the cached unet engine is damaged (engine.bin has SHA-256" in said[0]
    assert all(not verdict.problems for verdict in verify_engines())


def test_a_changed_bundle_is_refused(half: ComponentFiles) -> None:
    content = bytearray(half.data[0].read_bytes())
    content[10] ^= 1
    half.data[0].write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.onnx\.data: got SHA-256"):
        opened(half, F32)


def test_the_bundles_files_are_not_needed_again_nor_changed(half: ComponentFiles) -> None:
    before = half.data[0].read_bytes()
    build_engine(half, BF16)
    assert half.data[0].read_bytes() == before
    for path in half.paths:
        path.unlink()
    assert opened(half, BF16).run({"sample": SAMPLE})["out_sample"].shape == SAMPLE.shape


def test_a_form_is_built_too(tmp_path: Path) -> None:
    """A decoder from latents to bytes."""
    nodes = [helper.make_node("Conv", ["latent_sample", "w"], ["sample"])]
    weights = {"w": np.ones((3, 4, 1, 1), np.float32) / 8}
    ends = [("latent_sample", "float32", ["batch", 4, "height", "width"])], [("sample", "float32", ["batch", 3, "height", "width"])]
    files = component(tmp_path, graph(nodes, *ends, weights), name="vae_decoder")
    engine = opened(files, replace(F32, form=PixelForm(scaling_factor=0.5)))
    plain = opened(files, F32)
    latents = np.full((1, 4, 2, 2), 0.5, np.float32)
    assert set(plain.run({"latent_sample": latents})["sample"].reshape(-1).tolist()) == {0.25}
    pixels = engine.run({engine.inputs[0].name: latents})["pixels"]
    assert (pixels.dtype, set(pixels.reshape(-1).tolist())) == (np.uint8, {191})  # 0.5 / 0.5 * 4 / 8 = 0.5 in [-1, 1]


def test_a_graph_without_weights_runs(tmp_path: Path) -> None:
    shape = ["batch", "height"]
    ends = [("sample", "float32", shape), ("other", "float32", shape)], [("out_sample", "float32", shape)]
    engine = opened(component(tmp_path, graph([helper.make_node("Add", ["sample", "other"], ["out_sample"])], *ends)), F32)
    ones = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(engine.run({"sample": ones, "other": ones})["out_sample"], ones * 2)
    with pytest.raises(InvalidArgument, match=r"got other of shape \(3, 3\); expected \(2, 3\)"):
        engine.run({"sample": ones, "other": np.ones((3, 3), np.float32)})


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"sample": SAMPLE[..., 0]}, r"unet: got sample of shape \(2, 8, 6\); expected \(batch, 8, height, width\)"),
        ({"sample": SAMPLE, "more": SAMPLE}, "unet: got inputs more, sample; expected sample"),
    ],
)
def test_wrong_feeds_name_the_component(feeds: Any, message: str, half: ComponentFiles) -> None:
    with pytest.raises(InvalidArgument, match=message):
        opened(half, F32).run(feeds)


def test_closed_engine_does_not_run(half: ComponentFiles) -> None:
    engine = opened(half, F32)
    engine.run({"sample": SAMPLE})
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="unet: the engine is closed; open it again"):
        engine.run({"sample": SAMPLE})


def test_a_failing_run_is_one_line(tmp_path: Path) -> None:
    ends = [("sample", "float32", ["batch", "a"]), ("other", "float32", ["batch", "b"])], [("out_sample", "float32", ["batch", "c"])]
    engine = opened(component(tmp_path, graph([helper.make_node("Add", ["sample", "other"], ["out_sample"])], *ends)), F32)
    with pytest.raises(EngineError, match=r"^unet: OpenVINO failed: .*shapes.*; use --target cpu$"):
        engine.run({"sample": np.ones((2, 3), np.float32), "other": np.ones((2, 4), np.float32)})


def test_an_unknown_operator_is_a_build_error_of_one_line(tmp_path: Path) -> None:
    model = block()
    model.graph.node[2].op_type = "NoSuchThing"
    with pytest.raises(BuildError, match=r"^unet: OpenVINO \S+ cannot use the graph: .*NoSuchThing.*; use --target cpu$"):
        opened(component(tmp_path, model), F32)
    assert list_engines() == ()


def test_an_engine_that_openvino_refuses_is_one_line(half: ComponentFiles) -> None:
    entry = build_engine(half, F32)
    (entry.folder / "engine.xml").write_text("<net/>")
    with pytest.raises(
        EngineError, match=r"^unet: OpenVINO cannot load the engine: .+; sd2rt engines verify says .+; sd2rt engines prune removes .+$"
    ):
        backend.load(entry, F32)


def test_text_is_no_number(tmp_path: Path) -> None:
    shape = ["batch"]
    files = component(
        tmp_path, graph([helper.make_node("Not", ["x"], ["y"])], [("x", "bool", shape)], [("y", "bool", shape)]), external=False
    )
    with pytest.raises(EngineError, match="unet: got x of type boolean; expected one of float32, float64, int32, int64, uint8"):
        opened(files, F32)


def test_a_full_disk_is_told_before_anything_is_written(half: ComponentFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(EngineError, match="No space left on device"):
        opened(half, F32)


@pytest.mark.parametrize(
    ("options", "engines"), [(F32, 1), (AUTO, 1), (replace(AUTO, axes=USUAL), 2)], ids=["f32", "not compared", "compared"]
)
def test_a_build_needs_room_for_the_engines_that_it_writes(
    options: BuildOptions, engines: int, half: ComponentFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(path.stat().st_size for path in half.paths)
    for room, fits in ((engines * size - 1, False), (engines * size, True)):
        left = iter(range(room, 0, -size))
        monkeypatch.setattr(backend.shutil, "disk_usage", lambda folder, left=left: type("Usage", (), {"free": next(left, 0)}))
        if fits:
            build_engine(half, options)
        else:
            with pytest.raises(EngineError, match="No space left on device"):
                build_engine(half, options)


def test_building_without_onnx_names_the_extra(half: ComponentFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, "sd2rt.engine.forms", raising=False)
    with pytest.raises(MissingDependency, match=r"building an engine needs onnx: pip install 'sd2rt\[openvino\]'"):
        opened(half, F32)


def test_a_broken_openvino_says_what_to_do(half: ComponentFiles) -> None:
    """In a process of its own: what is imported stays."""
    code = (
        "import sys\n"
        "from sd2rt.engine.build import _backend\n"
        "sys.modules['openvino'] = None\n"
        "try: _backend('openvino')\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.startswith(f"{TargetUnavailable.__name__} target openvino: openvino cannot be imported (")
    assert out.endswith("pip install --force-reinstall openvino\n")


def test_it_is_no_device(half: ComponentFiles) -> None:
    with pytest.raises(InvalidArgument, match="target: got openvino; expected one of tensorrt, tensorrt-rtx, cuda"):
        open_device_engine(half, F32, None, 0)  # type: ignore[arg-type]


def test_messages_leave_out_source_files() -> None:
    said = RuntimeError("Exception from src/a.cpp:1:\nCheck 'b' failed at src/b.cpp:2:\nwhat is wrong\n\n")
    assert openvino_run.explain(said, "go") == "what is wrong; go"
    assert openvino_run.explain(ValueError(""), "go") == "ValueError; go"


@pytest.mark.parametrize(
    "error", [MemoryError("std::bad_alloc"), MemoryError(), RuntimeError("Exception from src/a.cpp:1:\nstd::bad_alloc\n")]
)
def test_memory_that_cannot_be_had_is_called_so(error: Exception, half: ComponentFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another target would not have it either."""
    engine = opened(half, F32)

    def fail(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(engine, "_compile", fail)
    with pytest.raises(EngineError, match=r"^unet: OpenVINO failed: out of memory; smaller pictures, fewer at once .+ need less$"):
        engine.run({"sample": SAMPLE})
    monkeypatch.setattr(openvino_run, "_read", fail)
    with pytest.raises(EngineError, match=r"^unet: OpenVINO cannot load the engine: out of memory; close other programs, or use .+ model$"):
        opened(half, F32)
    monkeypatch.setattr(backend, "write_graph", fail)
    with pytest.raises(BuildError, match=r"^unet: OpenVINO \S+ cannot use the graph: out of memory; close other programs, or .+ model$"):
        build_engine(half, BF16)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_weights_are_in_memory_once(tmp_path: Path) -> None:
    """In a process of its own. 256 MB of weights: OpenVINO by itself has them mapped and packed, and from float16 in float32 before."""
    drawn = (np.random.default_rng(0).standard_normal((64, 16384), np.float32) * 0.01).astype(np.float16)
    weights = {"w": np.tile(drawn, (128, 1))}
    model = graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], [("x", "float16", ["n", 8192])], [("y", "float16", ["n", 16384])], weights
    )
    entry = build_engine(component(tmp_path, model), BF16)
    code = (
        "import sys, numpy, pathlib\n"
        "from sd2rt.engine.openvino_run import OpenVinoEngine\n"
        "def bytes_of(name): return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith(name)) * 1024\n"
        "engine = OpenVinoEngine('w', pathlib.Path(sys.argv[1]), 'bf16', 1)\n"
        "before = bytes_of('VmRSS')\n"
        "y = engine.run({'x': numpy.ones((4, 8192), 'float32')})['y']\n"
        "print(bytes_of('VmHWM') - before, bytes_of('VmRSS') - before, y.shape)\n"
    )
    out = subprocess.run([sys.executable, "-c", code, str(entry.folder)], capture_output=True, text=True, check=True).stdout
    peak, after = (int(word) for word in out.split()[:2])
    assert after < 1.5 * 2**28
    assert peak < 2.3 * 2**28  # the pages of the last moments are still there
