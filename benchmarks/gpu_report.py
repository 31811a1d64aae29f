"""The README's table of the GPU benchmark, from a result file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.records import Record, conditions_line, table

OVERHEAD_GATE = 0.03  # what the device loop may add to the sum of its engines
LIBRARIES = ("onnxruntime-gpu", "tensorrt", "tensorrt-rtx-cu13-bindings")


def report(record: Record) -> str:
    """Make the README's table from a result file: per case, milliseconds per guided step and seconds per picture."""
    given, found = record["parameters"], record["contenders"]
    names = [f"{case['side']} x {case['images']}" for case in given["cases"]]
    rows = [[name, *(cell(contender["cases"].get(case)) for case in names), least_psnr(contender)] for name, contender in found.items()]
    head = ["", *(f"{case['side']} x {case['side']}, {case['images']} at a time" for case in given["cases"]), "PSNR against torch fp32"]
    settings = (
        f"Milliseconds per guided UNet step / seconds per call that paints ({given['steps']} steps of {given['sampler']}), medians of "
        f"{given['rounds']} alternating processes; float16, {given['model']}. PSNR of a guided step's output, the least of all sizes."
    )
    return f"{table(head, rows)}\n\n{settings} {overhead_line(found)}{unable_line(found)}{gpu_line(record)} {conditions_line(record)}"


def unable_line(found: Mapping[str, Any]) -> str:
    """Say which contenders could not run, and why."""
    return "".join(f"{name} cannot run here: {one['failed'].rstrip('.')}. " for name, one in found.items() if "failed" in one)


def gpu_line(record: Record) -> str:
    """Name the GPU and its libraries."""
    gpu, versions = record["gpu"], record["versions"]
    libraries = "".join(f", {name} {versions[name]}" for name in LIBRARIES if name in versions)
    number = gpu["driver_version"]
    return f"{gpu['name']}, driver for CUDA {number // 1000}.{number % 1000 // 10}{libraries};"


def cell(case: Mapping[str, Any] | None) -> str:
    """Word one case: step and picture, or that it failed."""
    if case is None or "failed" in case:
        return "failed" if case else "-"
    return f"{1000 * case['step_s']['median']:.1f} / {case['picture_s']['median']:.2f}"


def least_psnr(contender: Mapping[str, Any]) -> str:
    """Word the lowest PSNR of a contender's steps; speed without accuracy says so."""
    compared = [case["against_torch_fp32"] for case in contender["cases"].values() if "step_s" in case]
    if not compared:
        return "-"
    if not all(one and "step" in one for one in compared):
        return "not compared"
    return f"{min(one['step']['psnr_db'] for one in compared):.0f} dB"


def overhead_line(found: Mapping[str, Any]) -> str:
    """Say what the device loop adds at most, of medians."""
    overheads = [case["overhead"]["median"] for one in found.values() for case in one["cases"].values() if "overhead" in case]
    if not overheads:
        return ""
    return f"The device loop adds at most {100 * max(overheads):.1f} % to the sum of its engines (gate {100 * OVERHEAD_GATE:g} %). "
