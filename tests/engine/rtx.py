"""TensorRT-RTX's parser, which needs no GPU."""

from pathlib import Path

import onnx
import pytest

from sd2rt.engine.errors import TargetUnavailable
from sd2rt.engine.trt_library import open_library

Types = dict[str, str]


def parse(model: onnx.ModelProto, path: Path) -> tuple[Types, Types]:
    """Return the dtypes of inputs and outputs as the network has them; weights lie beside `path`. Skips without the library."""
    try:
        trt = open_library("tensorrt-rtx")
    except TargetUnavailable as error:
        pytest.skip(str(error))
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse(model.SerializeToString(), path=str(path.absolute()))
    assert parsed, [parser.get_error(index).desc() for index in range(parser.num_errors)]
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    return {tensor.name: tensor.dtype.name for tensor in inputs}, {tensor.name: tensor.dtype.name for tensor in outputs}
