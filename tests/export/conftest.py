"""Leaves out the modules that need the export extra where it is not installed, and says so."""

import importlib.util
from pathlib import Path

TORCH_FREE = {
    "test_aliases.py",
    "test_checkpoint.py",
    "test_defaults.py",
    "test_hub.py",
    "test_hub_files.py",
    "test_lora_keys.py",
    "test_options.py",
    "test_presets.py",
    "test_writer.py",
}
HAS_TORCH = importlib.util.find_spec("torch") is not None

collect_ignore = [] if HAS_TORCH else sorted(file.name for file in Path(__file__).parent.glob("test_*.py") if file.name not in TORCH_FREE)


def pytest_report_header() -> str:
    """Print why fewer tests are collected than there are."""
    return (
        "" if HAS_TORCH else f"tests/export: {len(collect_ignore)} modules left out, torch is not installed (pip install '.[export,cpu]')"
    )
