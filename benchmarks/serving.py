"""`sd2rt serve` on toyworld over HTTP: throughput by batch, what the server adds, refusals, endurance. Each part is measured by itself.

Parts go into one result file, each with its own date and commit; measuring one again replaces it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import serving_endurance as endurance
from benchmarks import serving_load as load
from benchmarks.machine import conditions
from benchmarks.records import Record, conditions_line, read_record, table

TARGETS = ("cpu", "openvino")
BATCHES = (1, 2, 4, 8)
CLIENTS = (1, 2, 4, 8, 16)
LOAD_S = 2.0  # that each number of clients is measured for, and warmed up before
NAME = "serving"


def measure_throughput(target: str) -> dict[str, Any]:
    """Measure one target: every limit of a batch with one worker, and the largest with two of one thread each."""
    found = []
    for batch, workers in [*((batch, 1) for batch in BATCHES), (BATCHES[-1], 2)]:
        rows = load.measure_throughput(target, batch, workers, CLIENTS, LOAD_S)
        found.append({"batch": batch, "workers": workers, "loads": rows})
    return {"target": target, "servers": found}


PARTS: Mapping[str, Callable[[], dict[str, Any]]] = {
    **{f"throughput_{target}": partial(measure_throughput, target) for target in TARGETS},
    "overhead": partial(load.measure_overhead, "cpu", rounds=4, requests=40),
    "refusals": partial(load.measure_refusals, requests=100),
    "soak": partial(endurance.measure_soak, requests=1000),
    "cancels": partial(endurance.measure_cancels, cancels=100),
    "kills": partial(endurance.measure_kills, seconds=20.0, kills=4),
}


def measure(results: Path, parts: Sequence[str]) -> dict[str, Any]:
    """Measure some parts and return the record with those that were measured before."""
    before = read_record(results, NAME) or {}
    measured = {name: {**{key: conditions()[key] for key in ("date", "commit")}, **PARTS[name]()} for name in parts}
    parameters = {"steps": load.STEPS, "sampler": load.SAMPLER, "seconds_per_load": LOAD_S}
    return {"parameters": parameters, "parts": {**before.get("parts", {}), **measured}}


def report(record: Record) -> str:
    """Make the tables of the page of benchmarks from a result file."""
    parts = record["parts"]
    throughput = [parts[f"throughput_{target}"] for target in TARGETS if f"throughput_{target}" in parts]
    head = ["pictures a second, by clients at once", *map(str, CLIENTS), "8 against 1"]
    rows = [_throughput_row(found["target"], server) for found in throughput for server in found["servers"]]
    given = record["parameters"]
    what = f"toyworld, 64 x 64 pixels, {given['steps']} steps of {given['sampler']}, through POST /v1/images/generations"
    return "\n\n".join([table(head, rows), *_sentences(parts), f"{what}. {conditions_line(record)}"])


def _throughput_row(target: str, server: Mapping[str, Any]) -> list[str]:
    rates = {found["clients"]: found["pictures"] / found["seconds"] for found in server["loads"]}
    workers = "" if server["workers"] == 1 else f", {server['workers']} workers"
    cells = [f"{rates[count]:.1f}" for count in CLIENTS]
    return [f"{target}, batches of up to {server['batch']}{workers}", *cells, f"{rates[8] / rates[1]:.2f} x"]


def _sentences(parts: Mapping[str, Any]) -> list[str]:
    """Say in a sentence what each other part came to."""
    makers = {"overhead": _overhead, "refusals": _refusals, "soak": _soak, "cancels": _cancels, "kills": _kills}
    return [make(parts[name]) for name, make in makers.items() if name in parts]


def _overhead(part: Mapping[str, Any]) -> str:
    at_once, after_pause = part["pauses"]
    (server, pipeline), (later, _) = _besides(at_once), _besides(after_pause)
    whole = {name: 1000 * median(at_once["seconds"][name]) for name in at_once["seconds"]}
    count = len(at_once["seconds"]["server"])
    return (
        f"**The server adds {server - pipeline:.1f} ms** to a picture of a client that asks again at once: besides its engines a request "
        f"takes {server:.1f} ms, the same call of the pipeline in another process, to the file, {pipeline:.1f} (medians of {count}, in "
        f"turn, over {part['rounds']} starts of both). With the engines, whose pace differs by some percent between any two processes, it "
        f"is {whole['server']:.1f} ms against {whole['pipeline']:.1f}, by pairs {_added(at_once):.1f} ms more. After a pause of "
        f"{1000 * after_pause['pause_s']:g} ms, when the machine has gone idle, a request takes {later:.1f} ms besides its engines, by "
        f"pairs {_added(after_pause):.1f} ms more. {at_once['equal_bytes']} of the {count} files were equal byte for byte."
    )


def _added(found: Mapping[str, Any]) -> float:
    """Return by how many milliseconds requests took longer than the calls beside them, median."""
    seconds = found["seconds"]
    return 1000 * median(one - other for one, other in zip(seconds["server"], seconds["pipeline"], strict=True))


def _besides(found: Mapping[str, Any]) -> tuple[float, float]:
    """Return the milliseconds that requests and calls took besides their engines, medians."""
    pairs = [zip(found["seconds"][name], found["engines"][name], strict=True) for name in ("server", "pipeline")]
    server, pipeline = (1000 * median(whole - engines for whole, engines in pair) for pair in pairs)
    return server, pipeline


def _refusals(part: Mapping[str, Any]) -> str:
    milliseconds = sorted(1000 * taken for taken in part["seconds"])
    statuses = ", ".join(map(str, part["statuses"]))
    return (
        f"**A full queue** ({part['queue']} waiting) is told with {statuses} in {median(milliseconds):.1f} ms (the slowest of "
        f"{len(milliseconds)}: {milliseconds[-1]:.1f} ms) while all cores paint."
    )


def _soak(part: Mapping[str, Any]) -> str:
    minutes = part["seconds"] / 60
    return (
        f"**{part['requests']:,} requests** of four clients over {part['routes']} kinds of visits in {minutes:.1f} minutes: "
        f"{len(part['failures'])} failures, memory grew by {slope(part['memory']) / 1e6:.2f} MB per 100 requests in the second half."
    )


def _cancels(part: Mapping[str, Any]) -> str:
    change = 100 * (part["after_bytes"] / part["before_bytes"] - 1)
    slowest = 1000 * max(part["seconds"])
    return (
        f"**{part['cancels']} jobs cancelled** while they were painted, half of them by hanging up: the slowest ended after "
        f"{slowest:.0f} ms; memory {change:+.2f} % ({part['before_bytes'] / 1e6:.0f} MB before)."
    )


def _kills(part: Mapping[str, Any]) -> str:
    statuses = ", ".join(f"{count} with {status}" for status, count in sorted(part["statuses"].items()))
    return f"**{part['kills']} workers killed** (SIGKILL) under eight clients: of {part['answered']} requests, {statuses}."


def slope(memory: Sequence[Sequence[float]]) -> float:
    """Return by how many bytes memory grows per 100 requests: the least squares line through the second half of (requests, bytes)."""
    points = memory[len(memory) // 2 :]
    mean_x, mean_y = (sum(point[axis] for point in points) / len(points) for axis in (0, 1))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return 100 * sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
