"""DeepCache (Ma et al. 2023, arXiv 2312.00858) as two cuts of one UNet graph: what lies deep changes little from step to step.

    full      the whole UNet, and as one more output the feature map that enters its last `branch` layers of the way up
    shallow   the UNet without what only that map is made of: its weights are those of a few layers

A runtime opens both from the same component, with the same `branch` (the paper's code counts from 0: its branch 0 is 1 here):

    full = open_engine(files, replace(options, form=DeepForm(part=DeepPart.FULL, branch=1)))
    shallow = open_engine(files, replace(options, form=DeepForm(part=DeepPart.SHALLOW, branch=1)))
    full.run({"sample", "timestep", "encoder_hidden_states"[, "class_labels"]})  ->  "out_sample", "deep_features"
    shallow.run({the same, "deep_features": of a full step before})              ->  "out_sample"

`deep_features` is [rows of the UNet, channels, height, width] of the UNet's own dtype ("float32" on the host), rows in the order of
`sample`'s; smaller by a power of two where `branch` reaches beyond the last up block. The forms are graphs like any other for targets
that run on the host; nothing merges them with a sampler's step.

The cut is found by what the graph computes, whatever its names: on the way up, a layer joins the map with a skip, one that the
map itself was made from. Weights are not read. Knows no engine and no sampler.
"""

from __future__ import annotations

import onnx
from onnx import helper

from sd2rt.engine.errors import BuildError
from sd2rt.engine.graph_nodes import Nodes, subgraph
from sd2rt.engine.graph_text import Tensor, tensors, with_graph
from sd2rt.engine.spec import DEEP_FEATURES, DeepForm, DeepPart
from sd2rt.engine.step_graph import INPUTS, OUTPUT

KEEP_CHANNELS = ("Add", "Sub", "Mul", "Div", "Identity", "Resize", "Cast")
GROWING = ("Resize", "Upsample", "ConvTranspose")


def cut_deep(unet: onnx.ModelProto, form: DeepForm) -> onnx.ModelProto:
    """Return one of the two graphs. Raises BuildError when the graph is no UNet, or one without such a cut."""
    sample = tensors(unet, INPUTS, [OUTPUT], oldest_opset=0)["sample"]
    nodes = Nodes(unet.graph)
    feature = _find_feature(nodes, form.branch)
    kept = [nodes.list[index] for index in nodes.needed(OUTPUT, without=feature)]
    value = _declare(nodes, feature, sample, full_size=not any(node.op_type in GROWING for node in kept))
    return _full(unet, feature, value) if form.part is DeepPart.FULL else _shallow(unet, kept, feature, value)


def _find_feature(nodes: Nodes, branch: int) -> str:
    """Return the map that enters the last `branch` layers of the way up."""
    joins = [joined for node in nodes.list if (joined := _joined_map(nodes, node))]
    if not joins:
        raise BuildError("got a graph without layers that join their input with a skip; expected a UNet: this one cannot be cut")
    if branch > len(joins):
        raise BuildError(f"branch: got {branch}; expected 1 to {len(joins)}, the layers of this UNet that join a skip")
    return joins[-branch]


def _joined_map(nodes: Nodes, node: onnx.NodeProto) -> str:
    """Return which input of a layer's Concat is the map, the other being a skip that the map was made from; "" for other nodes."""
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), None)
    if node.op_type != "Concat" or axis not in (1, -3) or len(node.input) != 2:
        return ""
    first, second = str(node.input[0]), str(node.input[1])
    for feature, skip in ((first, second), (second, first)):
        source = nodes.producer.get(skip)
        if source is not None and feature != skip and source in nodes.needed(feature):
            return feature
    return ""


def _declare(nodes: Nodes, feature: str, sample: Tensor, *, full_size: bool) -> onnx.ValueInfoProto:
    """Declare the map, of the sample's axes if it is as large: bundles say nothing of a graph's inner values."""
    kind = _kind(nodes, feature)
    if kind is None:
        raise BuildError(f"got a map {feature!r} of unknown channels; expected one that a convolution makes: export the bundle again")
    batch, _, *sides = sample.axes
    shape = [batch, kind[1], *(sides if full_size else ("deep_height", "deep_width"))]
    return helper.make_tensor_value_info(DEEP_FEATURES, kind[0], shape)


def _conv_weight(nodes: Nodes, name: str) -> tuple[int, int] | None:
    """Return the element type and output channels of a weight, which may be int8 that is made float again; None where there is none."""
    narrow = nodes.producer.get(name)
    if narrow is None:
        return (nodes.weights[name].data_type, nodes.weights[name].dims[0]) if name in nodes.weights else None
    node = nodes.list[narrow]
    if node.op_type != "DequantizeLinear" or not {*node.input} <= nodes.weights.keys():
        return None
    return nodes.weights[node.input[1]].data_type, nodes.weights[node.input[0]].dims[0]


def _kind(nodes: Nodes, value: str) -> tuple[int, int] | None:
    """Return the element type and channels of what a convolution makes, or None."""
    if value not in nodes.producer:
        return None
    node = nodes.list[nodes.producer[value]]
    if node.op_type == "Conv" and (weight := _conv_weight(nodes, node.input[1])):
        return weight
    if node.op_type not in KEEP_CHANNELS:
        return None
    kind = next((found for name in node.input if (found := _kind(nodes, name))), None)
    if node.op_type == "Cast" and kind is not None:
        return next(attribute.i for attribute in node.attribute if attribute.name == "to"), kind[1]
    return kind


def _full(unet: onnx.ModelProto, feature: str, value: onnx.ValueInfoProto) -> onnx.ModelProto:
    """Return the whole graph, which gives the map too."""
    graph = onnx.GraphProto()
    graph.CopyFrom(unet.graph)
    graph.node.append(helper.make_node("Identity", [feature], [DEEP_FEATURES], name=DEEP_FEATURES))
    graph.output.append(value)
    return with_graph(unet, graph)


def _shallow(unet: onnx.ModelProto, kept: list[onnx.NodeProto], feature: str, value: onnx.ValueInfoProto) -> onnx.ModelProto:
    """Return a graph of some nodes, whose inputs are the UNet's, read or not, and the map."""
    given = helper.make_node("Identity", [DEEP_FEATURES], [feature], name=DEEP_FEATURES)
    graph = subgraph(unet.graph, [given, *kept], name="shallow", output=OUTPUT)
    graph.input.append(value)
    return with_graph(unet, graph)
