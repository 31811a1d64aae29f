"""Replace one node of an onnx_ir graph by several: collect the new ones, then put them in its place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Attribute = int | float | str | Sequence[int] | ir.TensorProtocol


class Splice:
    """The nodes that will stand where an old one stood, in order."""

    def __init__(self) -> None:
        self.nodes: list[ir.Node] = []

    def add(self, op_type: str, *inputs: ir.Value | None, domain: str = "", **attributes: Attribute) -> ir.Value:
        """Add a node and return its output."""
        self.nodes.append(ir.node(op_type, inputs, attributes, domain=domain))
        return self.nodes[-1].outputs[0]

    def constant(self, value: npt.ArrayLike) -> ir.Value:
        """Add a constant and return its value. Lists of int become int64, as ONNX's shapes are."""
        self.nodes.append(ir.node("Constant", [], {"value": ir.tensor(np.asarray(value))}))
        return self.nodes[-1].outputs[0]

    def replace(self, graph: ir.Graph, node: ir.Node, value: ir.Value, output: int = 0) -> None:
        """Insert the nodes before `node` and let `value` stand wherever that output of its did, as the graph's output too.

        `node` stays, without users of that output: onnx_ir's RemoveUnusedNodesPass takes it away.
        """
        old = node.outputs[output]
        value.type, value.shape = old.type, old.shape
        if old.is_graph_output():
            value.name, old.name = old.name, None
        graph.insert_before(node, self.nodes)
        ir.convenience.replace_all_uses_with(old, value, replace_graph_outputs=True)
