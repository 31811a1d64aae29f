"""`sd2rt export-triton`: a bundle as a model repository for Triton Inference Server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sd2rt.cli.build import read_sizes
from sd2rt.cli.console import Console, console_options


@click.command("export-triton")
@click.argument("bundle")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The repository's folder, new or empty.")
@click.option("--target", default="onnx", show_default=True, help="onnx, or tensorrt: plans for this machine's GPU.")
@click.option("--max-batch", default=8, show_default=True, help="Rows at once at most; a guided picture has two.")
@click.option("--instances", default=1, show_default=True, help="Copies of each model on each device.")
@click.option("--size", metavar="WxH[..WxH]", help="Of plans: pixels, or from smallest to largest.  [default: the model's]")
@click.option("--prefix", default="", help="Begins the models' names, for several bundles in one server.")
@console_options
@click.pass_obj
def export_triton(console: Console, /, bundle: str, out: Path, size: str | None, **asked: Any) -> None:
    """Write BUNDLE's components as models for Triton Inference Server, with batching and bounded queues, and print the folder.

    Each has the bundle's own graph, or a TensorRT plan, and a config.pbtxt. README.md there says how to run them, and what a client does
    between them: the sampler's loop stays with the client.

    \b
    Examples:
      sd2rt export-triton toyworld --out triton/
      sd2rt export-triton ./sd21 --out triton/ --max-batch 16 --prefix sd21-
      sd2rt export-triton ./sd21 --out triton/ --target tensorrt --size 512x512..768x768
    """
    from sd2rt.cli.ready_model import ready_model
    from sd2rt.engine.errors import InvalidArgument
    from sd2rt.export.writer import new_folder
    from sd2rt.runtime.bundle import read_bundle
    from sd2rt.runtime.models import find_model
    from sd2rt.serve.triton_repository import TritonOptions, write_repository

    if out.is_dir() and any(out.iterdir()):  # a bundle's, too: a repository replaces nothing
        raise InvalidArgument(f"out: {out} is not empty; name a new folder")
    checked = read_bundle(find_model(ready_model(console, bundle)))
    sizes = None if size is None else read_sizes(size, checked.native_size)
    options = TritonOptions(**asked, sizes=sizes)
    with new_folder(out, replace=False) as folder:
        models = write_repository(checked, folder, options, console.note)
    console.note(f"{len(models)} models for Triton; {out / 'README.md'} says how to run them")
    console.result({"repository": str(out), "target": options.target, "models": [model.name for model in models]}, [str(out)])
