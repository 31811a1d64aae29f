"""Torch's translations of small modules, made once for all test processes and runs: tracing is nine tenths of an export.

What torch writes depends on a module's kind, configuration and precision; the parameters are put in afterwards. An export that takes a
graph from here is checked against torch like any other, and writes the same graph as one that does not (tests/test_traced.py).
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx_ir as ir
import pytest
from filelock import FileLock
from onnx_ir.tensor_adapters import TorchTensor

from sd2rt.export.components import Component
from sd2rt.export.tracing import trace

NOT_TRACED = ("_name_or_path", "sample_size")  # of a configuration: no module's forward reads them


@contextmanager
def traced_once(folder: Path) -> Iterator[None]:
    """Let exports take graphs from a folder where they are there, and put those there that are not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sd2rt.export.bundle.trace", lambda component: take(component, folder))
        yield


def take(component: Component, folder: Path) -> ir.Model:
    """Return the graph of a component with its own parameters, tracing it if none like it was traced before."""
    state = component.module.state_dict()
    path = folder / f"{component.name}-{digest(component)}.onnx"
    with FileLock(f"{path}.lock"):
        if not path.is_file():
            model = trace(component)
            for value in model.graph.initializers.values():
                if value.name in state:
                    value.const_value = ir.tensor(state[str(value.name)].new_zeros(1).numpy(), name=value.name)
            ir.save(model, path.with_suffix(".part"))
            path.with_suffix(".part").rename(path)
    model = ir.load(path)
    for value in model.graph.initializers.values():
        if value.name in state:
            value.const_value = TorchTensor(state[str(value.name)], name=value.name)
    return model


def digest(component: Component) -> str:
    """Return what tells graphs apart."""
    config = {key: value for key, value in component.config.items() if key not in NOT_TRACED}
    precision = str(next(component.module.parameters()).dtype)
    facts = [config, precision, repr(component.module), component.factor, [str(spec) for spec in (*component.inputs, *component.outputs)]]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]
