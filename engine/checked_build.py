"""Build in the lowest precision that is right: after each build compare with the reference, and go on to the next where that fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from sd2rt.engine import gpu as gpus
from sd2rt.engine.accuracy import Accuracy, check_engine, fixed_feeds
from sd2rt.engine.errors import BuildError, TargetUnavailable, first_line
from sd2rt.engine.manifest import Field, Manifest, engine_key
from sd2rt.engine.protocol import Engine
from sd2rt.engine.reference import open_reference
from sd2rt.engine.spec import BuildOptions, ComponentFiles
from sd2rt.engine.store import CacheEntry, Notify
from sd2rt.engine.targets import architecture, choose_target
from sd2rt.engine.trt_gpus import runs_on

Check = Callable[[], Accuracy | str]
"""Compares an engine, or says why that could not be done."""


def build_checked(
    component: str,
    precisions: Sequence[str],
    attempt: Callable[[str], None],
    check: Check | str,
    notify: Notify,
    *,
    kind: str = "TensorRT",
) -> dict[str, Field]:
    """Call `attempt` with one precision after the other until `check` passes; return what the manifest should remember.

    Where `check` is, or says, why nothing can be checked, the precision at hand is taken. Raises BuildError when the last one fails too.
    """
    for precision, following in zip(precisions, (*precisions[1:], None), strict=True):
        attempt(precision)
        found = check if isinstance(check, str) else check()
        if isinstance(found, str):
            return {"precision": precision, "checked": found}
        if found.passes:
            return {"precision": precision, "checked": "against the cpu engine", **_figures(found)}
        if following is not None:
            notify(f"{component}: {found} in the {kind} engine ({precision}); building it again: {following}")
    assert isinstance(found, Accuracy)
    remedy = "use --target cpu, and please report it"
    raise BuildError(f"{component}: {found} in the {kind} engine, {precision} too; expected {found.gate} against the cpu engine: {remedy}")


def choose_check(
    entry: CacheEntry, files: ComponentFiles, options: BuildOptions, load: Callable[[], Engine], notify: Notify
) -> Check | str:
    """Return what compares the engine that lies in the entry's folder by then, or why that cannot be done here."""
    gpu = gpus.find_gpu()
    if isinstance(gpu, str):
        return "no GPU on this machine"
    fields = entry.manifest.fields
    for_others = fields.get("gpu") is None  # built for named GPUs: this machine need not run it
    if for_others and not runs_on(fields.get("compute_capabilities"), gpu):
        return f"not for this machine's GPU, {gpu.name} ({architecture(gpu.capability)})"
    if find_spec("onnxruntime") is None:
        notify(f"{files.name}: cannot be compared with the cpu engine: onnxruntime is not installed: pip install 'sd2rt[cpu]'")
        return "no ONNX Runtime to compare with"
    compare = partial(compare_with_reference, files, options, load, notify)
    return partial(compare_if_it_runs, entry.manifest.target, compare) if for_others else compare


def compare_if_it_runs(target: str, compare: Callable[[], Accuracy]) -> Accuracy | str:
    """Compare where the target works, and otherwise return why it does not: the engine is built, and may be right elsewhere."""
    try:
        choose_target(target)
        return compare()
    except TargetUnavailable as error:
        return first_line(error)


def compare_with_reference(files: ComponentFiles, options: BuildOptions, load: Callable[[], Engine], notify: Notify) -> Accuracy:
    """Run both engines on fixed inputs of the usual size. Raises as opening and running engines does."""
    usual = {name: sizes[1] for name, sizes in options.axes.items()}
    with closing(load()) as engine, closing(open_reference(files, options, notify)) as reference:
        return check_engine(engine, reference, fixed_feeds(engine.inputs, usual))


def unpublished(folder: Path, files: ComponentFiles, fields: Mapping[str, Field], notes: Mapping[str, Field]) -> CacheEntry:
    """Describe an engine that still lies where it is built, so that it can be loaded from there."""
    manifest = Manifest(
        key=engine_key(fields),
        component=files.name,
        target=str(fields["target"]),
        fields=fields,
        files={},
        build_seconds=0.0,
        created="",
        sd2rt="",
        notes=notes,
    )
    return CacheEntry(folder=folder, manifest=manifest, last_used=0.0)


def _figures(found: Accuracy) -> dict[str, Field]:
    return {"output": found.output, "psnr_db": found.psnr_db, "max_abs": found.max_abs, "not_finite": found.not_finite}
