"""Build one UNet for ONNX Runtime's CPU as an experiment: with a lowering left out, or written in another way.

`python -m benchmarks.workers.cpu_engine BUNDLE WORK OPTIONS`, OPTIONS being JSON: `without`, names of what `sd2rt.engine.lowering` calls;
`prepacked`, weights also in the order that matrix products read them in; `level`, ONNX Runtime's optimization. The engine goes to a
folder in WORK that is named by all that it is made from, and stays as it is where it exists.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir
import onnxruntime

from sd2rt.engine import lowering, ort
from sd2rt.engine.forms import apply_form
from sd2rt.engine.manifest import engine_key
from sd2rt.engine.spec import BuildOptions
from sd2rt.runtime.bundle import read_bundle

KEY_LETTERS = 16
PREPACKED = "session.save_external_prepacked_constant_initializers"


def obtain(bundle: Path, work: Path, options: Mapping[str, Any]) -> Path:
    """Return the folder of the engine, which is built where it is missing; a build that fails leaves none. Raises as `build` does."""
    files = read_bundle(bundle).component("unet").files
    made_from: dict[str, Any] = {"files": dict(files.sha256), **ort.fingerprint(BuildOptions(target="cpu")), "build": dict(options)}
    folder = work / engine_key(made_from)[:KEY_LETTERS]
    if not folder.exists():
        work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="building-", dir=work) as unfinished:
            built = Path(unfinished) / "engine"
            built.mkdir()
            build(bundle, built, options)
            built.rename(folder)
    return folder


def build(bundle: Path, folder: Path, options: Mapping[str, Any]) -> None:
    """Lower the bundle's UNet and have ONNX Runtime optimize it. Raises AttributeError for a lowering that does not exist, OSError."""
    for name in options.get("without", []):
        getattr(lowering, name)
        setattr(lowering, name, leave)
    files = read_bundle(bundle).component("unet").files
    lowered = lowering.lower_graph("unet", apply_form(files, None), files.onnx.parent, folder, "cpu")
    temporary = list(folder.iterdir())
    settings = ort.plain_settings(threads=0)
    settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, options.get("level", "ORT_ENABLE_ALL"))
    ort.save_optimized(settings, folder)
    if options.get("prepacked"):
        settings.add_session_config_entry(PREPACKED, "1")
        onnxruntime.InferenceSession(lowered, settings, providers=["CPUExecutionProvider"])
    else:
        ort.open_and_drop(lowered, settings)
    for path in temporary:
        path.unlink()


def leave(model: ir.Model) -> None:
    """Change nothing: what stands in for a lowering that is left out."""


if __name__ == "__main__":
    engine = obtain(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
    print(json.dumps({"folder": str(engine), "bytes": sum(path.stat().st_size for path in engine.iterdir())}))
