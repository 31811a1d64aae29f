"""What a graph's values are made by and from: the nodes that a value needs, for cuts that are found by what a graph computes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx


class Nodes:
    """A graph's nodes, by number, and which of them make a value."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.list = list(graph.node)
        self.producer = {name: index for index, node in enumerate(self.list) for name in node.output if name}
        self.weights = {tensor.name: tensor for tensor in graph.initializer}

    def needed(self, value: str, without: str = "") -> list[int]:
        """Return the nodes that `value` is made by, in order; those that only `without` is made by are left out."""
        found: set[int] = set()
        wanted = [value]
        while wanted:
            index = self.producer.get(wanted.pop())
            if index is not None and index not in found:
                found.add(index)
                wanted.extend(name for name in reads(self.list[index]) if name != without)
        return sorted(found)


def subgraph(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto], *, name: str, output: str) -> onnx.GraphProto:
    """Return a graph of some nodes, in order, and the weights that they read; its inputs are the whole graph's, read or not."""
    names = {value for node in nodes for value in (*reads(node), *node.output)}
    cut = onnx.GraphProto(name=name)
    cut.node.extend(nodes)
    cut.initializer.extend(weight for weight in graph.initializer if weight.name in names)
    cut.input.extend(graph.input)
    cut.output.extend(value for value in graph.output if value.name == output)
    cut.value_info.extend(inner for inner in graph.value_info if inner.name in names)
    return cut


def reads(node: onnx.NodeProto) -> Iterable[str]:
    """Give the values that a node reads, in the graphs of its attributes too."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            for inner in graph.node:
                yield from reads(inner)
