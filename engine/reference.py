"""What an engine is compared with, by target: the `cpu` engine, which computes in float32; of that one, the bundle's own graph.

Knows no figures; those are in `accuracy`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from sd2rt.engine.build import check_files, open_engine
from sd2rt.engine.cache import drop_engine, list_engines
from sd2rt.engine.manifest import form_field
from sd2rt.engine.protocol import Engine
from sd2rt.engine.spec import BuildOptions, ComponentFiles
from sd2rt.engine.store import Notify


def open_reference(files: ComponentFiles, options: BuildOptions, notify: Notify) -> Engine:
    """Open what the component's engine of these options is to be compared with: the same inputs and outputs, the same form.

    Raises as `open_engine` does, TargetUnavailable without ONNX Runtime among it.
    """
    if options.target != "cpu":
        return open_engine(files, BuildOptions(target="cpu", threads=options.threads, form=options.form), notify)
    from sd2rt.engine.ort import open_unlowered

    check_files(files)
    return open_unlowered(files, options.threads)


@contextmanager
def borrow_reference(files: ComponentFiles, options: BuildOptions, notify: Notify) -> Iterator[Engine]:
    """Open a reference, and leave the cache without it: in another form than the bundle's it is of no further use, and large.

    One that was in the cache before stays there. Raises as `open_reference` does, and EngineCacheError.
    """
    found = {entry.folder for entry in list_engines()}
    try:
        with closing(open_reference(files, options, notify)) as reference:
            yield reference
    finally:
        if options.form is not None and options.target != "cpu":
            wanted = {"target": "cpu", "files": dict(files.sha256), "form": form_field(options.form)}
            for entry in list_engines():
                if entry.folder not in found and wanted.items() <= entry.manifest.fields.items():
                    drop_engine(entry.folder)
