"""`sd2rt info`: what this machine can run, or what a bundle holds."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sd2rt.cli.console import Console, console_options, size_text

if TYPE_CHECKING:
    from sd2rt.engine.gpu import Gpu

LIBRARIES = (
    *("numpy", "pillow", "tokenizers", "onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "openvino"),
    *("tensorrt", "tensorrt-rtx-cu13-bindings", "onnxruntime-ep-nv-tensorrt-rtx-cu13", "cuda-bindings"),
    *("torch", "diffusers", "transformers"),
)


@click.command()
@click.argument("bundle", required=False)
@console_options
@click.pass_obj
def info(console: Console, /, bundle: str | None) -> None:
    """Describe this machine and the targets that work on it, or the model in BUNDLE.

    \b
    Examples:
      sd2rt info
      sd2rt info --json | jq -r '.targets[] | select(.works) | .name'    # or .builds
      sd2rt info toyworld
    """
    if bundle is None:
        machine = describe_machine()
        console.result(machine, machine_lines(machine))
    else:
        model = describe_bundle(bundle)
        console.result(model, bundle_lines(model))


def describe_machine() -> dict[str, Any]:
    """Look at the machine, the libraries, the targets, the models that need no path, and the engine cache."""
    from sd2rt.engine.cache import cache_root, list_engines
    from sd2rt.engine.cpu import cpu_count, cpu_features, cpu_name
    from sd2rt.engine.gpu import find_gpu
    from sd2rt.engine.targets import probe_targets

    entries = list_engines()
    return {
        "sd2rt": importlib.metadata.version("sd2rt"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpu": {"name": cpu_name(), "cores": cpu_count(), "features": cpu_features().split()},
        "memory_bytes": memory_bytes(),
        "gpu": describe_gpu(find_gpu()),
        "libraries": {name: version for name in LIBRARIES if (version := installed_version(name))},
        "targets": [asdict(status) for status in probe_targets()],
        "models": known_models(),
        "cache": {"folder": str(cache_root()), "engines": len(entries), "bytes": sum(entry.bytes for entry in entries)},
    }


def describe_gpu(found: Gpu | str) -> dict[str, str] | None:
    """Return the name, architecture and the newest CUDA of what `find_gpu` found; None where that is why there is none to use."""
    from sd2rt.engine.targets import architecture, cuda_version

    if isinstance(found, str):
        return None
    return {"name": found.name, "architecture": architecture(found.capability), "cuda": cuda_version(found)}


def known_models() -> list[dict[str, str]]:
    """Return the models that a name alone finds, and where they are: a folder, or one manifest of several in it."""
    from sd2rt.runtime.model_store import models_root, stored_names
    from sd2rt.runtime.models import embedded_models

    found = embedded_models() | {name: models_root() / name for name in stored_names()}
    return [{"name": name, "folder": str(path)} for name, path in found.items()]


def memory_bytes() -> int | None:
    """Return the machine's memory, or None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def installed_version(distribution: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine_lines(machine: dict[str, Any]) -> list[str]:
    """Lay the machine out for reading."""
    cpu, cache, gpu = machine["cpu"], machine["cache"], machine["gpu"]
    memory = "unknown" if machine["memory_bytes"] is None else size_text(machine["memory_bytes"])
    return [
        f"sd2rt      {machine['sd2rt']}, Python {machine['python']}, {machine['system']}",
        f"cpu        {cpu['name']}, {cpu['cores']} cores",
        f"           {' '.join(cpu['features'])}",
        f"memory     {memory}",
        f"gpu        {gpu['name']} ({gpu['architecture']}), driver for CUDA {gpu['cuda']}" if gpu else "gpu        none",
        f"libraries  {', '.join(f'{name} {version}' for name, version in machine['libraries'].items())}",
        "targets",
        *(f"  {answer(status):<6}{status['name']:<14}{status['detail']}" for status in machine["targets"]),
        "models",
        *(f"  {model['name']:<22}{model['folder']}" for model in machine["models"]),
        "  any bundle folder that `sd2rt export` wrote",
        f"cache      {cache['folder']}: {cache['engines']} engines, {size_text(cache['bytes'])}",
    ]


def answer(status: dict[str, Any]) -> str:
    """Say in a word whether a target runs here, or can only be built for."""
    return "yes" if status["works"] else "build" if status["builds"] else "no"


def describe_bundle(name: str) -> dict[str, Any]:
    """Read and check a bundle, and sum it up."""
    from sd2rt.runtime.bundle import read_bundle
    from sd2rt.runtime.models import find_model

    bundle = read_bundle(find_model(name))
    components = {
        name: {
            "dtype": component.dtype,
            "int8": component.int8,
            "bytes": sum(path.stat().st_size for path in component.files.paths),
            "inputs": [asdict(tensor) for tensor in component.inputs],
            "outputs": [asdict(tensor) for tensor in component.outputs],
        }
        for name, component in bundle.components.items()
    }
    return {
        "name": bundle.name,
        "folder": str(bundle.folder),
        "manifest": bundle.manifest.name,
        "sha256": bundle.sha256,
        "task": bundle.task,
        "prediction_type": bundle.prediction_type,
        "native_size": list(bundle.native_size),
        "scheduler": bundle.scheduler.get("_class_name"),
        "defaults": asdict(bundle.defaults),
        "components": components,
    }


def bundle_lines(model: dict[str, Any]) -> list[str]:
    """Lay a bundle out for reading."""
    defaults, (height, width) = model["defaults"], model["native_size"]
    return [
        f"{model['name']}: {model['task']}, predicts {model['prediction_type']}, {width} x {height} pixels",
        f"folder     {Path(model['folder']).absolute()}, {model['manifest']}",
        f"sha256     {model['sha256']}",
        f"defaults   {defaults['sampler']}, {defaults['steps']} steps, guidance {defaults['guidance_scale']:g}",
        "components",
        *(
            f"  {name:<16}{'int8' if part['int8'] else part['dtype']:<9}{size_text(part['bytes'])}"
            for name, part in model["components"].items()
        ),
    ]
