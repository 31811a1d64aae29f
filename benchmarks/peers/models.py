"""One checkpoint in the form that each contender loads, made from a bundle and kept. Knows no scenario."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.measure import ContenderFailed, run_measured
from benchmarks.peers.venvs import disk_bytes, last_error, python

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
Export = Callable[[Path, Path, Path], list[str]]  # bundle, diffusers folder, where to


def command(venv: str, name: str) -> str:
    """Return a venv's command."""
    return str(Path(python(venv)).with_name(name))


def worker(name: str, *arguments: str) -> list[str]:
    """Return the command of one of `benchmarks.workers`, here."""
    return [sys.executable, "-m", f"benchmarks.workers.{name}", *arguments]


def to_onnx(bundle: Path, diffusers: Path, out: Path) -> list[str]:
    """optimum-onnx's own export, float32."""
    return [command("optimum-onnx", "optimum-cli"), "export", "onnx", "-m", str(diffusers), "--task", "text-to-image", str(out)]


def to_openvino(bundle: Path, diffusers: Path, out: Path) -> list[str]:
    """optimum-intel's own export, weights in half precision as OpenVINO keeps them; GenAI reads the same files."""
    tool = [command("optimum-intel", "optimum-cli"), "export", "openvino"]
    return [*tool, "-m", str(diffusers), "--task", "text-to-image", "--weight-format", "fp16", str(out)]


FORMS: dict[str, Export] = {
    "diffusers": lambda bundle, diffusers, out: worker("diffusers_folder", str(bundle), str(out)),
    "onnx": to_onnx,
    "ir": to_openvino,
    "single-file": lambda bundle, diffusers, out: worker("single_file", str(diffusers), str(out)),
}


def prepare(bundle: Path, work: Path, forms: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Make the forms that `work` lacks; per form its `path`, `bytes` and `seconds` to make, or `failed` and why.

    The bundle itself is a form. Every other one is made from the diffusers folder, which is made first.
    """
    made: dict[str, dict[str, Any]] = {"bundle": {"path": str(bundle), "bytes": bundle_bytes(bundle), "seconds": 0.0}}
    for form in ("diffusers", *sorted(set(forms) - {"bundle", "diffusers"})):
        made[form] = _make(form, bundle, work)
    return made


def _make(form: str, bundle: Path, work: Path) -> dict[str, Any]:
    """Make one form, or find it again with what was said of it then, if it was made of the same bundle."""
    out, note = work / form, work / f"{form}.json"
    source = hashlib.sha256((bundle / "bundle.json").read_bytes()).hexdigest()  # which has the hashes of all weights
    if note.exists() and (found := dict(json.loads(note.read_text()))).get("bundle_sha256") == source:
        return found
    note.unlink(missing_ok=True)
    shutil.rmtree(out, ignore_errors=True)  # a part of it, where making it was cut off
    out.unlink(missing_ok=True)
    start = perf_counter()
    try:
        run_measured(FORMS[form](bundle, work / "diffusers", out), OFFLINE)
    except (ContenderFailed, OSError) as error:
        return {"failed": last_error(getattr(error, "words", str(error)))}
    found = {"path": str(out), "bytes": disk_bytes(out), "seconds": perf_counter() - start, "bundle_sha256": source}
    note.write_text(json.dumps(found) + "\n")
    return found


def bundle_bytes(bundle: Path) -> int:
    """Return the size of what text to image needs of a bundle: toyworld's holds other tasks too."""
    described = json.loads((bundle / "bundle.json").read_text())
    names = [*described["components"], "tokenizer", "scheduler", "bundle.json"]
    return sum(disk_bytes(bundle / name) for name in names)
