"""One export from start to end: a checkpoint in, a complete and checked bundle folder out.

Components are loaded, traced, written and compared one after the other, each freed before the next, so that memory holds one model
at a time in float32.

What a bundle has for its task, beside what all have (`sample` of the UNet in this order of channels):

    inpainting       sample = latents 4, mask 1, masked image's latents 4
    depth-to-image   sample = latents 4, depth 1; component depth_estimator; feature_extractor/preprocessor_config.json, complete
    upscaling        sample = latents 4, noised low-resolution image 3, as large as the latents; class_labels = its noise level;
                     low_res_scheduler (in bundle.json, and low_res_scheduler/scheduler_config.json); max_noise_level

`native_size` is always the picture's: an upscaler takes native_size / latent_factor pixels, which is its latents' size too.
"""

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import diffusers
import onnx_ir as ir
import torch
import transformers

from sd2rt.export import components
from sd2rt.export.canonical import canonicalize
from sd2rt.export.checkpoint import Checkpoint
from sd2rt.export.components import Component
from sd2rt.export.defaults import sampling_defaults
from sd2rt.export.depth_estimator import depth_estimator
from sd2rt.export.lora import merge_loras
from sd2rt.export.options import ExportOptions, component_dtype
from sd2rt.export.precision import stash_norms_in_float32, upcast_attention
from sd2rt.export.source import open_source
from sd2rt.export.tiny_decoder import open_tiny_decoder, require_same_latents
from sd2rt.export.tokenizer import write_tokenizer
from sd2rt.export.tracing import OPSET, trace
from sd2rt.export.verify import Comparison, run_reference, verify
from sd2rt.export.writer import describe_files, new_folder, write_json

SCHEMA_VERSION = 1
GRAPH, WEIGHTS = "model.onnx", "model.onnx.data"
MAX_NOISE_LEVEL = 350  # diffusers' for an upscaler whose model_index.json names none
UPSCALER_SCALING_FACTOR = 0.08333  # likewise, where its VAE's config names none
Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What is remembered of a component once its module is freed."""

    name: str
    entry: dict[str, Any]
    config: Mapping[str, Any]


def write_bundle(source: str | Path | None, out: Path, options: ExportOptions, notify: Notify) -> Path:
    """Export `source` to the folder `out`; see `sd2rt.export.export`."""
    with _quiet_libraries(), new_folder(out, replace=options.replace) as folder:
        checkpoint = merge_loras(open_source(source, options, notify), options.loras)
        task = checkpoint.task(options.task)
        written = [write_component(part, folder, options.dtype, task, notify) for part in _parts(checkpoint, task, options.tiny_vae)]
        write_tokenizer(checkpoint.tokenizer, folder / "tokenizer")
        write_json(folder / "model_index.json", checkpoint.model_index)
        for name, config in checkpoint.schedulers.items():
            write_json(folder / name / "scheduler_config.json", config)
        if task == "depth-to-image" and checkpoint.image_processor is not None:
            write_json(folder / "feature_extractor" / "preprocessor_config.json", checkpoint.image_processor)
        write_json(folder / "bundle.json", _describe(checkpoint, options, task, written, folder))
    return out


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep the libraries' notes and progress bars off the terminal; errors still come as exceptions."""
    levels = [(module, module.get_verbosity()) for module in (diffusers.utils.logging, transformers.utils.logging)]
    for module, _ in levels:
        module.set_verbosity_error()
        module.disable_progress_bar()
    try:
        yield
    finally:
        for module, level in levels:
            module.set_verbosity(level)
            module.enable_progress_bar()


def _parts(checkpoint: Checkpoint, task: str, tiny_vae: Path | None) -> Iterator[Component]:
    """Load one component after the other; the caller drops each before it asks for the next."""
    tiny = None if tiny_vae is None else open_tiny_decoder(tiny_vae)  # what does not fit is better told now
    if tiny is not None:
        require_same_latents(tiny, checkpoint.configs["vae"])
    yield components.text_encoder(checkpoint.load("text_encoder"))
    yield components.unet(checkpoint.load("unet"))
    yield components.vae_decoder(checkpoint.load("vae"))
    yield components.vae_encoder(checkpoint.load("vae"))
    if tiny is not None:
        yield tiny
    if task == "depth-to-image":
        yield depth_estimator(checkpoint.load("depth_estimator"))


def write_component(component: Component, folder: Path, dtype_option: str, task: str, notify: Notify) -> Written:
    """Trace a component, write it to a subfolder of its name and compare it with torch; its module is left without weights.

    `dtype_option` is "fp16" or "fp32". Raises ExportError where it cannot be traced, or misses its gate.
    """
    started = time.perf_counter()
    dtype = component_dtype(component.name, dtype_option, task)
    count = sum(parameter.numel() for parameter in component.module.parameters())
    reference = run_reference(component)
    component.module.to(getattr(torch, dtype))
    nodes = _write_graph(component, folder / component.name, dtype)
    write_json(folder / component.name / "config.json", component.config)
    component.module.to("meta")  # frees the weights before onnxruntime loads its own
    gc.collect()
    comparison = verify(component, folder / component.name / GRAPH, dtype, reference)
    seconds = time.perf_counter() - started
    notify(
        f"{component.name}: {count / 1e6:.1f} M parameters, {dtype}, {nodes} nodes, "
        f"PSNR {comparison.psnr_db:.1f} dB against torch float32, {seconds:.0f} s"
    )
    return Written(name=component.name, entry=_entry(component, folder / component.name, dtype, comparison), config=component.config)


def _write_graph(component: Component, folder: Path, dtype: str) -> int:
    """Write model.onnx and its weights; return the number of nodes."""
    model = trace(component)
    canonicalize(model, component)
    stash_norms_in_float32(model)
    if component.upcast_attention and dtype == "float16":
        upcast_attention(model)
    folder.mkdir()
    ir.save(model, folder / GRAPH, external_data=WEIGHTS)
    return len(model.graph)


def _entry(component: Component, folder: Path, dtype: str, comparison: Comparison) -> dict[str, Any]:
    def tensors(specs: tuple[components.TensorInfo, ...]) -> list[dict[str, Any]]:
        return [{"name": spec.name, "dtype": spec.numpy_dtype(dtype), "shape": list(spec.shape)} for spec in specs]

    return {
        "dtype": dtype,
        "files": describe_files([file for file in (folder / GRAPH, folder / WEIGHTS) if file.is_file()], folder),
        "inputs": tensors(component.inputs),
        "outputs": tensors(component.outputs),
        "comparison": comparison.as_json(),
    }


def _describe(checkpoint: Checkpoint, options: ExportOptions, task: str, written: list[Written], folder: Path) -> dict[str, Any]:
    configs = {part.name: part.config for part in written}
    vae, scheduler = configs["vae_decoder"], checkpoint.schedulers["scheduler"]
    graphs = {folder / part.name / name for part in written for name in (GRAPH, WEIGHTS)}
    return {
        "schema_version": SCHEMA_VERSION,
        "name": options.name or checkpoint.name,
        "task": task,
        "prediction_type": scheduler.get("prediction_type", "epsilon"),
        "native_size": _native_size(configs["unet"], vae, task),
        "latent_channels": vae["latent_channels"],
        "latent_factor": components.latent_factor(vae),
        "scaling_factor": _scaling_factor(checkpoint, vae, task),
        **checkpoint.schedulers,
        **({"max_noise_level": checkpoint.model_index.get("max_noise_level", MAX_NOISE_LEVEL)} if task == "upscaling" else {}),
        "defaults": sampling_defaults(scheduler, task) | dict(options.defaults),
        "components": {part.name: part.entry for part in written},
        "files": describe_files([file for file in folder.rglob("*") if file.is_file() and file not in graphs], folder),
        "export": {
            "source": checkpoint.source,
            "sd2rt": version("sd2rt"),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
            "opset": OPSET,
            "dtype": options.dtype,
            "weights_seed": checkpoint.weights_seed,
            "loras": list(checkpoint.loras),
            "tiny_vae": None if options.tiny_vae is None else options.tiny_vae.name,
        },
    }


def _native_size(unet: Mapping[str, Any], vae: Mapping[str, Any], task: str) -> list[int]:
    """Return [height, width] in pixels of the pictures that the model makes best.

    The published depth-to-image UNet says 32 latent pixels (256 pixels), which its pipeline never reads: its VAE says 512.
    """
    size, factor = unet["sample_size"], components.latent_factor(vae)
    sides = (size, size) if isinstance(size, int) else size
    least = vae["sample_size"] if task == "depth-to-image" else 0
    return [max(side * factor, least) for side in sides]


def _scaling_factor(checkpoint: Checkpoint, vae: Mapping[str, Any], task: str) -> float:
    """Return the VAE's scaling factor: the class fills in that of text-to-image models where the checkpoint's config names none."""
    named = "scaling_factor" in checkpoint.configs["vae"]
    factor: float = UPSCALER_SCALING_FACTOR if task == "upscaling" and not named else vae["scaling_factor"]
    return factor
