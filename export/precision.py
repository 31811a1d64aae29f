"""Which arithmetic each part of a graph uses. A canonical graph says it itself: strongly typed engines take it as it is.

Rules for fp16 bundles: weights and activations are float16; the sinusoidal time embedding is computed in float32 from a float32
timestep (torch's module does so, and tracing keeps it); group and layer norm take their statistics in float32 (`stash_type` 1);
models that ask for `upcast_attention` run attention in float32; the upscaler's VAE stays float32 as a whole. The depth estimator
is float16 as the rest: its kernels are standardized in float32 before, and diffusers runs it under float16 autocast too.
"""

import onnx_ir as ir

STASHING = ("GroupNormalization", "LayerNormalization")


def stash_norms_in_float32(model: ir.Model) -> None:
    """Say on every group and layer norm that mean and variance are float32 whatever the input is."""
    for node in model.graph:
        if node.op_type in STASHING:
            node.attributes["stash_type"] = ir.AttrInt64("stash_type", 1)


def upcast_attention(model: ir.Model) -> None:
    """Cast q, k and v of every Attention to float32 and its result back to float16.

    diffusers' scaled-dot-product processor ignores `upcast_attention`, so a plain export overflows where q . k exceeds 65,504.
    """
    for node in list(model.graph):
        if node.op_type != "Attention":
            continue
        for index, value in enumerate(node.inputs[:3]):
            cast = ir.node("Cast", [value], attributes={"to": ir.DataType.FLOAT})
            model.graph.insert_before(node, cast)
            node.replace_input_with(index, cast.outputs[0])
        back = ir.node("Cast", [node.outputs[0]], attributes={"to": ir.DataType.FLOAT16})
        node.outputs[0].replace_all_uses_with(back.outputs[0])
        back.replace_input_with(0, node.outputs[0])
        model.graph.insert_after(node, back)
