"""The VAE decoder as one ONNX graph from a sampler's latents to pixels, so that one byte per colour leaves the device.

    latents / scaling_factor -> latent_sample -> decoder -> sample -> unit in [0, 1] -> pixels, bytes

The arithmetic is that of runtime/image.py, in float32 whatever the decoder's dtype. Knows no sampler.
"""

from __future__ import annotations

import numpy as np
import onnx

from sd2rt.engine.graph_text import Tensor, connect, parse_graph, tensors, with_graph

INPUT, OUTPUT = "latent_sample", "sample"


def fuse_pixels(decoder: onnx.ModelProto, scaling_factor: float) -> onnx.ModelProto:
    """Merge the decoder with what comes before and after it. Raises BuildError when the graph is no decoder."""
    tensor = tensors(decoder, [INPUT], [OUTPUT])
    before = parse_graph(_before(tensor[INPUT], scaling_factor), decoder, "before/")
    after = parse_graph(_after(tensor[INPUT], tensor[OUTPUT]), decoder, "after/")
    graph = connect(connect(before, decoder.graph), after)
    graph.name = "pixels"
    return with_graph(decoder, graph)


def _before(sample: Tensor, scaling_factor: float) -> str:
    """Write the graph from latents to the decoder's input."""
    latents = f"float[images, {sample.channels}, height, width]"
    return f"""
before ({latents} latents) => ({sample.dtype}[images, {sample.channels}, height, width] {INPUT}, {latents} checked_latents)
<float[1] scaling_factor = {{{float(np.float32(scaling_factor))!r}}}>
{{
  checked_latents = Identity (latents)
  scaled = Div (latents, scaling_factor)
  {INPUT} = Cast <to = {sample.element_type}> (scaled)
}}"""


def _after(latents: Tensor, output: Tensor) -> str:
    """Write the graph from the decoder's output to pixels; Round rounds half to even."""
    pictures = f"[images, image_height, image_width, {output.channels}]"
    return f"""
after ({output.dtype}[images, {output.channels}, image_height, image_width] {OUTPUT},
       float[images, {latents.channels}, height, width] checked_latents)
  => (uint8{pictures} pixels, float{pictures} unit, int32[1] broken)
<float[1] half = {{0.5}}, float nothing = {{0}}, float one = {{1}}, float[1] white = {{255}},
 int64[1] flat = {{-1}}, int64[1] axis_0 = {{0}}>
{{
  decoded = Cast <to = {onnx.TensorProto.FLOAT}> ({OUTPUT})
  halved = Mul (decoded, half)
  shifted = Add (halved, half)
  clamped = Clip (shifted, nothing, one)
  unit = Transpose <perm = [0, 2, 3, 1]> (clamped)
  scaled = Mul (unit, white)
  rounded = Round (scaled)
  pixels = Cast <to = {onnx.TensorProto.UINT8}> (rounded)
  all_latents = Reshape (checked_latents, flat)
  all_decoded = Reshape (decoded, flat)
  values = Concat <axis = 0> (all_latents, all_decoded)
  nan = IsNaN (values)
  infinite = IsInf (values)
  either = Or (nan, infinite)
  counted = Cast <to = {onnx.TensorProto.INT32}> (either)
  broken = ReduceMax (counted, axis_0)
}}"""
