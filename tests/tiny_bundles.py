"""Tiny pipelines and their bundles, exported once per test session and shared by every test that needs one."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from sd2rt.export import ExportOptions, export
from tests.tiny import tiny_pipeline


@cache
def session_folder() -> Path:
    """Return a folder that lasts until the interpreter ends."""
    folder = Path(tempfile.mkdtemp(prefix="sd2rt-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def tiny_checkpoint(variant: str) -> Path:
    """Return the variant's diffusers folder."""
    folder = session_folder() / variant
    tiny_pipeline(variant, folder=folder)
    return folder


@cache
def tiny_bundle(variant: str, dtype: str) -> Path:
    """Return the variant's bundle, "fp32" or "fp16"."""
    return export(tiny_checkpoint(variant), session_folder() / f"{variant}-{dtype}", ExportOptions(dtype=dtype))
