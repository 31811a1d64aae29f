"""Where a checkpoint comes from: a folder, a file, a preset with random weights, an alias, or a hub id."""

from collections.abc import Callable
from pathlib import Path

from sd2rt.engine.errors import ExportError, InvalidArgument, ModelNotFound
from sd2rt.export.checkpoint import Checkpoint
from sd2rt.export.folder import open_folder
from sd2rt.export.hub import download
from sd2rt.export.hub_files import Kind
from sd2rt.export.layout import PICKLE_ADVICE, PICKLES
from sd2rt.export.options import ExportOptions
from sd2rt.export.random_weights import open_random
from sd2rt.export.single_file import open_single_file


def open_source(source: str | Path | None, options: ExportOptions, notify: Callable[[str], None]) -> Checkpoint:
    """Find what `source` names and read its configs.

    Raises InvalidArgument where source and options contradict each other, ModelNotFound for an unknown name, ExportError for a
    pickle or a checkpoint that cannot be read.
    """
    if options.random_weights:
        if source is not None:
            raise InvalidArgument(f"source: got {source} together with random weights; give one of them")
        return open_random(str(options.preset), options.weights_seed)
    if source is None:
        raise InvalidArgument("source: got none; expected a folder, a .safetensors file, a hub id or an alias, or random weights")
    path = Path(source)
    if path.suffix in PICKLES and not path.is_dir():
        raise ExportError(f"{path} is a pickle: {PICKLE_ADVICE}")
    if path.is_file():
        return open_single_file(path, options.preset)
    if path.suffix == ".safetensors" and not path.is_dir():
        raise ModelNotFound(f"no file {path}")
    if not path.is_dir() and _is_local(source):
        raise ModelNotFound(f"no such folder {source}; expected a diffusers folder, a .safetensors file, a hub id (owner/name) or an alias")
    if options.preset is not None:
        raise InvalidArgument(f"preset: got {options.preset} with {source}, which brings its own configs; leave the preset out")
    if path.is_dir():
        return open_folder(path)
    found = download(str(source), options.dtype, notify)
    if found.kind is not Kind.CHECKPOINT:
        raise ExportError(f"{found.repo} is exported already, as {found.kind}: `sd2rt models pull {source}` takes it as it is")
    return open_folder(found.folder, source=f"hub {found.repo}", name=found.repo.split("/")[1])


def _is_local(source: str | Path) -> bool:
    """Tell what is written as a path, which no hub id or alias is."""
    return isinstance(source, Path) or Path(source).is_absolute() or source.startswith((".", "~"))
