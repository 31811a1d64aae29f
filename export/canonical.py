"""From torch's translation to the graph a bundle keeps: small, readable, and with weights that can be found again.

How names map. Every parameter of the component is one initializer with the parameter's name in the checkpoint (for the text
encoder "text_model.…" as published, for the VAE halves "decoder.…", "post_quant_conv.…" and so on). A Linear's weight that a MatMul
reads is stored transposed, [in, out], and named `<parameter>` + TRANSPOSED. So the state dict is

    {name.removesuffix(TRANSPOSED): array.T if name.endswith(TRANSPOSED) else array for every initializer in no constant's name}

with constants named CONSTANT + a number. Equal parameters are never merged.
"""

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
from onnxscript import optimizer, rewriter
from onnxscript.rewriter.rules import common as rules

from sd2rt.export.components import Component

TRANSPOSED = ".transposed"
CONSTANT = "constant."
# Not onnxscript's default rules: those drop biases that happen to be zero, and so depend on the checkpoint.
TIDYING_RULES = (
    *rules.mul_by_1_rule.commute(),
    rules.div_by_1_rule,
    rules.collapse_slice_rule,
    rules.collapse_slice2_rule,
    rules.no_op_cast_rule,
    rules.no_op_transpose_rule,
    rules.squeeze_reshape_1d_rule,
    rules.unsqueeze_unsqueeze_rule,
    rules.normalize_pad_format_conv_rule,
    rules.fuse_pad_into_conv_rule,
)


def canonicalize(model: ir.Model, component: Component) -> None:
    """Rewrite the traced model in place into its canonical form."""
    parameters = _rename_parameters(model, component)
    _transpose_linear_weights(model, parameters)
    _batch_from_first_input(model)
    optimizer.fold_constants_ir(model, onnx_shape_inference=True)
    rewriter.rewrite(model, TIDYING_RULES)
    _simplify_reshapes(model)
    _clean(model)
    _name_constants(model, parameters)
    _set_interface(model, component)


def _rename_parameters(model: ir.Model, component: Component) -> set[str]:
    """Give initializers the checkpoint's parameter names; return them."""
    names = set()
    for value in list(model.graph.initializers.values()):
        name = str(value.name)
        for old, new in component.prefixes:
            if name.startswith(old):
                value.name = new + name.removeprefix(old)
                break
        names.add(str(value.name))
    return names


def _transpose_linear_weights(model: ir.Model, parameters: set[str]) -> None:
    """Store weights that are only read transposed as they are read, one at a time while the file is written."""
    for node in list(model.graph):
        weight = node.inputs[0] if node.op_type == "Transpose" else None
        if weight is None or weight.name not in parameters or weight.const_value is None or weight.const_value.shape.rank() != 2:
            continue
        value = _transposed(f"{weight.name}{TRANSPOSED}", weight.const_value)
        model.graph.register_initializer(value)
        node.outputs[0].replace_all_uses_with(value)
        model.graph.remove(node, safe=True)
        parameters.add(str(value.name))


def _transposed(name: str, tensor: ir.TensorProtocol) -> ir.Value:
    def transpose() -> ir.TensorProtocol:
        return ir.tensor(np.ascontiguousarray(tensor.numpy().T))

    rows, columns = tensor.shape.numpy()
    shape = ir.Shape((columns, rows))
    lazy = ir.LazyTensor(transpose, dtype=tensor.dtype, shape=shape, name=name)
    return ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=lazy)


def _batch_from_first_input(model: ir.Model) -> None:
    """Read the batch size from `sample` even where torch read it from `timestep`, which some callers pass with one row."""
    first = model.graph.inputs[0]
    for value in model.graph.inputs[1:]:
        for node in [use.node for use in value.uses() if use.node.op_type == "Shape"]:
            if node.attributes.get_int("start", 0) == 0 and node.attributes.get_int("end", 1) == 1:
                node.replace_input_with(0, first)


def _simplify_reshapes(model: ir.Model) -> None:
    """Write target shapes as constants (0: as the input's, -1: what is left) where the traced shapes allow it.

    Otherwise only the axes that equal the input's become 0, as in [batch, tokens, C] -> [batch, height, width, C].
    """
    for node in model.graph:
        data, wanted = (*node.inputs, None, None)[:2]
        if node.op_type != "Reshape" or data is None or wanted is None or wanted.const_value is not None:
            continue
        source, target = data.shape, node.outputs[0].shape
        if source is None or target is None:
            continue
        kept = [i < len(source) and source[i] == axis for i, axis in enumerate(target)]
        sizes = [0 if keep else axis if isinstance(axis, int) else -1 for keep, axis in zip(kept, target, strict=True)]
        concat = wanted.producer()
        if sizes.count(-1) <= 1:
            node.replace_input_with(1, _constant(model, sizes))
        elif concat is not None and concat.op_type == "Concat" and len(concat.inputs) == len(sizes):
            pieces = [_constant(model, [0]) if keep else piece for keep, piece in zip(kept, concat.inputs, strict=True)]
            joined = ir.node("Concat", pieces, attributes={"axis": 0})
            model.graph.insert_before(node, joined)
            node.replace_input_with(1, joined.outputs[0])
        node.attributes["allowzero"] = ir.AttrInt64("allowzero", 0)


def _constant(model: ir.Model, numbers: list[int]) -> ir.Value:
    """Return the int64 initializer [len(numbers)] with these numbers, made on first use."""
    name = "shape." + ".".join(map(str, numbers))
    if name not in model.graph.initializers:
        tensor, shape = ir.tensor(np.array(numbers, np.int64), name=name), ir.Shape((len(numbers),))
        model.graph.register_initializer(ir.Value(name=name, type=ir.TensorType(ir.DataType.INT64), shape=shape, const_value=tensor))
    return model.graph.initializers[name]


def _clean(model: ir.Model) -> None:
    """Drop what nothing reads, share equal nodes, and remove torch's stack traces and doc strings."""
    for step in (
        common_passes.IdentityEliminationPass(),
        common_passes.CommonSubexpressionEliminationPass(),
        common_passes.RemoveUnusedNodesPass(),
        common_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common_passes.RemoveUnusedFunctionsPass(),
        common_passes.RemoveUnusedOpsetsPass(),
        common_passes.OutputFixPass(),
        common_passes.ClearMetadataAndDocStringPass(),
    ):
        step(model)


def _name_constants(model: ir.Model, parameters: set[str]) -> None:
    """Merge equal constants and name them apart from parameters."""
    kept: dict[tuple[object, ...], ir.Value] = {}
    for value in list(model.graph.initializers.values()):
        if value.name in parameters or value.const_value is None:
            continue
        array = value.const_value.numpy()
        key = (array.dtype.str, array.shape, array.tobytes())
        if key in kept:
            value.replace_all_uses_with(kept[key])
            del model.graph.initializers[str(value.name)]
        else:
            kept[key] = value
            value.name = f"{CONSTANT}{len(kept) - 1}"


def _set_interface(model: ir.Model, component: Component) -> None:
    """Name inputs, outputs and their free axes, forget what torch noted about all other values, and say who made the graph."""
    for values, specs in ((model.graph.inputs, component.inputs), (model.graph.outputs, component.outputs)):
        for value, spec in zip(values, specs, strict=True):
            value.name, value.shape = spec.name, ir.Shape(spec.shape)
            value.metadata_props.clear()
    inner = (value for node in model.graph for value in node.outputs if not value.is_graph_output())
    for value in (*inner, *model.graph.initializers.values()):
        value.shape = value.type = None
        value.metadata_props.clear()
    model.graph.name = component.name
    model.producer_name = "sd2rt"
    model.producer_version = None
