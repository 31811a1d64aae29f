"""An engine on OpenVINO's CPU plugin: compiled for the shapes of a run when they come, the last ones kept. Knows no bundle.

The weights' file is mapped and its pages are let go as soon as they are packed for the CPU, so that no weight is in memory twice.
Only the modules named `openvino...` import openvino.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from sd2rt.engine.cpu import cpu_count
from sd2rt.engine.errors import CLOSE_OTHERS, SMALLER, EngineError, is_out_of_memory
from sd2rt.engine.feeds import check_feeds
from sd2rt.engine.spec import TensorSpec

GRAPH_NAME = "engine.xml"
WEIGHTS_NAME = "engine.bin"
SHAPES = "sd2rt_shapes"  # in the graph's own notes
KEPT_SHAPES = 2  # at least, such as those with and without guidance: each has its own packed weights
MOST_SHAPES, KEPT_BYTES = 16, 256 << 20  # what small networks keep, whose number of rows changes from run to run in a server
LET_GO_SECONDS = 0.05
CAN_LET_GO = hasattr(mmap, "MADV_DONTNEED")
DAMAGED = "sd2rt engines verify says whether it is damaged; sd2rt engines prune removes what is, prune --all every engine"
INSTEAD = "use --target cpu"
UNKNOWN_OPERATOR = "-- No conversion rule found"
DTYPES = {"f32": "float32", "f64": "float64", "i32": "int32", "i64": "int64", "u8": "uint8"}

Shapes = tuple[tuple[int, ...], ...]


def explain(error: Exception, remedy: str, hint: str = CLOSE_OTHERS) -> str:
    """Return the line of OpenVINO's message that says what is wrong, and `remedy`; where memory could not be had, that and `hint`.

    The line is the last one, or that of an operator which it does not know.
    """
    if is_out_of_memory(error, str(error)):
        return f"out of memory; {hint}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    said = next((line.removeprefix("-- ") for line in lines if line.startswith(UNKNOWN_OPERATOR)), lines[-1])
    return f"{said}; {remedy}"


def write_shapes(model: openvino.Model, shapes: Mapping[str, list[str | int]]) -> None:
    """Note the shapes of inputs and outputs, named axes included, in a model that is about to be saved."""
    model.set_rt_info(json.dumps(shapes), SHAPES)


class OpenVinoEngine:
    """One component on OpenVINO: a graph for all sizes, and what is compiled of it for the shapes of the last runs."""

    def __init__(self, name: str, folder: Path, precision: str, threads: int) -> None:
        """Read the graph in a folder. `precision` is bf16 or f32; `threads` 0 for one per core. Raises EngineError."""
        self._name = name
        self._settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads or cpu_count()),
        }
        self._requests: dict[Shapes, Any] = {}  # the one used last at the end
        try:
            self._core = openvino.Core()
            self._weights = _map(folder / WEIGHTS_NAME)
            self._model: openvino.Model | None = _read(self._core, folder / GRAPH_NAME, self._weights)
            shapes = json.loads(self._model.get_rt_info(SHAPES).astype(str))
        except Exception as error:  # as in openvino.build
            raise EngineError(f"{name}: OpenVINO cannot load the engine: {explain(error, DAMAGED)}") from error
        self.inputs = tuple(_tensor_spec(name, port, shapes) for port in self._model.inputs)
        self.outputs = tuple(_tensor_spec(name, port, shapes) for port in self._model.outputs)

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run once; see the protocol. New shapes are compiled first, which takes seconds with large weights."""
        if self._model is None:
            raise EngineError(f"{self._name}: the engine is closed; open it again")
        cast = check_feeds(self._name, self.inputs, feeds)
        shapes = tuple(array.shape for array in cast.values())
        try:
            request = self._requests.pop(shapes, None) or self._compile(self._model, shapes)
            for index, array in enumerate(cast.values()):
                np.copyto(request.get_input_tensor(index).data, array)
            request.infer()
            results = [request.get_output_tensor(index).data.copy() for index in range(len(self.outputs))]
        except Exception as error:  # as in openvino.build
            raise EngineError(f"{self._name}: OpenVINO failed: {explain(error, INSTEAD, SMALLER)}") from error
        self._requests[shapes] = request
        return {spec.name: result for spec, result in zip(self.outputs, results, strict=True)}

    def close(self) -> None:
        """Free the weights."""
        self._requests.clear()
        self._model = self._weights = None

    def _compile(self, model: openvino.Model, shapes: Shapes) -> Any:
        """Compile for one set of shapes, in the inputs' order, and give the request that runs it; the oldest one goes first."""
        while len(self._requests) >= kept_shapes(0 if self._weights is None else len(self._weights)):
            del self._requests[next(iter(self._requests))]
        model.reshape({spec.name: list(shape) for spec, shape in zip(self.inputs, shapes, strict=True)})
        with _letting_go(self._weights):
            return self._core.compile_model(model, "CPU", self._settings).create_infer_request()


def kept_shapes(weights_bytes: int) -> int:
    """Return for how many shapes a network of so many bytes of weights stays compiled."""
    return min(max(KEPT_BYTES // max(weights_bytes, 1), KEPT_SHAPES), MOST_SHAPES)


def _map(path: Path) -> mmap.mmap | None:
    """Map a file of weights, which nothing writes to though OpenVINO wants memory that could be; None where it is empty."""
    with path.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY) if path.stat().st_size else None


def _read(core: openvino.Core, path: Path, weights: mmap.mmap | None) -> openvino.Model:
    if weights is None:
        return core.read_model(path)
    return core.read_model(path.read_bytes(), openvino.Tensor(np.frombuffer(weights, np.uint8), shared_memory=True))


@contextlib.contextmanager
def _letting_go(weights: mmap.mmap | None) -> Iterator[None]:
    """Meanwhile, and at the end, drop the mapped pages: what is still needed comes back from the system's page cache."""
    if weights is None or not CAN_LET_GO:
        yield
        return
    done = threading.Event()

    def drop() -> None:
        while not done.wait(LET_GO_SECONDS):
            weights.madvise(mmap.MADV_DONTNEED)
        weights.madvise(mmap.MADV_DONTNEED)

    dropper = threading.Thread(target=drop, name="sd2rt-let-go", daemon=True)
    dropper.start()
    try:
        yield
    finally:
        done.set()
        dropper.join()


def _tensor_spec(engine: str, port: Any, shapes: Mapping[str, list[str | int]]) -> TensorSpec:
    """Describe an input or output. Raises EngineError for a type that is no number."""
    name, kind = port.any_name, port.element_type.get_type_name()
    if kind not in DTYPES:
        raise EngineError(f"{engine}: got {name} of type {kind}; expected one of {', '.join(DTYPES.values())}: export it again")
    return TensorSpec(name=name, dtype=DTYPES[kind], shape=tuple(shapes[name]))
