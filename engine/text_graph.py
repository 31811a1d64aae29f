"""A text encoder without its last layers ("clip skip"): the states of an earlier one, through the final norm.

The layers are found by what the graph computes, whatever its names. Each adds to the stream of states twice, once what attention and once
what its feed-forward network makes of that stream: going back from the last such sum, the summand that the other one is made from is the
stream before. Weights are not read. Knows no engine.
"""

from __future__ import annotations

import onnx

from sd2rt.engine.errors import BuildError, InvalidArgument
from sd2rt.engine.graph_nodes import Nodes, reads, subgraph
from sd2rt.engine.graph_text import tensors, with_graph
from sd2rt.engine.spec import TextForm

IDS, STATES = "input_ids", "last_hidden_state"
SAME = ("Cast", "Identity")
SIZES = ("Shape", "Size")
SUMS_OF_A_LAYER = 2


def cut_text(encoder: onnx.ModelProto, form: TextForm) -> onnx.ModelProto:
    """Return the graph without the last `form.skip` layers.

    Raises InvalidArgument when no layer would be left, BuildError when the graph is no text encoder or has no layers that can be told.
    """
    tensors(encoder, [IDS], [STATES], oldest_opset=0)
    nodes = Nodes(encoder.graph)
    stream = _find_stream(nodes)
    layers = len(stream) // SUMS_OF_A_LAYER
    if form.skip >= layers:
        raise InvalidArgument(f"clip_skip: got {form.skip + 1}; expected 1 to {layers}, the layers of this model's text encoder")
    last, earlier = stream[0], stream[SUMS_OF_A_LAYER * form.skip]
    after = [_reading(nodes.list[index], last, earlier) for index in nodes.needed(STATES, without=last)]
    before = [nodes.list[index] for index in nodes.needed(earlier)]
    made = {name for node in before for name in node.output}
    kept = [*before, *(node for node in after if not made.issuperset(node.output))]
    return with_graph(encoder, subgraph(encoder.graph, kept, name="text", output=STATES))


def _find_stream(nodes: Nodes) -> list[str]:
    """Return the sums that make the stream, the last one first, whose number is even."""
    moving = _made_of_ids(nodes)
    sums = {nodes.list[index].output[0]: before for index in nodes.needed(STATES) if (before := _stream_before(nodes, index, moving))}
    stream = [*sums][-1:]
    while stream and (before := _origin(nodes, sums[stream[-1]])) in sums:
        stream.append(before)
    if not stream or len(stream) % SUMS_OF_A_LAYER:
        what = f"got a graph with {len(stream)} sums in its stream of states; expected {SUMS_OF_A_LAYER} for every layer"
        raise BuildError(f"{what}: layers of this text encoder cannot be left out")
    return stream


def _made_of_ids(nodes: Nodes) -> set[str]:
    """Return the values that depend on the ids themselves, rather than on how many there are."""
    moving = {IDS}
    for node in nodes.list:
        if node.op_type not in SIZES and not moving.isdisjoint(reads(node)):
            moving.update(node.output)
    return moving


def _stream_before(nodes: Nodes, index: int, moving: set[str]) -> str:
    """Return the summand of a sum that its other one is made from; "" for other nodes."""
    node = nodes.list[index]
    if node.op_type != "Add" or not moving.issuperset(node.input):
        return ""
    first, second = map(str, node.input)
    for stream, change in ((first, second), (second, first)):
        if nodes.producer[_origin(nodes, stream)] in nodes.needed(change):
            return stream
    return ""


def _origin(nodes: Nodes, value: str) -> str:
    """Return the value that this one is a copy of."""
    while nodes.list[nodes.producer[value]].op_type in SAME:
        value = nodes.list[nodes.producer[value]].input[0]
    return value


def _reading(node: onnx.NodeProto, old: str, new: str) -> onnx.NodeProto:
    """Return a node that reads another value."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [new if name == old else name for name in node.input]
    return copy
