"""A component's graph in its form, as files that ONNX Runtime and TensorRT open."""

import os
import shutil
from pathlib import Path

from sd2rt.engine.forms import apply_form
from sd2rt.engine.spec import ComponentFiles, Form


def write_form(files: ComponentFiles, form: Form, folder: Path) -> Path:
    """Write the graph in its form, with its weights beside it, into `folder`; return the graph's path."""
    for data in files.data:
        try:
            os.link(data.resolve(), folder / data.name)
        except OSError:  # another file system
            shutil.copyfile(data, folder / data.name)
    path = folder / "fused.onnx"
    path.write_bytes(apply_form(files, form).SerializeToString())
    return path
