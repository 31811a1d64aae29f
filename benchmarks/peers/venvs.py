"""A venv of its own for every peer, as its users install it; how long that took and how much disk it takes. Knows no model."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import venv
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.machine import ROOT

TORCH = "torch==2.13.0"
DETAILS = "installed.json"
PACKAGES = ("export", "engine", "runtime", "cli", "toyworld")  # ours are installed in place: their files count to the venv


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What pip is told: requirements, and what must go again afterwards. `why` says why that is."""

    requirements: tuple[str, ...]
    remove: tuple[str, ...] = ()
    why: str = ""


RECIPES = {
    "sd2rt": Recipe(requirements=("-e", f"{ROOT}[cpu]")),
    "sd2rt-openvino": Recipe(requirements=("-e", f"{ROOT}[openvino]")),
    "diffusers": Recipe(requirements=(TORCH, "diffusers", "transformers>=5.0")),
    "optimum-onnx": Recipe(requirements=(TORCH, "optimum-onnx[onnxruntime]", "diffusers", "transformers<4.58")),
    "optimum-intel": Recipe(
        requirements=(TORCH, "optimum-intel[openvino]", "diffusers", "accelerate"),
        remove=("torchvision",),
        why="PyPI's torchvision is built for CUDA's torch and breaks beside the CPU's",
    ),
    "openvino-genai": Recipe(requirements=("openvino-genai", "pillow")),
    "stable-diffusion-cpp": Recipe(requirements=("stable-diffusion-cpp-python", "numpy")),
}


def folder(name: str, root: Path = ROOT) -> Path:
    """Return where a peer's venv is."""
    return root / f".venv-peers-{name}"


def python(name: str, root: Path = ROOT) -> str:
    """Return the venv's interpreter."""
    return str(folder(name, root) / "bin" / "python")


def install(name: str, recipe: Recipe, root: Path = ROOT) -> dict[str, Any]:
    """Install a peer unless the same recipe did it before; return its details, which say `failed` and why where it cannot be.

    Our own requirements are those of pyproject.toml: when it changes, sd2rt is installed again.
    """
    asked = json.loads(json.dumps({"recipe": asdict(recipe), "python": sys.version.split()[0]}))
    if "-e" in recipe.requirements:
        asked["pyproject_sha256"] = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    found = details(name, root)
    if found is None or {key: found.get(key) for key in asked} != asked:
        found = {**asked, **_install(folder(name, root), recipe)}
        (folder(name, root) / DETAILS).write_text(json.dumps(found, indent=1) + "\n")
    return found


def details(name: str, root: Path = ROOT) -> dict[str, Any] | None:
    """Return what `install` found out, or None where it was not called."""
    path = folder(name, root) / DETAILS
    return dict(json.loads(path.read_text())) if path.exists() else None


def _install(target: Path, recipe: Recipe) -> dict[str, Any]:
    """Make the venv anew, without pip's cache, and time that."""
    start = perf_counter()
    venv.create(target, clear=True, with_pip=True)
    pip = [str(target / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    commands = [[*pip, "install", "--quiet", "--no-cache-dir", *recipe.requirements]]
    if recipe.remove:
        commands.append([*pip, "uninstall", "--quiet", "--yes", *recipe.remove])
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return {"failed": last_error(done.stderr)}
    seconds = perf_counter() - start
    listed = subprocess.run([*pip, "list", "--format", "json"], capture_output=True, text=True, check=True).stdout
    ours = sum(disk_bytes(ROOT / package) for package in PACKAGES) if "-e" in recipe.requirements else 0
    return {
        "seconds": seconds,
        "bytes": disk_bytes(target) + ours,
        "versions": {package["name"].lower(): package["version"] for package in json.loads(listed)},
    }


def disk_bytes(path: Path) -> int:
    """Return what the files of a folder, or a file, take on the disk, each once."""
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    taken = {(found.st_dev, found.st_ino): 512 * found.st_blocks for found in (file.lstat() for file in files)}
    return sum(taken.values())


def last_error(words: str) -> str:
    """Return the line that says best why something failed: the last that speaks of an error, else the last one."""
    lines = [line.strip() for line in words.splitlines() if line.strip()] or ["no word"]
    return next((line for line in reversed(lines) if "error" in line.lower()), lines[-1])[-300:]
