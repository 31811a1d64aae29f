"""One sampling step as one ONNX graph: what comes before the UNet, the UNet, and what comes after it.

    before   row = table[step]; sample = registers[0] * in_scale, then the extra channels, doubled where guided; timestep = t
    UNet     sample, timestep, encoder_hidden_states and what else it takes, such as class_labels -> out_sample
    after    guidance -> output; registers' = W . [registers, output, noise]; denoised; next step
    kept     register 0' = level + mask * (register 0' - level), where level = known_alpha * known + known_sigma * known_noise

The arithmetic is that of runtime/guidance.py, runtime/denoise.py and, for what is kept, runtime/start.py, in float32 whatever the UNet's
dtype; a weight of 0 keeps even NaN out, so that memory which a row has no use for need not be set. `denoised` is the model's prediction,
with what is kept put back in it too. Channels and dtypes are the UNet's own. Knows no sampler: the numbers are in the table (step_table).
"""

from __future__ import annotations

import onnx

from sd2rt.engine.errors import BuildError
from sd2rt.engine.graph_text import Tensor, connect, parse_graph, tensors, with_graph
from sd2rt.engine.spec import Guidance
from sd2rt.engine.step_table import REGISTERS, ROW, SCALARS, TABLE_ROWS

INPUTS = ("sample", "timestep", "encoder_hidden_states")
OUTPUT = "out_sample"


def fuse_step(unet: onnx.ModelProto, guidance: Guidance, *, kept: bool = False) -> onnx.ModelProto:
    """Merge the UNet with the step around it, and with what puts known latents back if some are `kept`.

    Raises BuildError when the graph is no UNet.
    """
    tensor = tensors(unet, INPUTS, [OUTPUT])
    channels = tensor[OUTPUT].channels
    if tensor["sample"].channels < channels:
        got = f"{tensor['sample'].channels} channels in, {channels} out"
        raise BuildError(
            f"got a UNet with {got}; expected no more out than in, latents: models that predict a variance too are not supported"
        )
    before = parse_graph(_before(tensor, channels, guidance, kept), unet, "before/")
    after = parse_graph(_after(tensor[OUTPUT], channels, guidance, kept), unet, "after/")
    graph = connect(connect(before, unet.graph), after)
    graph.name = "step"
    return with_graph(unet, graph)


def _before(tensor: dict[str, Tensor], channels: int, guidance: Guidance, kept: bool) -> str:
    """Write the graph from registers and table to the UNet's inputs; what the other graph needs passes through."""
    sample, timestep = tensor["sample"], tensor["timestep"]
    more = sample.channels - channels
    extra = f", float[images, {more}, height, width] extra" if more else ""
    level = ", float[1] known_alpha, float[1] known_sigma" if kept else ""
    return f"""
before (float[{REGISTERS}, images, {channels}, height, width] registers, float[{TABLE_ROWS}, {ROW}] table, int64[1] step{extra})
  => ({sample.dtype}[batch, {sample.channels}, height, width] sample, {timestep.dtype}[batch] timestep,
      float[images, {channels}, height, width] latents, float[{REGISTERS}, images, {channels}, height, width] old_registers,
      float[1] clean_latents, float[1] clean_output, float[{ROW - SCALARS}] weights, int64[1] next_step{level})
<int64 register_0 = {{0}}, int64[1] axis_0 = {{0}}, int64[1] one = {{1}}, int64[7] columns = {{1, 1, 1, 1, 1, 1, {ROW - SCALARS}}}>
{{
  rows = Gather <axis = 0> (table, step)
  row = Squeeze (rows, axis_0)
  t, in_scale, clean_latents, clean_output, known_alpha, known_sigma, weights = Split <axis = 0> (row, columns)
  next_step = Add (step, one)
  old_registers = Identity (registers)
  latents = Gather <axis = 0> (registers, register_0)
  scaled = Mul (latents, in_scale)
  image_rows = {"Concat <axis = 1> (scaled, extra)" if more else "Identity (scaled)"}
  unet_rows = {"Identity (image_rows)" if guidance is Guidance.PLAIN else "Concat <axis = 0> (image_rows, image_rows)"}
  sample = Cast <to = {sample.element_type}> (unet_rows)
  batch = Shape <start = 0, end = 1> (unet_rows)
  each_t = Expand (t, batch)
  timestep = Cast <to = {timestep.element_type}> (each_t)
}}"""


def _after(output: Tensor, channels: int, guidance: Guidance, kept: bool) -> str:
    """Write the graph from the UNet's output to the next registers."""
    latents = f"float[images, {channels}, height, width]"
    registers = f"float[{REGISTERS}, images, {channels}, height, width]"
    options = "" if guidance is Guidance.PLAIN else ", float[2] guidance"
    if kept:
        options += f", float[1] known_alpha, float[1] known_sigma, {latents} known, {latents} known_noise"
        options += ", float[images, 1, height, width] mask"
    return f"""
after ({output.dtype}[batch, {channels}, height, width] {OUTPUT}, {registers} old_registers, {latents} latents,
       float[1] clean_latents, float[1] clean_output, float[{ROW - SCALARS}] weights, {latents} noise{options})
  => ({registers} next_registers, {latents} denoised)
<int64[6] matrix = {{{REGISTERS}, {REGISTERS + 2}, 1, 1, 1, 1}}, int64[1] axis_0 = {{0}}, int64[1] axis_1 = {{1}},
 float[1] nothing = {{0}}{_CONSTANTS[guidance]}{f", int64[2] first = {{1, {REGISTERS - 1}}}" if kept else ""}>
{{
  prediction = Cast <to = {onnx.TensorProto.FLOAT}> ({OUTPUT})
{_OUTPUT[guidance]}
  output_term = Unsqueeze (output, axis_0)
  noise_term = Unsqueeze (noise, axis_0)
  stacked = Concat <axis = 0> (old_registers, output_term, noise_term)
  terms = Unsqueeze (stacked, axis_0)
  w = Reshape (weights, matrix)
  unused = Equal (w, nothing)
  used = Where (unused, nothing, terms)
  weighted = Mul (used, w)
  updated = ReduceSum <keepdims = 0> (weighted, axis_1)
{_KEPT if kept else "  next_registers = Identity (updated)"}
  of_latents = Mul (latents, clean_latents)
  of_output = Mul (output, clean_output)
  foreseen = Add (of_latents, of_output)
{_KEPT_FORESEEN if kept else "  denoised = Identity (foreseen)"}
}}"""


_GUIDED = """
  negative, positive = Split <axis = 0, num_outputs = 2> (prediction)
  scale, rescale = Split <axis = 0, num_outputs = 2> (guidance)
  difference = Sub (positive, negative)
  push = Mul (difference, scale)"""
# the two standard deviations have the same n - 1, so that of their ratio the L2 norms remain
_RESCALED = """
  guided = Add (negative, push)
  positive_mean = ReduceMean (positive, image_axes)
  positive_rest = Sub (positive, positive_mean)
  positive_spread = ReduceL2 (positive_rest, image_axes)
  guided_mean = ReduceMean (guided, image_axes)
  guided_rest = Sub (guided, guided_mean)
  guided_spread = ReduceL2 (guided_rest, image_axes)
  ratio = Div (positive_spread, guided_spread)
  matched = Mul (guided, ratio)
  of_matched = Mul (matched, rescale)
  rest = Sub (one, rescale)
  of_guided = Mul (guided, rest)
  output = Add (of_matched, of_guided)"""
_KEPT = """
  free, others = Split <axis = 0> (updated, first)
  clean_part = Mul (known, known_alpha)
  noise_part = Mul (known_noise, known_sigma)
  level = Add (clean_part, noise_part)
  change = Sub (free, level)
  painted = Mul (change, mask)
  blended = Add (level, painted)
  next_registers = Concat <axis = 0> (blended, others)"""
_KEPT_FORESEEN = """
  foreseen_change = Sub (foreseen, known)
  foreseen_part = Mul (foreseen_change, mask)
  denoised = Add (known, foreseen_part)"""
_OUTPUT = {
    Guidance.PLAIN: "  output = Identity (prediction)",
    Guidance.GUIDED: f"{_GUIDED}\n  output = Add (negative, push)",
    Guidance.RESCALED: f"{_GUIDED}{_RESCALED}",
}
_CONSTANTS = {Guidance.PLAIN: "", Guidance.GUIDED: "", Guidance.RESCALED: ", int64[3] image_axes = {1, 2, 3}, float[1] one = {1}"}
