"""From a bundle to one whose UNet has layers in int8: painted with, measured, written, compared, put in place.

What it did is written into the UNet's entry of bundle.json: `int8` has the layers kept as they were with what they would have lost, and
what was painted; `comparison` is of both UNets on a picture that was not measured with.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sd2rt.engine.accuracy import INT8
from sd2rt.engine.build import check_files
from sd2rt.engine.errors import ExportError, InvalidArgument, MissingDependency
from sd2rt.engine.int8_numbers import Range, layer_snr_db
from sd2rt.engine.spec import BuildOptions, ComponentFiles
from sd2rt.export.writer import describe_files, new_folder, write_json
from sd2rt.runtime.bundle import MANIFEST, Bundle
from sd2rt.runtime.calibrate import MOST_ROWS, ROWS, SEED, Observer, check_calibration, choose_ranges, compare_evaluations, observe

try:
    from sd2rt.engine import ort
    from sd2rt.engine.int8_graph import GRAPH, WEIGHTS, write_int8
    from sd2rt.engine.int8_layers import Layer, find_layers, read_model, read_weight, write_observed
except ImportError as missing:
    raise MissingDependency(f"quantizing needs {missing.name}: pip install 'sd2rt[cpu]'") from missing

UNET, OUTPUT, OBSERVED = "unet", "out_sample", ".observed"
Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Options:
    """What to paint and which layers to leave: the last prompt is for the comparison, `replace` allows `out` to be in use."""

    prompts: tuple[str, ...]
    steps: int
    min_snr_db: float
    replace: bool = False


def write_int8_bundle(bundle: Bundle, out: Path, options: Int8Options, notify: Notify) -> dict[str, Any]:
    """Write the bundle to the folder `out`; return what bundle.json then says of it under `int8`, the PSNR, and its size before and after.

    Raises InvalidArgument for an `out` in use, or that would take the bundle's place, a UNet in int8 already, or as `check_calibration`
    does, all before any work; BundleError, BuildError, EngineError; ExportError where no layer may be in int8, both UNets differ by more
    than the gate, or the disk is full.
    """
    files = bundle.component(UNET).files
    if bundle.component(UNET).int8:
        raise InvalidArgument(f"{bundle.name}: its unet is in int8 already; name the bundle that it was made from")
    check_calibration(bundle, options.prompts)
    _check_apart(bundle, out)
    check_files(files)
    with new_folder(out, replace=options.replace) as folder:
        layers, observer = _paint(bundle, options, folder / OBSERVED, notify)
        shutil.rmtree(folder / OBSERVED)
        notify(f"measuring {len(layers)} layers")
        ranges = choose_ranges(observer, np.dtype(bundle.component(UNET).dtype))
        snr_db = _measure(bundle, layers, observer, ranges)
        narrow = tuple(layer for layer in layers if snr_db[layer.weight] >= options.min_snr_db)
        if not narrow:
            best = max(snr_db.values(), default=0.0)
            raise ExportError(
                f"{bundle.name}: got {len(layers)} layers of at most {best:.1f} dB; expected {options.min_snr_db:g}: lower --min-snr"
            )
        place = folder / files.onnx.parent.relative_to(bundle.folder)
        place.mkdir(parents=True)
        described = _write_unet(files, narrow, ranges, place)
        psnr_db = _compare(place, described, observer, options)
        kept = {layer.weight: round(snr_db[layer.weight], 1) for layer in layers if layer not in narrow}
        int8 = {"layers": len(narrow), "kept_float": kept, "min_snr_db": options.min_snr_db, **_calibration(options)}
        comparison = {"reference": f"the unet of SHA-256 {files.sha256[files.onnx.name]}", "psnr_db": psnr_db, "gate": str(INT8)}
        _write_rest(bundle, {"files": described, "int8": int8, "comparison": comparison}, folder)
    before, after = sum(path.stat().st_size for path in files.paths), sum(one["bytes"] for one in described.values())
    return {**int8, "psnr_db": psnr_db, "bytes_before": before, "bytes": after}


def _check_apart(bundle: Bundle, out: Path) -> None:
    """Raise InvalidArgument where `out` is the bundle's folder, around it or in it: the bundle itself would be replaced or changed."""
    folder, place = bundle.folder.resolve(), Path(os.path.realpath(out))
    if folder.is_relative_to(place) or place.is_relative_to(folder):
        raise InvalidArgument(f"out: got {out}; expected a folder apart from that of the bundle itself, {bundle.folder}: name another one")


def _paint(bundle: Bundle, options: Int8Options, folder: Path, notify: Notify) -> tuple[tuple[Layer, ...], Observer]:
    """Paint all prompts with a UNet that tells what its layers read, built in `folder`; return the layers and what was seen of them."""
    files = bundle.component(UNET).files
    layers = find_layers(read_model(files))
    graph, engine = folder / "graph", folder / "engine"
    graph.mkdir(parents=True)
    engine.mkdir()
    notify("building a UNet that tells what its layers read")
    ort.build(write_observed(files, layers, graph), BuildOptions(target="cpu"), engine, notify)
    reads = dict.fromkeys((layer.source, layer.window) for layer in layers)
    observer = Observer(ort.open_built(UNET, engine, threads=0), tuple(reads), OUTPUT)
    with closing(observer):
        observe(bundle, observer, options.prompts, options.steps, notify)
    return layers, observer


def _measure(bundle: Bundle, layers: tuple[Layer, ...], observer: Observer, ranges: Mapping[str, Range]) -> dict[str, float]:
    """Return what every layer would have of signal over noise in int8, in dB, by its weight's name."""
    component = bundle.component(UNET)
    model, dtype = read_model(component.files), np.dtype(component.dtype)
    found = {}
    for layer in layers:
        rows = observer.samples[layer.source, layer.window].rows
        found[layer.weight] = layer_snr_db(rows, read_weight(model, layer), ranges[layer.source], dtype)
    return found


def _write_unet(files: ComponentFiles, layers: tuple[Layer, ...], ranges: Mapping[str, Range], folder: Path) -> dict[str, Any]:
    """Write the UNet and return its files as bundle.json describes them."""
    write_int8(files, layers, ranges, folder)
    return describe_files(list(folder.iterdir()), folder)


def _compare(place: Path, described: Mapping[str, Any], observer: Observer, options: Int8Options) -> float:
    """Return the PSNR of the new UNet, its graph run as it is, on the last picture's evaluations. Raises ExportError below the gate."""
    sha256 = {name: str(one["sha256"]) for name, one in described.items()}
    files = ComponentFiles(name=UNET, onnx=place / GRAPH, data=(place / WEIGHTS,), sha256=sha256)
    with closing(ort.open_unlowered(files, threads=0)) as engine:
        found = compare_evaluations(engine, observer.kept, INT8)
    if not found.passes:
        raise ExportError(f"unet: {found} in int8; expected {INT8}: raise --min-snr above {options.min_snr_db:g}, or paint more --samples")
    return found.psnr_db


def _calibration(options: Int8Options) -> dict[str, Any]:
    prompts = "\n".join(options.prompts)
    return {
        "weights": "int8, symmetric, a scale for every output channel",
        "activations": "uint8, a scale and a zero point for every tensor",
        "pictures": len(options.prompts) - 1,
        "steps": options.steps,
        "rows": ROWS,
        "most_rows": MOST_ROWS,
        "seed": SEED,
        "prompts_sha256": hashlib.sha256(prompts.encode()).hexdigest(),
    }


def _write_rest(bundle: Bundle, unet: Mapping[str, Any], folder: Path) -> None:
    """Copy all other files and write the manifest."""
    others = [path for name, component in bundle.components.items() if name != UNET for path in component.files.paths]
    for path in dict.fromkeys([*others, *(file.path for file in bundle.files.values())]):
        target = folder / path.relative_to(bundle.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    document = json.loads(bundle.manifest.read_bytes())
    document["name"] = f"{bundle.name}-int8"
    document["components"][UNET] |= unet
    write_json(folder / MANIFEST, document)
