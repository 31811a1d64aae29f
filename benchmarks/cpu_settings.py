"""What was tried to make target `cpu` fast and small: forms of layers, ways to build the engine, and settings of the session.

Layers are timed alone, in one process; engines and settings on a guided step of a full-size UNet, each run in a process of its own,
alternating. Stays small, see `measure.run_measured`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import Sample, alternate
from benchmarks.records import Record, conditions_line, rounds_text, summary, table
from benchmarks.unet_step import describe_steps, read_shape, run_module

KEPT = "as it is"
REPEATS = 12  # of each form of a layer


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """How an engine is built and loaded: see `workers.cpu_engine` and `workers.unet`."""

    build: Mapping[str, Any] = field(default_factory=dict)
    load: Mapping[str, Any] = field(default_factory=dict)


def setting(key: str, value: str) -> Variant:
    """The engine as it is, with another session setting."""
    return Variant(load={"entries": {key: value}})


VARIANTS = {
    KEPT: Variant(),
    "without Winograd": Variant(build={"without": ["lower_convolutions"]}),
    "without Winograd, pictures as NCHW": Variant(build={"without": ["lower_convolutions"], "level": "ORT_ENABLE_EXTENDED"}),
    "packed weights in the file, mapped": Variant(build={"prepacked": True}),
    "weights never packed": setting("session.disable_prepacking", "1"),
    "weights packed on one thread": setting("session.prepack.enable_parallel", "0"),
    "memory planned ahead": Variant(load={"memory_plan": True}),
    "no arena": Variant(load={"arena": False}),
    "weights outside of the arena": setting("session.use_device_allocator_for_initializers", "1"),
    "work in smaller blocks (4)": setting("session.dynamic_block_base", "4"),
    "threads spin for 1 ms": setting("session.intra_op.spin_duration_us", "1000"),
    "threads do not spin": setting("session.intra_op.allow_spinning", "0"),
    "denormal numbers as zero": setting("session.set_denormal_as_zero", "1"),
}


def measure(bundle: Path, work: Path, *, rounds: int, steps: int) -> dict[str, Any]:
    """Build what is missing in `work`, time layers, then every variant `rounds` times in turn. Raises ContenderFailed."""
    work.mkdir(parents=True, exist_ok=True)
    built: dict[str, dict[str, Any]] = {}
    for options in (json.dumps(variant.build) for variant in VARIANTS.values()):
        if options not in built:
            built[options] = json.loads(run_module("cpu_engine", str(bundle), str(work), options).stdout)
    engines = {name: built[json.dumps(variant.build)] for name, variant in VARIANTS.items()}
    shape = read_shape(bundle, json.loads((bundle / "bundle.json").read_text()))
    layers = json.loads(run_module("cpu_layers", str(REPEATS), str(shape["height"])).stdout)
    runs = {name: partial(run_variant, name, Path(engines[name]["folder"]), shape, steps) for name in VARIANTS}
    samples = alternate(runs, rounds)
    outputs = [str(output_path(name, work)) for name in VARIANTS]
    compared = json.loads(run_module("difference", outputs[0], *outputs).stdout)
    return {
        "parameters": {"shape": shape, "rounds": rounds, "steps_per_round": steps, "layer_repeats": REPEATS},
        "layers": layers,
        "contenders": {
            name: {
                "variant": asdict(variant),
                "engine_bytes": engines[name]["bytes"],
                **describe_steps(samples[name]),
                "against_kept": accuracy,
            }
            for (name, variant), accuracy in zip(VARIANTS.items(), compared, strict=True)
        },
    }


def run_variant(name: str, engine: Path, shape: Mapping[str, int], steps: int) -> Sample:
    """Time one variant in a process of its own; its times come as JSON."""
    arguments = (
        "engine",
        str(engine),
        json.dumps(shape),
        str(steps),
        str(output_path(name, engine.parent)),
        json.dumps(VARIANTS[name].load),
    )
    return run_module("unet", *arguments)


def output_path(name: str, work: Path) -> Path:
    """Return where a variant's output goes."""
    return work / f"{list(VARIANTS).index(name)}.npy"


def report(record: Record) -> str:
    """Make the tables of docs/benchmarks.md from a result file."""
    given = record["parameters"]
    head = ["", "seconds per guided step", "relative", "seconds to load", "peak memory, GB", "engine on disk, GB", "largest difference"]
    layers = ["layer alone", "form", "milliseconds", "relative", "largest difference"]
    return (
        f"{table(head, engine_rows(record['contenders']))}\n\nThe UNet at {8 * given['shape']['width']} x {8 * given['shape']['height']} "
        f"pixels, batch {given['shape']['batch']}, medians (and ranges) of {rounds_text(record)} processes of {given['steps_per_round']} "
        f"steps after two to warm up; differences from the engine as it is, of its output's standard deviation.\n\n"
        f"{table(layers, layer_rows(record['layers']))}\n\n"
        f"Medians (and least) of {given['layer_repeats']} alternating runs in one process, batch {given['shape']['batch']}; in bold what "
        f"is kept; differences from a layer's first form, of its largest value. {conditions_line(record)}"
    )


def engine_rows(contenders: Mapping[str, Any]) -> list[list[str]]:
    """Return a row per variant."""
    ours = contenders[KEPT]["step_s"]["median"]
    return [
        [
            f"**{name}**" if name == KEPT else name,
            f"{found['step_s']['median']:.2f} ({found['step_s']['min']:.2f} to {found['step_s']['max']:.2f})",
            f"{found['step_s']['median'] / ours:.2f}",
            f"{found['load_s']['median']:.1f}",
            f"{found['peak_rss_bytes']['median'] / 1e9:.2f}",
            f"{found['engine_bytes'] / 1e9:.2f}",
            "reference" if name == KEPT else f"{found['against_kept']['max_abs_by_spread']:.1g}",
        ]
        for name, found in contenders.items()
    ]


def layer_rows(layers: Mapping[str, Any]) -> list[list[str]]:
    """Return a row per form of a layer, relative to its first."""
    rows = []
    for layer, measured in layers.items():
        times = {form: summary([1e3 * seconds for seconds in found["run_s"]]) for form, found in measured["forms"].items()}
        first = next(iter(times.values()))["median"]
        for index, (form, found) in enumerate(times.items()):
            rows.append(
                [
                    layer if index == 0 else "",
                    f"**{form}**" if form == measured["kept"] else form,
                    f"{found['median']:.1f} ({found['min']:.1f})",
                    f"{found['median'] / first:.2f}",
                    "reference" if index == 0 else f"{measured['forms'][form]['difference']:.1g}",
                ]
            )
    return rows
