import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from sd2rt.engine import BuildOptions, TensorSpec, open_engine
from sd2rt.engine.accuracy import check_engine, fixed_feeds
from sd2rt.engine.cache import list_engines
from sd2rt.engine.errors import EngineError, InvalidArgument
from sd2rt.engine.ort import OrtEngine, fingerprint, load, load_settings, open_unlowered
from sd2rt.engine.spec import Guidance, PixelForm, StepForm
from tests.engine.graphs import block, component, graph

SAMPLE = np.random.default_rng(0).standard_normal((2, 8, 6, 10)).astype(np.float32)


@pytest.fixture
def engine(tmp_path: Path) -> OrtEngine:
    opened = open_engine(component(tmp_path, block("float16")), BuildOptions(target="cpu", threads=2))
    assert isinstance(opened, OrtEngine)
    return opened


def test_engine_of_a_half_precision_bundle_is_float32_outside(engine: OrtEngine) -> None:
    assert engine.inputs == (TensorSpec(name="sample", dtype="float32", shape=("batch", 8, "height", "width")),)
    assert engine.outputs == (TensorSpec(name="out_sample", dtype="float32", shape=("batch", 8, "height", "width")),)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_feeds_of_another_width_are_cast(dtype: str, engine: OrtEngine) -> None:
    result = engine.run({"sample": SAMPLE.astype(dtype)})["out_sample"]
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, engine.run({"sample": SAMPLE.astype(dtype).astype(np.float32)})["out_sample"])


@pytest.mark.parametrize("shape", [(1, 8, 4, 4), (3, 8, 5, 9)])
def test_shapes_may_vary(shape: tuple[int, ...], engine: OrtEngine) -> None:
    assert engine.run({"sample": np.zeros(shape, np.float32)})["out_sample"].shape == shape


def test_same_feeds_give_the_same_bytes(engine: OrtEngine) -> None:
    results = {engine.run({"sample": SAMPLE})["out_sample"].tobytes() for _ in range(5)}
    again = load(list_engines()[0], BuildOptions(target="cpu", threads=2))
    assert results == {again.run({"sample": SAMPLE})["out_sample"].tobytes()}


def test_rows_of_a_batch_do_not_mix(engine: OrtEngine) -> None:
    together = engine.run({"sample": SAMPLE})["out_sample"]
    alone = [engine.run({"sample": SAMPLE[row : row + 1]})["out_sample"] for row in range(2)]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5)


def test_wrong_feed_names_the_component(engine: OrtEngine) -> None:
    with pytest.raises(InvalidArgument, match=r"unet: got sample of shape \(2, 8, 6\); expected \(batch, 8, height, width\)"):
        engine.run({"sample": SAMPLE[..., 0]})


def test_closed_engine_does_not_run(engine: OrtEngine) -> None:
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="unet: the engine is closed"):
        engine.run({"sample": SAMPLE})


def test_failure_while_running_is_an_engine_error(tmp_path: Path) -> None:
    """A graph whose own arithmetic fails for some sizes: its feeds look right."""
    node = onnx.helper.make_node("Reshape", ["sample", "pairs"], ["out_sample"])
    made = onnx.helper.make_graph(
        [node],
        "pairs",
        [onnx.helper.make_tensor_value_info("sample", onnx.TensorProto.FLOAT, ["batch"])],
        [onnx.helper.make_tensor_value_info("out_sample", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.array([-1, 2]), "pairs")],
    )
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 23)], ir_version=10)
    engine = open_engine(component(tmp_path, model), BuildOptions(target="cpu"))
    assert engine.run({"sample": np.zeros(4, np.float32)})["out_sample"].shape == (2, 2)
    with pytest.raises(EngineError, match=r"unet: ONNX Runtime failed: .*Reshape"):
        engine.run({"sample": np.zeros(3, np.float32)})


def test_engine_that_onnxruntime_refuses_is_an_engine_error(engine: OrtEngine) -> None:
    entry = list_engines()[0]
    (entry.folder / "engine.onnx").write_bytes(b"not a graph")
    with pytest.raises(EngineError, match="unet: ONNX Runtime cannot load the engine"):
        load(entry, BuildOptions(target="cpu"))


def test_tensor_that_is_no_number_is_named(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Not", ["mask"], ["out"])
    files = component(tmp_path, graph([node], [("mask", "bool", [1])], [("out", "bool", [1])]))
    with pytest.raises(EngineError, match=r"unet: got mask of type tensor\(bool\); expected one of tensor\(float16\), .+tensor\(float\)"):
        open_engine(files, BuildOptions(target="cpu"))


def unet() -> onnx.ModelProto:
    """Return a UNet of a few nodes in float16: sample / 2 + timestep / 1000 + sum of the text states."""
    weights = {"half": np.float16(0.5), "slow": np.float32(1e-3), "axes": np.array([1, 2]), "column": np.array([-1, 1, 1, 1])}
    nodes = [
        helper.make_node("Mul", ["sample", "half"], ["halved"]),
        helper.make_node("Mul", ["timestep", "slow"], ["slowed"]),
        helper.make_node("Cast", ["slowed"], ["time"], to=onnx.TensorProto.FLOAT16),
        helper.make_node("ReduceSum", ["encoder_hidden_states", "axes"], ["summed"], keepdims=0),
        helper.make_node("Add", ["time", "summed"], ["condition"]),
        helper.make_node("Reshape", ["condition", "column"], ["conditions"]),
        helper.make_node("Add", ["halved", "conditions"], ["out_sample"]),
    ]
    shape = ["batch", 4, "height", "width"]
    inputs = [
        ("sample", "float16", shape),
        ("timestep", "float32", ["batch"]),
        ("encoder_hidden_states", "float16", ["batch", "sequence", 2]),
    ]
    return graph(nodes, inputs, [("out_sample", "float16", shape)], weights)


def test_a_step_engine_is_the_unet_with_guidance_and_a_row(tmp_path: Path) -> None:
    files = component(tmp_path, unet())
    engine = open_engine(files, BuildOptions(target="cpu", form=StepForm(guidance=Guidance.GUIDED)))
    feeds = fixed_feeds(engine.inputs, {"images": 1, "batch": 2, "height": 3, "width": 5, "sequence": 7})
    x, states = feeds["registers"][0], feeds["encoder_hidden_states"]
    rows = {"sample": np.concatenate([x, x]), "timestep": np.full(2, 500.0), "encoder_hidden_states": states}
    negative, positive = open_engine(files, BuildOptions(target="cpu")).run(rows)["out_sample"]
    got = engine.run(feeds)
    np.testing.assert_allclose(got["denoised"][0], negative + 7.5 * (positive - negative), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(got["next_registers"][1], got["denoised"])
    assert got["next_step"].tolist() == [1]


def test_a_step_that_keeps_a_part_differs_in_register_0_and_in_what_it_foresees_alone(tmp_path: Path) -> None:
    """And on the fixed feeds it does so by what was to be put back, at the noise level of their row."""
    files = component(tmp_path, unet())
    forms = [StepForm(guidance=Guidance.GUIDED, kept=kept) for kept in (False, True)]
    free, keeping = (open_engine(files, BuildOptions(target="cpu", form=form)) for form in forms)
    feeds = fixed_feeds(keeping.inputs, {"images": 2, "batch": 4, "height": 3, "width": 5, "sequence": 7})
    expected, got = free.run({spec.name: feeds[spec.name] for spec in free.inputs}), keeping.run(feeds)
    level = np.float32(0.8) * feeds["known"] + np.float32(0.6) * feeds["known_noise"]
    put_back = level + feeds["mask"] * (expected["next_registers"][0] - level)
    np.testing.assert_allclose(got["next_registers"][0], put_back, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(got["next_registers"][1:], expected["next_registers"][1:])
    foreseen = feeds["known"] + feeds["mask"] * (expected["denoised"] - feeds["known"])
    np.testing.assert_allclose(got["denoised"], foreseen, rtol=1e-5, atol=1e-5)


def test_only_a_form_changes_the_key() -> None:
    plain = fingerprint(BuildOptions(target="cpu"))
    guided, rescaled = (
        fingerprint(BuildOptions(target="cpu", form=StepForm(guidance=kind))) for kind in (Guidance.GUIDED, Guidance.RESCALED)
    )
    kept = fingerprint(BuildOptions(target="cpu", form=StepForm(guidance=Guidance.GUIDED, kept=True)))
    pixels = fingerprint(BuildOptions(target="cpu", form=PixelForm(scaling_factor=0.18215)))
    assert "form" not in plain
    assert guided == {**plain, "form": {"StepForm": {"guidance": "guided", "kept": False}}}
    assert pixels == {**plain, "form": {"PixelForm": {"scaling_factor": 0.18215}}}
    assert guided != rescaled
    assert kept == {**plain, "form": {"StepForm": {"guidance": "guided", "kept": True}}}


def test_the_unlowered_graph_keeps_its_precision(tmp_path: Path) -> None:
    files = component(tmp_path, block("float16"))
    plain = open_unlowered(files, threads=1)
    assert {spec.dtype for spec in (*plain.inputs, *plain.outputs)} == {"float16"}
    lowered = open_engine(files, BuildOptions(target="cpu"))
    found = check_engine(lowered, plain, {"sample": SAMPLE.astype(np.float16)})
    assert found.passes
    assert found.max_abs > 0


def test_an_unlowered_graph_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    files = component(tmp_path, block())
    files.onnx.write_bytes(b"no graph")
    with pytest.raises(EngineError, match="unet: ONNX Runtime cannot load the bundle's graph"):
        open_unlowered(files, threads=1)


def test_what_a_run_returns_is_left_alone_by_later_ones(engine: OrtEngine) -> None:
    first = engine.run({"sample": SAMPLE})
    copies = {name: array.copy() for name, array in first.items()}
    for _ in range(3):
        engine.run({"sample": SAMPLE + 1})
    for name, array in first.items():
        np.testing.assert_array_equal(array, copies[name])


def test_an_engine_without_memory_says_what_to_do(engine: OrtEngine) -> None:
    if sys.platform != "linux":
        pytest.skip("limits the process's memory as Linux does")
    import resource

    engine.run({"sample": SAMPLE})
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    large = np.zeros((2, 8, 2048, 2048), np.float32)
    resource.setrlimit(resource.RLIMIT_AS, (used + large.nbytes + 50_000_000, limits[1]))
    try:
        with pytest.raises(EngineError, match="unet: ONNX Runtime failed: out of memory; smaller pictures, fewer at once or smaller tiles"):
            engine.run({"sample": large})
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_an_engine_that_runs_packs_its_weights_on_all_threads_and_plans_no_memory() -> None:
    settings = load_settings(threads=3)
    assert settings.intra_op_num_threads == 3
    assert not settings.enable_mem_pattern
    assert settings.get_session_config_entry("session.prepack.enable_parallel") == "1"
