"""Triton's published schema, and what a server that keeps to it does with a repository: check, reshape, join, and run the graphs."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from sd2rt.engine.spec import TensorSpec

Arrays = Mapping[str, npt.NDArray[Any]]
NUMPY = {"TYPE_FP32": "float32", "TYPE_FP16": "float16", "TYPE_INT64": "int64", "TYPE_INT32": "int32"}


@cache
def schema() -> Any:
    """Return model_config.proto as the wheel tritonclient has it; the rest of the wheel, which needs gRPC, is not imported."""
    found = importlib.util.find_spec("tritonclient")
    if found is None or not found.submodule_search_locations:
        pytest.skip("tritonclient is not installed, which has Triton's schema: pip install 'sd2rt[dev]'")
    path = Path(found.submodule_search_locations[0]) / "grpc/model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("triton_model_config", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_config(text: str) -> Any:
    """Parse a config.pbtxt: unknown fields, wrong types and unknown words of enumerations raise ParseError."""
    from google.protobuf import text_format

    return text_format.Parse(text, schema().ModelConfig())


class ServedModel:
    """One model of a repository behind its config, as an engine of ours: what requests may be comes from the config alone."""

    def __init__(self, folder: Path) -> None:
        self.config = read_config((folder / "config.pbtxt").read_text())
        version = max(int(path.name) for path in folder.iterdir() if path.is_dir())
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        graph = folder / str(version) / "model.onnx"
        self.session = onnxruntime.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])
        self.inputs = self._specs(self.config.input)
        self.outputs = self._specs(self.config.output)
        self.rows: list[int] = []

    def run(self, feeds: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Take one request, as Triton checks it, and answer it."""
        rows = {len(array) for array in feeds.values()}
        assert len(rows) == 1
        self.rows.append(rows.pop())
        assert self.rows[-1] <= self.config.max_batch_size
        shaped = {tensor.name: self._reshape(tensor, feeds[tensor.name]) for tensor in self.config.input}
        assert set(shaped) == set(feeds)
        names = [tensor.name for tensor in self.config.output]
        return dict(zip(names, self.session.run(names, shaped), strict=True))

    def close(self) -> None:
        """Do nothing."""

    def _specs(self, tensors: Iterable[Any]) -> tuple[TensorSpec, ...]:
        types = schema().DataType
        return tuple(
            TensorSpec(name=tensor.name, dtype=NUMPY[types.Name(tensor.data_type)], shape=("rows", *map(str, tensor.dims)))
            for tensor in tensors
        )

    def _reshape(self, tensor: Any, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Cast as a client does, send with the axes that the config asks for, and give the model what it says of reshaping."""
        dtype = NUMPY[schema().DataType.Name(tensor.data_type)]
        sent = np.asarray(array, dtype)
        if sent.ndim == 1:
            sent = sent[:, np.newaxis]
        assert sent.ndim == 1 + len(tensor.dims)
        assert all(asked in (-1, size) for asked, size in zip(tensor.dims, sent.shape[1:], strict=True))
        return sent.reshape(len(sent), *tensor.reshape.shape) if tensor.HasField("reshape") else sent
