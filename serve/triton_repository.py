"""A Triton model repository of a bundle: a model for each component, as the bundle's own graph or as a TensorRT plan of this machine's GPU.

    <name>/config.pbtxt
    <name>/1/model.onnx (with its weights) or model.plan
    README.md            how to run it, and what a client does between the models

Who makes the folder, whole or not at all, is the caller.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sd2rt.engine.build import build_engine, check_files
from sd2rt.engine.errors import InvalidArgument
from sd2rt.engine.spec import Guidance
from sd2rt.engine.trt_run import PLAN_NAME
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.engine_plan import TOGETHER, PlanOptions, Size, plan_component
from sd2rt.serve.triton import TritonModel, config_text
from sd2rt.serve.triton_readme import readme_text

BACKENDS = {"onnx": "onnxruntime", "tensorrt": "tensorrt"}
VERSION = "1"
GRAPH, PLAN = "model.onnx", "model.plan"  # the names that Triton's backends look for
PREFIX = re.compile(r"[A-Za-z0-9._-]*")
MOST_ROWS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonOptions:
    """What to write. `max_batch` counts rows that the text encoder and the UNet take at once, two for each guided picture.

    `sizes` are the smallest and largest picture, (height, width) in pixels, that plans take; None: the model's own size. Graphs take all.
    `prefix` begins the models' names. Raises InvalidArgument.
    """

    target: str = "onnx"
    max_batch: int = 8
    instances: int = 1
    prefix: str = ""
    sizes: tuple[Size, Size] | None = None

    def __post_init__(self) -> None:
        if self.target not in BACKENDS:
            raise InvalidArgument(f"target: got {self.target!r}; expected one of {', '.join(BACKENDS)}, which Triton has backends for")
        if not 1 <= self.max_batch <= MOST_ROWS:
            raise InvalidArgument(f"max-batch: got {self.max_batch}; expected 1 to {MOST_ROWS} rows")
        if not PREFIX.fullmatch(self.prefix):
            raise InvalidArgument(f"prefix: got {self.prefix[:80]!r}; expected letters, digits, dots, dashes and underscores")
        if self.sizes and self.target == "onnx":
            raise InvalidArgument("size: got one for --target onnx, whose graphs take every size; leave it out")


def write_repository(bundle: Bundle, folder: Path, options: TritonOptions, notify: Callable[[str], None]) -> tuple[TritonModel, ...]:
    """Fill a folder with the models of a bundle; return them. `notify` is told of plans that take time.

    Raises BundleError for files that are damaged or graphs that no batch can be made of, InvalidArgument, OSError, and for plans as
    `build_engine` does.
    """
    models = tuple(_model(bundle, name, options) for name in bundle.components)
    for model in models:
        version = folder / model.name / VERSION
        version.mkdir(parents=True)
        (folder / model.name / "config.pbtxt").write_text(config_text(model), encoding="utf-8")
        if options.target == "onnx":
            _put_graph(bundle, model.component, version)
        else:
            _put_plan(bundle, model.component, options, version, notify)
    (folder / "README.md").write_text(readme_text(bundle, models), encoding="utf-8")
    return models


def _model(bundle: Bundle, name: str, options: TritonOptions) -> TritonModel:
    """Describe a component. The autoencoder takes one picture at a time, as its memory grows with each more."""
    component = bundle.components[name]
    return TritonModel(
        name=options.prefix + name,
        component=name,
        backend=BACKENDS[options.target],
        inputs=component.inputs,
        outputs=component.outputs,
        max_batch=options.max_batch if name in TOGETHER else 1,
        instances=options.instances,
    )


def _put_graph(bundle: Bundle, name: str, version: Path) -> None:
    """Copy a component's files, once checked; the graph names its weights. Not links: onnx reads no files that have two names."""
    files = bundle.components[name].files
    check_files(files)
    for path in files.paths:
        shutil.copyfile(path, version / (GRAPH if path == files.onnx else path.name))


def _put_plan(bundle: Bundle, name: str, options: TritonOptions, version: Path, notify: Callable[[str], None]) -> None:
    """Build a component's plan for this machine's GPU, or take it from the cache, and copy it: the cache's own is for one user."""
    smallest, largest = options.sizes or (bundle.native_size, bundle.native_size)
    native = bundle.native_size
    usual = min(max(native[0], smallest[0]), largest[0]), min(max(native[1], smallest[1]), largest[1])
    plan = PlanOptions(
        target=options.target,
        smallest=smallest,
        usual=usual,
        largest=largest,
        batch=(1, min(2, options.max_batch), options.max_batch),
        guidance=Guidance.PLAIN,  # rows are counted as they are: the client doubles them
        merged=False,
    )
    entry = build_engine(bundle.components[name].files, plan_component(bundle, name, plan), notify)
    shutil.copyfile(entry.folder / PLAN_NAME, version / PLAN)
