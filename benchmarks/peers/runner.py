"""The scenarios by name, what each takes, and one record of each. `run` measures those that this commit has no record of."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.machine import git
from benchmarks.peers import painting, report, unet
from benchmarks.peers.contenders import taking_part
from benchmarks.peers.painting import PARTS, Setting
from benchmarks.peers.venvs import RECIPES, install
from benchmarks.records import Record, read_record, write_record


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Where models, outputs and results go, the toyworld bundle, how many rounds (the scenario's own without), and whom to take."""

    bundle: Path
    work: Path
    results: Path
    rounds: int | None = None
    wanted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """How a scenario is measured and shown; `minutes` is about what it takes on two quiet cores once the models are made."""

    rounds: int
    minutes: float
    measure: Callable[[str, Request, int], dict[str, Any]]
    report: Callable[[Record], str]
    by_default: bool = True


def measure_install(name: str, request: Request, rounds: int) -> dict[str, Any]:
    """Install everyone who may take part; once."""
    venvs = {one.venv for one in taking_part(None, request.wanted)}
    return {"parameters": {"scenario": name}, "contenders": {venv: install(venv, RECIPES[venv]) for venv in RECIPES if venv in venvs}}


def measure_toyworld(name: str, request: Request, rounds: int) -> dict[str, Any]:
    """Paint toyworld."""
    setting = Setting(scenario=name, bundle=request.bundle, work=request.work / "toyworld", rounds=rounds, wanted=request.wanted)
    return painting.measure(setting, PARTS[name])


def measure_unet(name: str, request: Request, rounds: int) -> dict[str, Any]:
    """Step the full-size UNet."""
    size = unet.SIZES[name.removeprefix("unet-")]
    return unet.measure(full_size(name, request, rounds, size.preset), size, steps=2)


def measure_pipeline(name: str, request: Request, rounds: int) -> dict[str, Any]:
    """Paint with the full-size model."""
    return painting.measure(full_size(name, request, rounds, unet.SIZES["512"].preset), PARTS[name])


def full_size(name: str, request: Request, rounds: int, preset: str) -> Setting:
    """Return the setting of a full-size scenario, with its bundle exported."""
    work = request.work / preset
    bundle = unet.full_size_bundle(request.work, preset)
    return Setting(scenario=name, bundle=bundle, work=work.with_name(f"{preset}-work"), rounds=rounds, wanted=request.wanted)


SCENARIOS: Mapping[str, Scenario] = {
    "install": Scenario(rounds=1, minutes=8, measure=measure_install, report=report.install),
    "cold-start": Scenario(rounds=5, minutes=4, measure=measure_toyworld, report=report.cold_start),
    "single-stream": Scenario(rounds=3, minutes=6, measure=measure_toyworld, report=report.single_stream),
    "offline": Scenario(rounds=2, minutes=5, measure=measure_toyworld, report=report.offline),
    "unet-512": Scenario(rounds=2, minutes=8, measure=measure_unet, report=report.unet),
    "pipeline": Scenario(rounds=1, minutes=7, measure=measure_pipeline, report=report.pipeline),
    "growth": Scenario(rounds=1, minutes=5, measure=measure_toyworld, report=report.growth),
    "unet-768": Scenario(rounds=1, minutes=12, measure=measure_unet, report=report.unet, by_default=False),
    "unet-x4": Scenario(rounds=1, minutes=6, measure=measure_unet, report=report.unet, by_default=False),
}


def record_name(scenario: str) -> str:
    """unet-512 -> peers_unet_512."""
    return f"peers_{scenario.replace('-', '_')}"


def report_all(scenario: Scenario, record: Record) -> str:
    """Make a scenario's table, and say so where only some of its contenders were measured."""
    some = f" Of the contenders, only those were measured that have one of these in their names: {'; '.join(record['only'])}."
    return scenario.report(record) + (some if record["only"] else "")


REPORTS = {record_name(name): partial(report_all, scenario) for name, scenario in SCENARIOS.items()}
COMMANDS = {record_name(name): f"peers --scenario {name}" for name in SCENARIOS}


def run(names: Iterable[str], request: Request) -> Iterator[str]:
    """Measure scenarios, write their records, and say so of each.

    Without names: all that run by default and of which there is no record of this commit, so that what was cut off goes on.
    """
    asked = tuple(names)
    for name in asked or (name for name, scenario in SCENARIOS.items() if scenario.by_default):
        found = read_record(request.results, record_name(name))
        if not asked and found is not None and not found["only"] and found["commit"] == git("rev-parse", "HEAD") != "":
            yield f"{name}: measured at this commit already"
            continue
        scenario = SCENARIOS[name]
        yield f"{name}: about {scenario.minutes:g} minutes on two quiet cores, and the models once; {os.getloadavg()[0]:.1f} busy now"
        start = perf_counter()
        content = scenario.measure(name, request, request.rounds or scenario.rounds)
        yield str(
            write_record(request.results, record_name(name), {"only": list(request.wanted), "took_s": perf_counter() - start, **content})
        )
