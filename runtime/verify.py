"""Compare every engine that a bundle needs on a target with its reference, on fixed inputs. Knows no backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from sd2rt.engine.accuracy import HALF, INT8, SINGLE, SINGLE_OTHER_LIBRARY, Accuracy, Gate, compare_outputs, fixed_feeds, worst
from sd2rt.engine.build import build_engine, open_engine
from sd2rt.engine.manifest import Field
from sd2rt.engine.reference import borrow_reference
from sd2rt.engine.spec import BuildOptions, ComponentFiles
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.bundle_entries import Component
from sd2rt.runtime.engine_plan import TOGETHER, PlanOptions, axis_sizes, plan_engines

Outputs = Mapping[str, npt.NDArray[Any]]
Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How one component's engine compares, output by output; what both gave; and what was noted when the engine was built."""

    component: str
    outputs: tuple[Accuracy, ...]
    got: Outputs
    expected: Outputs
    notes: Mapping[str, Field]

    @property
    def worst(self) -> Accuracy:
        """The output that fails, or is nearest to failing."""
        return worst(self.outputs)


def verify_bundle(bundle: Bundle, options: PlanOptions, notify: Notify) -> Iterator[Verdict]:
    """Compare each component at the usual size, as `generate` would use it, building what the cache does not have.

    On `cpu` the reference is the bundle's own graph; elsewhere it is the `cpu` engine. One engine is open at a time.
    Raises as `open_engine` does.
    """
    for files, build in plan_engines(bundle, options):
        ranges = axis_sizes(bundle, options, together=files.name in TOGETHER)
        axes = {name: usual for name, (_, usual, _) in ranges.items()}
        yield _verify(bundle.component(files.name), files, build, axes, notify)


def _verify(component: Component, files: ComponentFiles, build: BuildOptions, axes: Mapping[str, int], notify: Notify) -> Verdict:
    notes = build_engine(files, build, notify).manifest.notes
    with closing(open_engine(files, build, notify)) as engine:
        # the bundle's types are the narrower ones, so that both get the same numbers; a fused engine has inputs of its own
        feeds = fixed_feeds(component.inputs if build.form is None else engine.inputs, axes)
        got = engine.run(feeds)
    with borrow_reference(files, build, notify) as reference:
        expected = reference.run(feeds)
    outputs = compare_outputs(got, expected, choose_gate(build.target, component, notes))
    return Verdict(component=files.name, outputs=outputs, got=got, expected=expected, notes=notes)


def choose_gate(target: str, component: Component, notes: Mapping[str, Field]) -> Gate:
    """Return what a component's engines must reach: GPUs may compute float32 as TensorFloat-32, and no two round to int8 alike.

    `notes` are the engine's: openvino's say which precision it computes in.
    """
    if component.int8:
        return INT8
    if component.dtype != "float32":
        return HALF
    if target == "cpu":
        return SINGLE
    return SINGLE_OTHER_LIBRARY if target == "openvino" and notes.get("precision") == "f32" else HALF
