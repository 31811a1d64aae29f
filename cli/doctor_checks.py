"""What `doctor` looks at on this machine, one check at a time. Nothing is imported that could crash, and nothing stays changed."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from sd2rt.cli.console import size_text
from sd2rt.cli.info import describe_gpu, installed_version, memory_bytes
from sd2rt.engine.errors import InvalidArgument, Sd2rtError

State = Literal["ok", "absent", "warning", "failed"]
EXTRAS = {"cpu": "cpu", "openvino": "openvino", "cuda": "gpu", "tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt-rtx", "export": "export"}
"""What each target, and exporting, is installed by."""
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[.*?\])?>=(?P<oldest>[\d.]+).*extra == \"(?P<extra>[\w-]+)\"")
LITTLE_MEMORY, LITTLE_DISK = 2 << 30, 1 << 30  # bytes: what toyworld and its engines need many times over
SHOWN = ("SD2RT_", "HF_", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "NO_COLOR", "XDG_", "HTTP_PROXY", "HTTPS_PROXY")
SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSWORD", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was looked at, how it is, and what to do about it.

    "absent" is not installed and need not be; "warning" may be as it should; "failed" should work and does not.
    """

    topic: str
    name: str
    state: State
    detail: str
    remedy: str = ""


def check_machine() -> Iterator[Check]:
    """Look at Python, the CPU, memory, and the GPU with its driver."""
    from sd2rt.engine.cpu import cpu_count, cpu_name
    from sd2rt.engine.gpu import find_gpu

    ours = f"sd2rt {importlib.metadata.version('sd2rt')}, Python {platform.python_version()}, {platform.platform()}"
    yield Check(topic="machine", name="system", state="ok", detail=ours)
    yield Check(topic="machine", name="cpu", state="ok", detail=f"{cpu_name()}, {cpu_count()} cores")
    total, free = memory_bytes(), free_memory()
    detail = "unknown" if total is None else size_text(total) + ("" if free is None else f", {size_text(free)} free")
    little = free is not None and free < LITTLE_MEMORY
    remedy = "close other programs; --low-memory needs less" if little else ""
    yield Check(topic="machine", name="memory", state="warning" if little else "ok", detail=detail, remedy=remedy)
    found = find_gpu()
    gpu = describe_gpu(found)
    detail = str(found) if gpu is None else f"{gpu['name']} ({gpu['architecture']}), driver for CUDA {gpu['cuda']}"
    yield Check(topic="machine", name="gpu", state="absent" if gpu is None else "ok", detail=detail)


def free_memory() -> int | None:
    """Return the memory that programs can still have, in bytes, or None where the system does not tell."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return None
    found = re.search(r"MemAvailable:\s+(\d+) kB", text)
    return int(found[1]) << 10 if found else None


def check_packages() -> Iterator[Check]:
    """Look at what each target, and exporting, needs: installed, missing or too old; and at what must not be there together."""
    for use, extra in EXTRAS.items():
        needs = requirements().get(extra, {})
        have = {name: installed_version(name) for name in needs}
        there = [f"{name} {version}" for name, version in have.items() if version]
        lacking = [name for name, version in have.items() if not version]
        old = [
            f"{name} {version}, expected {needs[name]} or newer"
            for name, version in have.items()
            if version and is_older(version, needs[name])
        ]
        install = f"pip install {'-U ' if old else ''}'sd2rt[{extra}]'"
        if use == "cuda" and installed_version("onnxruntime"):
            install = f"pip uninstall onnxruntime, then {install}"
        if old:
            yield Check(topic="packages", name=use, state="warning", detail="; ".join(old), remedy=install)
        elif lacking:
            detail = f"without {', '.join(lacking)}" + (f"; {', '.join(there)}" if there else "")
            yield Check(topic="packages", name=use, state="absent", detail=detail, remedy=install)
        else:
            yield Check(topic="packages", name=use, state="ok", detail=", ".join(there))
    both = [f"{name} {version}" for name in ("onnxruntime", "onnxruntime-gpu") if (version := installed_version(name))]
    if len(both) > 1:
        detail = f"{' and '.join(both)} overwrite each other's files"
        remedy = "pip uninstall onnxruntime onnxruntime-gpu, then pip install 'sd2rt[cpu]' or 'sd2rt[gpu]'"
        yield Check(topic="packages", name="onnxruntime", state="failed", detail=detail, remedy=remedy)


def requirements() -> dict[str, dict[str, str]]:
    """Return the oldest version of each package by extra, as sd2rt's own metadata has it."""
    found: dict[str, dict[str, str]] = {}
    for line in importlib.metadata.requires("sd2rt") or ():
        match = REQUIREMENT.match(line)
        if match:
            found.setdefault(match["extra"], {})[match["name"]] = match["oldest"]
    return found


def is_older(version: str, oldest: str) -> bool:
    """Compare the numbers at the beginning of two versions."""
    ours, theirs = (tuple(int(part) for part in re.findall(r"\d+", re.split(r"[^\d.]", text)[0])) for text in (version, oldest))
    return ours < theirs


def check_targets() -> Iterator[Check]:
    """Ask which targets work here."""
    from sd2rt.engine.targets import probe_targets

    found = probe_targets()
    for status in found:
        yield Check(topic="targets", name=status.name, state="ok" if status.works else "absent", detail=status.detail)
    if not any(status.works for status in found):
        yield Check(topic="targets", name="any", state="failed", detail="no target works here", remedy="pip install 'sd2rt[cpu]'")


def check_folders() -> Iterator[Check]:
    """Look at the folders of engines, models and the hub: room, size, who may write."""
    from sd2rt.engine.cache import cache_root
    from sd2rt.runtime.model_store import models_root

    for name, find, variable in (("engines", cache_root, "SD2RT_CACHE"), ("models", models_root, "SD2RT_MODELS"), ("hub", _hub, "HF_HOME")):
        try:
            yield check_folder(name, find(), variable, owned=name == "engines")
        except InvalidArgument as error:
            yield Check(topic="folders", name=name, state="failed", detail=str(error), remedy=f"mend or unset {variable}")


def _hub() -> Path:
    """Return the folder of the hub's files. The hub leaves a ~ of nobody as it is, and so does this."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.path.expanduser(os.environ.get("HF_HUB_CACHE") or Path(home, "hub")))


def check_folder(name: str, folder: Path, variable: str, *, owned: bool = False) -> Check:
    """Look at one folder, which need not exist yet; with `owned`, others must not be able to write there."""
    from sd2rt.cli.output import check_writable
    from sd2rt.engine.cache_access import check_owner
    from sd2rt.runtime.model_store import folder_bytes

    move = f"set {variable} to a folder of your own"
    try:
        check_writable(folder)
        if owned and folder.exists():
            check_owner(folder)
        size = size_text(folder_bytes(folder)) if folder.exists() else "not there yet"
        free = shutil.disk_usage(next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())).free
    except Sd2rtError as error:
        return Check(topic="folders", name=name, state="failed", detail=str(error), remedy=move)
    except OSError as error:
        return Check(topic="folders", name=name, state="failed", detail=f"{folder}: {error.strerror}", remedy=move)
    little = free < LITTLE_DISK
    detail = f"{folder}: {size}, {size_text(free)} free"
    return Check(
        topic="folders", name=name, state="warning" if little else "ok", detail=detail, remedy=f"free space, or {move}" if little else ""
    )


def check_models() -> Iterator[Check]:
    """Look at the models of the models folder, where there is one: their manifests, and the size of every file."""
    from sd2rt.runtime.model_store import list_models

    with contextlib.suppress(InvalidArgument):  # check_folders tells
        for model in list_models():
            if model.bundle is None:
                yield Check(topic="models", name=model.name, state="warning", detail=model.problem, remedy=f"sd2rt models rm {model.name}")
            else:
                yield Check(topic="models", name=model.name, state="ok", detail=f"{model.bundle.task}, {model.folder}")


def check_settings(root: click.Group, environment: Mapping[str, str] = os.environ) -> Iterator[Check]:
    """Look at the configuration file and at our environment variables."""
    from sd2rt.cli.settings import config_path, read_settings, unknown_variables

    try:
        path = config_path(environment)
        count = len({(setting.table, setting.key) for setting in read_settings(root, environment)})
        detail = f"{path}{'' if path.exists() else ' (not there)'}: {count} set"
        yield Check(topic="settings", name="config", state="ok", detail=detail)
    except Sd2rtError as error:
        variable = str(error).partition(":")[0]  # a message begins with it, or with the file
        remedy = f"mend or unset {variable}" if variable in environment else f"mend {path}"
        yield Check(topic="settings", name="config", state="failed", detail=str(error), remedy=remedy)
    for name in unknown_variables(root, environment):
        yield Check(topic="settings", name=name, state="warning", detail="means nothing to sd2rt", remedy="sd2rt config show --help")
    for name in sorted(environment):
        if name.startswith(SHOWN) and name not in unknown_variables(root, environment):
            yield Check(topic="settings", name=name, state="ok", detail=redact(name, environment[name]))


def redact(name: str, value: str) -> str:
    """Return a variable's value without what must not be shown to others: tokens, and passwords in addresses."""
    if SECRET.search(name):
        return "set, not shown" if value else "empty"
    return re.sub(r"^([a-z][a-z0-9+.-]*://)?.*@", r"\1(not shown)@", value, flags=re.IGNORECASE | re.DOTALL)
