from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper
from onnx_ir.passes.common import RemoveUnusedNodesPass

from sd2rt.engine import lower_winograd
from sd2rt.engine.lower_winograd import AT, BT, CHANNELS, lower_convolutions
from tests.engine.graphs import graph, relative_error

CHANNELS_OUT = 32
PICTURE = ["batch", 16, "height", "width"]


@pytest.fixture(autouse=True)
def _few_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' convolutions are small."""
    monkeypatch.setattr(lower_winograd, "CHANNELS", 16)


def weights(*shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def convolution(
    kernel: tuple[int, int] = (3, 3), bias: bool = True, channels: int = 16, given: bool = False, **attributes: Any
) -> onnx.ModelProto:
    """Return a Conv of x [batch, channels, height, width]; with `given`, its weight is an input."""
    attributes = {"pads": [1, 1, 1, 1], **attributes}
    values = {"w": weights(CHANNELS_OUT, channels // attributes.get("group", 1), *kernel), "b": weights(CHANNELS_OUT)}
    inputs: list[Any] = [("x", "float32", ["batch", channels, "height", "width"])]
    if given:
        inputs.append(("w", "float32", list(values.pop("w").shape)))
    node = helper.make_node("Conv", ["x", "w", *(["b"] if bias else [])], ["y"], **attributes)
    return graph([node], inputs, [("y", "float32", None)], values)


def lowered(model: onnx.ModelProto) -> onnx.ModelProto:
    made = ir.from_proto(model)
    lower_convolutions(made)
    RemoveUnusedNodesPass()(made)
    result = ir.to_proto(made)
    onnx.checker.check_model(result, full_check=True)
    return result


def groups(model: onnx.ModelProto) -> int:
    """Count the convolutions in groups, of which every replaced one has one."""
    return sum(attribute.name == "group" and attribute.i == 6 for node in model.graph.node for attribute in node.attribute)


def run(model: onnx.ModelProto, x: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: npt.NDArray[Any] = session.run(None, {"x": x})[0]
    return result


@pytest.mark.parametrize("height", [1, 2, 3, 4, 5, 7, 8, 16])
@pytest.mark.parametrize("width", [1, 6])
def test_a_picture_of_any_size_is_convolved(height: int, width: int) -> None:
    model = convolution()
    after = lowered(model)
    assert groups(after) == 1
    x = weights(2, 16, height, width)
    assert run(after, x).shape == (2, CHANNELS_OUT, height, width)
    assert relative_error(run(after, x), run(model, x)) < 1e-5


def test_the_matrices_are_a_convolution() -> None:
    """In exact arithmetic: AT ((G g) * (BT d)) are the four sums of three products."""
    d, g = np.arange(6) + 1.0, np.array([2.0, 3.0, 5.0])
    products = (np.array(lower_winograd.G) @ g) * (np.array(BT) @ d)
    np.testing.assert_allclose(np.array(AT) @ products, [g @ d[row : row + 3] for row in range(4)], rtol=1e-12)


def test_attributes_that_say_what_holds_anyway_change_nothing() -> None:
    model = convolution(group=1, strides=[1, 1], dilations=[1, 1], kernel_shape=[3, 3], auto_pad="NOTSET")
    assert groups(lowered(model)) == 1


@pytest.mark.parametrize(
    "model",
    [
        convolution(kernel=(1, 1), pads=[0, 0, 0, 0]),
        convolution(pads=[0, 0, 0, 0]),
        convolution(strides=[2, 2]),
        convolution(dilations=[2, 2], pads=[2, 2, 2, 2]),
        convolution(group=2),
        convolution(channels=24),
        convolution(bias=False),
        convolution(given=True),
    ],
    ids=["1x1", "no pads", "stride", "dilation", "groups", "odd channels", "no bias", "weights that callers give"],
)
def test_others_are_left_alone(model: onnx.ModelProto) -> None:
    assert list(lowered(model).graph.node) == list(ir.to_proto(ir.from_proto(model)).graph.node)


def test_few_channels_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower_winograd, "CHANNELS", CHANNELS)
    assert groups(lowered(convolution(channels=240))) == 0


def test_small_pictures_are_left_alone() -> None:
    """They are halved three times, and doubled three times: by a factor, to another picture's size, and to one that is computed."""
    shape = {"x": PICTURE}
    values: dict[str, npt.NDArray[Any]] = {"w": weights(16, 16, 3, 3), "b": weights(16), "two": np.array([1, 1, 2, 2], np.float32)}
    nodes, at = [], "x"

    def add(op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op_type, inputs, [output], **attributes))
        return output

    for level in range(3):
        add("Conv", [at, "w", "b"], f"same{level}", pads=[1, 1, 1, 1])
        at = add("Conv", [f"same{level}", "w", "b"], f"down{level}", pads=[1, 1, 1, 1], strides=[2, 2])
    add("Conv", [at, "w", "b"], "same3", pads=[1, 1, 1, 1])
    add("Resize", ["same3", "", "two"], "up2", mode="nearest")
    at = add("Conv", ["up2", "w", "b"], "convolved2", pads=[1, 1, 1, 1])
    add("Shape", [at], "shape2", end=2)
    add("Shape", ["same1"], "shape1", start=2)
    add("Concat", ["shape2", "shape1"], "size1", axis=0)
    add("Resize", [at, "", "", "size1"], "up1", mode="nearest")
    add("Conv", ["up1", "w", "b"], "convolved1", pads=[1, 1, 1, 1])
    add("Concat", ["convolved1", "same1"], "joined", axis=1)
    add("Split", ["joined"], "unused", axis=1, num_outputs=2)
    nodes[-1].output.append("half")
    add("Resize", ["half", "", "two"], "up0", mode="nearest")
    add("Conv", ["up0", "w", "b"], "y", pads=[1, 1, 1, 1])
    model = graph(nodes, [(name, "float32", dims) for name, dims in shape.items()], [("y", "float32", PICTURE)], values, infer=False)
    after = lowered(model)
    left = {node.output[0] for node in after.graph.node if node.op_type == "Conv"} & {name for node in nodes for name in node.output}
    assert left == {"down0", "down1", "down2", "same2", "same3", "convolved2"}
    x = weights(1, 16, 16, 24)
    assert relative_error(run(after, x), run(model, x)) < 1e-5
