"""Result files: `benchmarks/results/<name>.json`, and the README's tables between markers made from them. Knows no benchmark.

<!-- benchmark cold_start -->
... replaced by `python -m benchmarks report` ...
<!-- end benchmark -->
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import ROOT, conditions

RESULTS = ROOT / "benchmarks" / "results"
Record = dict[str, Any]


def write_record(folder: Path, name: str, content: Mapping[str, object]) -> Path:
    """Write `<folder>/<name>.json` with the conditions of the run in front, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"benchmark": name, **conditions(), **content}, indent=1, ensure_ascii=False) + "\n")
    return path


def read_record(folder: Path, name: str) -> Record | None:
    """Read a result file; None when that benchmark has not been run."""
    path = folder / f"{name}.json"
    return dict(json.loads(path.read_text())) if path.exists() else None


def summary(values: Sequence[float]) -> dict[str, float]:
    """Sum samples up by median, least and greatest."""
    return {"median": median(values), "min": min(values), "max": max(values)}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a Markdown table, the first column to the left and the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rounds_text(record: Record) -> str:
    """Say how many runs of each contender stand behind a table: `7 alternating`, and how many of them nothing disturbed."""
    rounds = record["parameters"]["rounds"]
    left = [found["undisturbed"] for found in record["contenders"].values()]
    return f"{rounds} alternating" if min(left) == rounds else f"{min(left)} to {max(left)} undisturbed of {rounds} alternating"


def conditions_line(record: Record) -> str:
    """Say in one sentence what the figures were taken on."""
    machine, versions = record["machine"], record["versions"]
    libraries = ", ".join(f"{name} {versions[name]}" for name in ("onnxruntime", "torch", "diffusers") if name in versions)
    memory = round(machine["memory_bytes"] / 2**30)
    dirty = " with uncommitted changes" if record["uncommitted_changes"] else ""
    return (
        f"{machine['cores']} cores of {machine['cpu']}, {memory} GiB, Python {versions['python']}, {libraries}; "
        f"{record['date'][:10]}, commit {record['commit'][:10]}{dirty}."
    )


def fill_markers(
    text: str, tables: Mapping[str, Callable[[Record], str]], records: Mapping[str, Record], commands: Mapping[str, str] | None = None
) -> str:
    """Replace what stands between each benchmark's markers by its table; a benchmark that has not been run says so.

    `commands` names those that are not started by their own name.
    Raises ValueError for markers of a benchmark that does not exist.
    """

    def fill(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in tables:
            raise ValueError(f"README markers: got {name!r}, expected one of {', '.join(tables)}")
        command = (commands or {}).get(name, name.replace("_", "-"))
        body = tables[name](records[name]) if name in records else f"Not measured yet: `python -m benchmarks {command}`."
        return f"{match['begin']}\n{body}\n{match['end']}"

    pattern = r"(?P<begin><!-- benchmark (?P<name>\w+) -->)\n.*?(?P<end><!-- end benchmark -->)"
    return re.sub(pattern, fill, text, flags=re.DOTALL)
