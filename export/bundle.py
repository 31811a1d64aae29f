"""One export from start to end: a checkpoint in, a complete and checked bundle folder out.

Components are loaded, traced, written and compared one after the other, each freed before the next, so that memory holds one model
at a time in float32.
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
from sd2rt.export.options import ExportOptions
from sd2rt.export.precision import component_dtype, stash_norms_in_float32, upcast_attention
from sd2rt.export.source import open_source
from sd2rt.export.tokenizer import write_tokenizer
from sd2rt.export.tracing import OPSET, trace
from sd2rt.export.verify import Comparison, run_reference, verify
from sd2rt.export.writer import describe_files, new_folder, write_json

SCHEMA_VERSION = 1
GRAPH, WEIGHTS = "model.onnx", "model.onnx.data"
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
        checkpoint = open_source(source, options, notify)
        task = checkpoint.task(options.task)
        written = [_write_component(part, folder, options.dtype, task, notify) for part in _parts(checkpoint)]
        write_tokenizer(checkpoint.tokenizer, folder / "tokenizer")
        write_json(folder / "model_index.json", checkpoint.model_index)
        for name, config in checkpoint.schedulers.items():
            write_json(folder / name / "scheduler_config.json", config)
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


def _parts(checkpoint: Checkpoint) -> Iterator[Component]:
    """Load one component after the other; the caller drops each before it asks for the next."""
    yield components.text_encoder(checkpoint.load("text_encoder"))
    yield components.unet(checkpoint.load("unet"))
    yield components.vae_decoder(checkpoint.load("vae"))
    yield components.vae_encoder(checkpoint.load("vae"))


def _write_component(component: Component, folder: Path, dtype_option: str, task: str, notify: Notify) -> Written:
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
    vae, factor = configs["vae_decoder"], components.latent_factor(configs["vae_decoder"])
    sample_size = configs["unet"]["sample_size"]
    height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
    scheduler = checkpoint.schedulers["scheduler"]
    graphs = {folder / part.name / name for part in written for name in (GRAPH, WEIGHTS)}
    return {
        "schema_version": SCHEMA_VERSION,
        "name": options.name or checkpoint.name,
        "task": task,
        "prediction_type": scheduler.get("prediction_type", "epsilon"),
        "native_size": [height * factor, width * factor],
        "latent_channels": vae["latent_channels"],
        "latent_factor": factor,
        "scaling_factor": vae["scaling_factor"],
        **checkpoint.schedulers,
        "defaults": sampling_defaults(scheduler) | dict(options.defaults),
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
        },
    }
