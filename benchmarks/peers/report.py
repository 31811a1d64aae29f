"""The peers' tables, from their result files. No speed stands without its accuracy; who could not run is named with the reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.peers.contenders import REFERENCE
from benchmarks.records import Record, conditions_line, rounds_text, table

KINDS = {"size": "pixels a side", "batch": "pictures at a time", "steps": "steps"}  # what `growth` varies
EQUAL_DB = 999.0  # what `workers.difference` gives for equal arrays
Found = Mapping[str, Any]
_FOLDERS = re.compile(r"(?<!\S)(?:/[\w.-]+)+/(?=[\w.-])")
Cells = Callable[[Found], Sequence[str]]


def spread(found: Mapping[str, float], scale: float = 1.0, digits: int = 2) -> str:
    """0.52 (0.50 to 0.61)."""
    median, least, most = (f"{found[key] * scale:.{digits}f}" for key in ("median", "min", "max"))
    return f"{median} ({least} to {most})"


def megabytes(count: float) -> str:
    """Bytes as MB."""
    return f"{count / 1e6:.0f}"


def accuracy_cells(found: Found, part: str) -> list[str]:
    """Give pictures right and the least PSNR to the reference of a part. Raises ValueError where it was not judged."""
    judged = found.get("accuracy", {}).get(part)
    if judged is None or ("prompt_accuracy" not in judged and "psnr_db" not in judged):
        raise ValueError(f"{part}: measured, but not judged; a speed is not published without its accuracy")
    right = f"{100 * judged['prompt_accuracy']:.0f} %" if "prompt_accuracy" in judged else "-"
    return [right, decibels(judged.get("psnr_db"))]


def decibels(found: Mapping[str, float] | None) -> str:
    """Word a PSNR by its median and least; 99 is what equal pictures get."""
    return "-" if found is None else f"{found['median']:.0f} ({found['min']:.0f})"


def rows_of(record: Record, cells: Cells) -> list[list[str]]:
    """Make a row of everyone who ran."""
    return [[name, *cells(found)] for name, found in record["contenders"].items() if "failed" not in found]


def failures(record: Record) -> str:
    """Say who is missing and why, those of one reason together; of folders on the machine that measured, the last part is kept."""
    missing: dict[str, list[str]] = {}
    for name, found in record["contenders"].items():
        if "failed" in found:
            missing.setdefault(_FOLDERS.sub("", found["failed"].rstrip(".")), []).append(name)
    listed = "; ".join(f"{' and '.join(names)}: {reason}" for reason, names in missing.items())
    return f" Not in the table: {listed}." if listed else ""


def settings(record: Record) -> str:
    """Say what everyone painted."""
    given = record["parameters"]
    solved = f"{given['sampler']}, {given['steps']} steps, guidance {given['guidance_scale']}"
    return f"toyworld, 64 x 64 pixels, {solved}, {given['threads']} threads"


def end(record: Record) -> str:
    """Close a table: rounds, machine, versions, who is missing."""
    ran = {name: found for name, found in record["contenders"].items() if "failed" not in found}
    rounds = rounds_text({**record, "contenders": ran}) if ran else "no"
    return f"Medians (and ranges) of {rounds} processes. {conditions_line(record)}{versions(record)}{failures(record)}"


def versions(record: Record) -> str:
    """Name each peer's own version, once."""
    named = {}
    for found in record["contenders"].values():
        package = {"stable-diffusion-cpp": "stable-diffusion-cpp-python"}.get(found["venv"], found["venv"])
        if package in found["versions"] and not package.startswith("sd2rt"):
            named[package] = found["versions"][package]
    return f" In venvs of their own: {', '.join(f'{name} {version}' for name, version in named.items())}." if named else ""


def cold_start(record: Record) -> str:
    """From the shell to a PNG."""

    def cells(found: Found) -> list[str]:
        judged = accuracy_cells(found, "picture")
        form = record["forms"][found["form"]]
        return [spread(found["wall_s"]), megabytes(found["peak_rss_bytes"]["median"]), megabytes(form["bytes"]), *judged]

    head = ["", "seconds, shell to PNG", "peak memory, MB", "model on disk, MB", "picture right", "PSNR, dB"]
    text = f"One picture of {settings(record)}; files in the page cache, engines and compiled models cached by whoever can."
    return f"{table(head, rows_of(record, cells))}\n\n{text} {psnr_line()} {end(record)}"


def single_stream(record: Record) -> str:
    """One picture after another in one process."""
    part = "1 at a time"

    def cells(found: Found) -> list[str]:
        times = found["parts"][part]
        loaded = f"{found['load_s']['median']:.1f}"
        memory = megabytes(found["peak_rss_bytes"]["median"])
        return [spread(times["call_s"], 1000, 0), spread(times["step_s"], 1000, 1), loaded, memory, *accuracy_cells(found, part)]

    head = ["", "ms per picture", "ms per step", "seconds to load", "peak memory, MB", "pictures right", "PSNR, dB"]
    return f"{table(head, rows_of(record, cells))}\n\n{settings(record).capitalize()}. {psnr_line()} {end(record)}"


def offline(record: Record) -> str:
    """Pictures per hour in batches."""
    parts = record["parameters"]["parts"]

    def cells(found: Found) -> list[str]:
        said = []
        for name, part in parts.items():
            hourly = 3600 * part["batch"] / found["parts"][name]["call_s"]["median"]
            said += [f"{hourly:.0f}", *accuracy_cells(found, name)]
        return [*said, megabytes(found["peak_rss_bytes"]["median"])]

    head = ["", *(column for name in parts for column in (f"pictures per hour, {name}", "right", "PSNR, dB")), "peak memory, MB"]
    note = "OpenVINO's pipelines paint a batch of one prompt, the others of different ones."
    return f"{table(head, rows_of(record, cells))}\n\n{settings(record).capitalize()}. {note} {psnr_line()} {end(record)}"


def unet(record: Record) -> str:
    """Seconds per guided step of the full-size UNet."""
    given, ran = record["parameters"], record["contenders"]
    base = ran[REFERENCE]["step_s"]["median"] if "step_s" in ran[REFERENCE] else None

    def cells(found: Found) -> list[str]:
        if "against_torch_fp32" not in found:
            raise ValueError("a guided step was measured, but not compared; a speed is not published without its accuracy")
        relative = "-" if base is None else f"{found['step_s']['median'] / base:.2f}"
        memory = f"{found['peak_rss_bytes']['median'] / 1e9:.1f}"
        return [
            spread(found["step_s"]),
            relative,
            f"{found['load_s']['median']:.1f}",
            memory,
            "equal" if found["against_torch_fp32"]["psnr_db"] == EQUAL_DB else f"{found['against_torch_fp32']['psnr_db']:.0f}",
        ]

    head = ["", "seconds per guided step", "of diffusers fp32", "seconds to load", "peak memory, GB", "PSNR, dB"]
    text = (
        f"The UNet alone ({given['model']}), {given['pixels']} x {given['pixels']} pixels, batch 2, {given['threads']} threads, "
        f"{given['steps_per_round']} steps a process after two to warm up. PSNR of its output to torch's in float32."
    )
    return f"{table(head, rows_of(record, cells))}\n\n{text} {end(record)}"


def pipeline(record: Record) -> str:
    """Steps inside the whole full-size pipeline, for who shows no UNet."""
    part = next(iter(record["parameters"]["parts"].values()))

    def cells(found: Found) -> list[str]:
        memory = f"{found['peak_rss_bytes']['median'] / 1e9:.1f}"
        return [spread(found["parts"][part["name"]]["step_s"]), memory, accuracy_cells(found, part["name"])[1]]

    head = ["", "seconds per step", "peak memory, GB", "PSNR of the picture, dB"]
    text = (
        f"One picture of {part['width']} x {part['height']} pixels in {part['steps']} steps by the whole pipeline, the full-size model "
        f"with random weights, guidance {record['parameters']['guidance_scale']}; steps by the library's own callback, but the first."
    )
    return f"{table(head, rows_of(record, cells))}\n\n{text} {end(record)}"


def growth(record: Record) -> str:
    """Show the plots of `benchmarks.peers.plots`, which lie beside the page, and the least PSNR of the pictures behind them."""
    shown = "\n\n".join(f"![Milliseconds per picture against {words}](growth-{kind}.svg)" for kind, words in KINDS.items())
    worst = {
        name: min(judged["psnr_db"]["min"] for judged in found["accuracy"].values() if "psnr_db" in judged)
        for name, found in record["contenders"].items()
        if name != REFERENCE and any("psnr_db" in judged for judged in found.get("accuracy", {}).values())
    }
    least = ", ".join(f"{name} {value:.0f} dB" for name, value in worst.items())
    return f"{shown}\n\nBands are ranges. The least PSNR of all these pictures to those of {REFERENCE}: {least}. {end(record)}"


def install(record: Record) -> str:
    """What an installation takes."""
    rows = [
        [name, f"{found['seconds']:.0f}", megabytes(found["bytes"]), str(len(found["versions"]))]
        for name, found in record["contenders"].items()
        if "failed" not in found
    ]
    head = ["", "seconds", "MB on disk", "packages"]
    text = "A fresh venv by pip without its cache, from a mirror nearby, which the seconds tell more of than of the packages."
    return f"{table(head, rows)}\n\n{text} {conditions_line(record)}{failures(record)}"


def psnr_line() -> str:
    """Say what the column is."""
    return f"PSNR of the pictures to those of {REFERENCE}: median (and least), 99 for equal ones."
