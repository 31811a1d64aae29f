"""A component's graph as an engine is built from it: read, checked, and merged with what its form puts around it, or cut as it says.

Weights stay in the component's own data files, which the graph names; the fused graph names them in the same way.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from sd2rt.engine.deep_graph import cut_deep
from sd2rt.engine.errors import BuildError, BundleError
from sd2rt.engine.pixel_graph import fuse_pixels
from sd2rt.engine.spec import ComponentFiles, DeepForm, Form, PixelForm, StepForm, TextForm
from sd2rt.engine.step_graph import fuse_step
from sd2rt.engine.text_graph import cut_text

FUSED_NAME = "fused.onnx"


def apply_form(files: ComponentFiles, form: Form) -> onnx.ModelProto:
    """Return the component's graph in its form. Weights are not read: they are named as before, relative to the component's folder.

    Raises BundleError when the graph cannot be read or names data outside the component, BuildError when the form does not fit it,
    InvalidArgument when it leaves out more layers than there are.
    """
    model = _read(files)
    try:
        if isinstance(form, StepForm):
            return fuse_step(model, form.guidance, kept=form.kept)
        if isinstance(form, PixelForm):
            return fuse_pixels(model, form.scaling_factor)
        if isinstance(form, DeepForm):
            return cut_deep(model, form)
        if isinstance(form, TextForm):
            return cut_text(model, form)
    except BuildError as error:
        raise BuildError(f"{files.name}: {error}") from error
    return model


def write_form(files: ComponentFiles, form: Form, folder: Path) -> Path:
    """Write the component's graph in its form, with its weights beside it, into `folder`; return the graph's path.

    The weights are hard links where the file system has them, since ONNX Runtime follows no symbolic link out of a graph's folder.
    Raises as `apply_form` does, and OSError.
    """
    model = apply_form(files, form)
    for data in files.data:
        _link(data.resolve(), folder / data.name)
    path = folder / FUSED_NAME
    path.write_bytes(model.SerializeToString())
    return path


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _read(files: ComponentFiles) -> onnx.ModelProto:
    """Read the graph without its weights. Only the component's own data files, which the caller has hashed, may be named."""
    try:
        model = onnx.load(files.onnx, load_external_data=False)
    except Exception as error:  # protobuf raises several unrelated types on damaged files
        raise BundleError(f"{files.onnx}: not a readable ONNX graph; export the bundle again") from error
    own = {data.name for data in files.data if data.parent == files.onnx.parent}
    roots = (model.graph, *model.functions)
    for scope in (*roots, *(graph for root in roots for graph in _subgraphs(root))):
        for tensor in filter(uses_external_data, _weights(scope)):
            location = ExternalDataInfo(tensor).location
            if location not in own:
                raise BundleError(f"{files.onnx}: weight {tensor.name!r} lies in {location!r}; expected one of {sorted(own)}")
        for node in scope.node:
            for attribute in node.attribute:
                _refuse_external(files, node, attribute)
    return model


def _refuse_external(files: ComponentFiles, node: onnx.NodeProto, attribute: onnx.AttributeProto) -> None:
    """Raise BundleError when a tensor in an attribute, such as a Constant's value, lies in a file: bundles have none."""
    sparse = (attribute.sparse_tensor, *attribute.sparse_tensors)
    tensors = (attribute.t, *attribute.tensors, *(part for tensor in sparse for part in (tensor.values, tensor.indices)))
    for tensor in filter(uses_external_data, tensors):
        where = f"{attribute.name!r} of a {node.op_type} lies in {ExternalDataInfo(tensor).location!r}"
        raise BundleError(f"{files.onnx}: {where}; expected it in the graph: export the bundle again")


def _subgraphs(root: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.GraphProto]:
    """Give the graphs in the attributes of a graph's or function's nodes, and those in them."""
    for attribute in (attribute for node in root.node for attribute in node.attribute):
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield graph
            yield from _subgraphs(graph)


def _weights(scope: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.TensorProto]:
    """Give the initializers of a graph; functions have none."""
    if isinstance(scope, onnx.GraphProto):
        yield from scope.initializer
        for sparse in scope.sparse_initializer:
            yield from (sparse.values, sparse.indices)
