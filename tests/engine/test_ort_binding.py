"""The device engine of ONNX Runtime, on memory of the host and its CPU kernels: the code that a GPU runs too."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import helper

from sd2rt.engine.errors import EngineError, InvalidArgument
from sd2rt.engine.ort_binding import OrtDeviceEngine, Place
from sd2rt.engine.ort_cuda import open_device
from sd2rt.engine.spec import BuildOptions, Range
from tests.engine.graphs import block, component, graph
from tests.engine.ort_engines import built

STREAM = 7
SHAPE = {"batch": 2, "height": 6, "width": 10}
Memory = dict[str, npt.NDArray[Any]]


@dataclass
class Watched:
    """A session that counts how often memory was bound and how often it ran."""

    session: Any
    bound: int = 0
    runs: list[Any] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def io_binding(self) -> Any:
        self.bound += 1
        return self.session.io_binding()

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        self.runs.append(options)
        self.session.run_with_iobinding(binding, options)


def opened(folder: Path, model: onnx.ModelProto, axes: Mapping[str, Range] | None = None) -> tuple[OrtDeviceEngine, Watched]:
    watched: list[Watched] = []

    def make(*arguments: Any, **named: Any) -> Watched:
        watched.append(Watched(onnxruntime.InferenceSession(*arguments, **named)))
        return watched[-1]

    options = BuildOptions(target="cuda", axes=axes or {})
    engine = open_device(
        built(component(folder / "in", model), options, folder / "out"), options, Place(device="cpu", stream=STREAM), make=make
    )
    return engine, watched[0]


def memory(engine: OrtDeviceEngine, axes: Mapping[str, int] = SHAPE, seed: int = 0) -> Memory:
    """Return random inputs and outputs full of NaN."""
    rng = np.random.default_rng(seed)
    found = {spec.name: rng.standard_normal(spec.resolve(axes)).astype(spec.dtype) for spec in engine.inputs}
    return found | {spec.name: np.full(spec.resolve(axes), np.nan, spec.dtype) for spec in engine.outputs}


def addresses(arrays: Memory) -> dict[str, int]:
    return {name: array.ctypes.data for name, array in arrays.items()}


def test_results_appear_in_the_callers_memory(tmp_path: Path) -> None:
    engine, watched = opened(tmp_path, block())
    arrays = memory(engine)
    engine.bind(SHAPE, addresses(arrays), 0)
    assert np.isnan(arrays["out_sample"]).all()
    engine.enqueue(STREAM)
    np.testing.assert_array_equal(arrays["out_sample"], watched.session.run(None, {"sample": arrays["sample"]})[0])


def test_every_launch_reads_what_the_memory_then_holds_and_binds_nothing(tmp_path: Path) -> None:
    engine, watched = opened(tmp_path, block())
    arrays = memory(engine)
    engine.bind(SHAPE, addresses(arrays), 0)
    for seed in range(3):
        arrays["sample"][:] = memory(engine, seed=seed)["sample"]
        engine.enqueue(STREAM)
        np.testing.assert_array_equal(arrays["out_sample"], watched.session.run(None, {"sample": arrays["sample"]})[0])
    assert (watched.bound, len(watched.runs)) == (1, 3)
    assert {options.get_run_config_entry("disable_synchronize_execution_providers") for options in watched.runs} == {"1"}


def test_memory_bound_before_is_not_bound_again(tmp_path: Path) -> None:
    """Each binding may have a recording, which lasts as long as the session."""
    engine, watched = opened(tmp_path, block())
    small = {"batch": 1, "height": 4, "width": 4}
    one, other = memory(engine), memory(engine, small, seed=1)
    for arrays, axes in ((one, SHAPE), (other, small), (one, SHAPE)):
        engine.bind(axes, addresses(arrays), 0)
        arrays["out_sample"][:] = np.nan
        engine.enqueue(STREAM)
        np.testing.assert_array_equal(arrays["out_sample"], watched.session.run(None, {"sample": arrays["sample"]})[0])
    assert watched.bound == 2


def test_it_has_no_scratch_and_may_not_be_recorded_by_others(tmp_path: Path) -> None:
    engine, _ = opened(tmp_path, block())
    assert (engine.scratch_bytes, engine.capturable, engine.records_itself) == (0, False, True)


def test_sizes_that_are_fixed_are_part_of_the_shapes(tmp_path: Path) -> None:
    engine, _ = opened(tmp_path, block(), axes={"batch": (2, 2, 2), "height": (6, 6, 6), "width": (4, 10, 16)})
    assert [spec.shape for spec in engine.inputs] == [(2, 8, 6, "width")]
    arrays = memory(engine)
    engine.bind(SHAPE, addresses(arrays), 0)
    engine.enqueue(STREAM)
    assert np.isfinite(arrays["out_sample"]).all()


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({**SHAPE, "batch": 1}, "unet: got batch 1; expected 2, which the engine was loaded for"),
        ({**SHAPE, "width": 20}, "unet: got width 20; expected 4 to 16, which the engine was loaded for"),
        ({"batch": 2, "height": 6}, "sample: got no size of axis 'width'"),
    ],
)
def test_sizes_that_the_engine_was_not_loaded_for_are_refused(axes: dict[str, int], message: str, tmp_path: Path) -> None:
    engine, _ = opened(tmp_path, block(), axes={"batch": (2, 2, 2), "width": (4, 10, 16)})
    with pytest.raises(InvalidArgument, match=message):
        engine.bind(axes, addresses(memory(engine)), 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"out_sample": None}, "unet: got addresses of sample; expected those of sample, out_sample"),
        ({"sample": 0}, "unet: got addresses of out_sample; expected those of sample, out_sample"),
        ({"noise": 64}, "unet: got addresses of noise, out_sample, sample; expected those of sample, out_sample"),
    ],
    ids=["missing", "null", "unknown"],
)
def test_addresses_must_be_those_of_every_input_and_output(change: dict[str, int | None], message: str, tmp_path: Path) -> None:
    engine, _ = opened(tmp_path, block())
    wrong = {**addresses(memory(engine)), **change}
    with pytest.raises(InvalidArgument, match=message):
        engine.bind(SHAPE, {name: address for name, address in wrong.items() if address is not None}, 0)


def test_an_output_in_the_memory_of_an_input_is_refused(tmp_path: Path) -> None:
    """A first launch runs more than once: the second run would read what the first one wrote."""
    engine, _ = opened(tmp_path, block())
    sample = addresses(memory(engine))["sample"]
    with pytest.raises(InvalidArgument, match="unet: got one address for out_sample and sample; expected two"):
        engine.bind(SHAPE, {"sample": sample, "out_sample": sample}, 0)


def test_an_engine_without_memory_does_not_run(tmp_path: Path) -> None:
    engine, _ = opened(tmp_path, block())
    with pytest.raises(EngineError, match="unet: the engine has no memory to work on; bind it first"):
        engine.enqueue(STREAM)


def test_another_stream_is_refused(tmp_path: Path) -> None:
    engine, _ = opened(tmp_path, block())
    engine.bind(SHAPE, addresses(memory(engine)), 0)
    with pytest.raises(EngineError, match="unet: got stream 8; expected 7, which the engine was loaded for"):
        engine.enqueue(8)


def test_closed_engine_neither_runs_nor_binds(tmp_path: Path) -> None:
    engine, _ = opened(tmp_path, block())
    arrays = memory(engine)
    engine.bind(SHAPE, addresses(arrays), 0)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="unet: the engine is closed; open it again"):
        engine.enqueue(STREAM)
    with pytest.raises(EngineError, match="unet: the engine is closed; open it again"):
        engine.bind(SHAPE, addresses(arrays), 0)


def test_failure_while_running_is_an_engine_error(tmp_path: Path) -> None:
    """A graph whose own arithmetic fails for an odd number."""
    node = helper.make_node("Reshape", ["x", "pairs"], ["y"])
    model = graph([node], [("x", "float32", ["many"])], [("y", "float32", ["half", 2])], {"pairs": np.array([-1, 2])}, infer=False)
    engine, _ = opened(tmp_path, model)
    arrays = memory(engine, {"many": 3, "half": 1})
    engine.bind({"many": 3, "half": 1}, addresses(arrays), 0)
    with pytest.raises(EngineError, match=r"unet: ONNX Runtime failed: .*Reshape"):
        engine.enqueue(STREAM)


def test_short_memory_says_what_to_do(tmp_path: Path) -> None:
    engine, watched = opened(tmp_path, block())
    engine.bind(SHAPE, addresses(memory(engine)), 0)

    def fail(*arguments: Any) -> None:
        raise RuntimeError("Failed to allocate memory for requested buffer of size 1073741824")

    watched.run_with_iobinding = fail  # type: ignore[method-assign]
    with pytest.raises(
        EngineError, match=r"unet: ONNX Runtime failed: out of memory; use a smaller size or batch, or close what else uses the GPU"
    ):
        engine.enqueue(STREAM)
