"""Made-up requests, right ones and wrong ones, against the OpenAPI document: no answer that it does not foresee, and no 5xx.

`schemathesis run` asks a server on a real socket whose backend paints nothing, so that what is tried is all of HTTP and every check of
what is asked. Of its own checks three are off. That whatever fits the document is accepted: samplers, sizes and pictures have rules that
JSON Schema cannot say. That what was deleted is gone: a job that is cancelled stays, to say so. And under /sdapi, that what does not fit
is refused: the web UI reads 0 as false and false as 0, and so do we.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.serve.http.conftest import TOKENS, listening

pytest.importorskip("schemathesis", reason="needs the dev extra")
CONFIG = """
[checks]
positive_data_acceptance.enabled = false
use_after_free.enabled = false

[[operations]]
include-path-regex = "^/sdapi/"
checks.negative_data_rejection.enabled = false
"""
RULES = ("--generation-database", "none", "--no-color")


def fuzz(folder: Path, *options: str, tokens: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
    """Run schemathesis and return its report. Fails where it found anything, with what it found."""
    header = ("--header", f"Authorization: Bearer {tokens[0][1]}") if tokens else ()
    report, config = folder / "report.json", folder / "schemathesis.toml"
    config.write_text(CONFIG)
    with listening(queue=1000, results_s=20.0, tokens=tokens) as url:
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", f"{url}/openapi.json"]
        command += [*RULES, *header, *options, "--report", "json", "--report-json-path", str(report)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=1500, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def test_a_few_hundred_cases(tmp_path: Path) -> None:
    report = fuzz(tmp_path, "--phases", "fuzzing", "--max-examples", "12", "--seed", "7")
    assert report["test_cases"]["generated"] >= 200


@pytest.mark.slow
def test_five_thousand_cases(tmp_path: Path) -> None:
    """With tokens, so that what is closed is found to be closed; every phase."""
    report = fuzz(tmp_path, "--max-examples", "200", "--seed", "1", "--continue-on-failure", tokens=TOKENS)
    print(report["test_cases"])
    assert report["test_cases"]["generated"] >= 5000
