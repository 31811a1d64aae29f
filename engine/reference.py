"""What an engine is compared with, by target: the `cpu` engine, which computes in float32; of that one, the bundle's own graph.

Knows no figures; those are in `accuracy`.
"""

from __future__ import annotations

from sd2rt.engine.build import check_files, open_engine
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
