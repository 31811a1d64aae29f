"""What a graph's values are made by and from."""

import numpy as np
from onnx import helper

from sd2rt.engine.graph_nodes import subgraph
from tests.engine.graphs import graph


def test_a_subgraph_has_what_its_nodes_read_and_one_output() -> None:
    nodes = [helper.make_node("Add", ["x", "one"], ["more"]), helper.make_node("Mul", ["more", "two"], ["y"])]
    weights = {"one": np.array(1, np.float32), "two": np.array(2, np.float32)}
    values = [(name, "float32", ["batch"]) for name in ("x", "unread", "y", "more")]
    whole = graph(nodes, values[:2], values[2:], weights).graph
    cut = subgraph(whole, nodes[:1], name="cut", output="more")
    assert (cut.name, [*cut.node]) == ("cut", nodes[:1])
    assert [tensor.name for tensor in cut.initializer] == ["one"]
    assert [value.name for value in cut.input] == ["x", "unread"]
    assert [value.name for value in cut.output] == ["more"]
