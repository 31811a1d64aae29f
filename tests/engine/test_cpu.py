import os
import platform
from pathlib import Path

import pytest

from sd2rt.engine import cpu

X86 = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 sse4_2 avx\n\nprocessor\t: 1\nmodel name\t: Other\nflags\t\t: avx512f\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd evtstrm sve crc32\n"


@pytest.mark.parametrize(("text", "flags"), [(X86, "avx avx2 sse4_2"), (ARM, "asimd sve")])
def test_features_are_the_vector_extensions_in_order(text: str, flags: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "cpuinfo")
    assert cpu.cpu_features() == f"{platform.machine()} {flags}"


def test_name_comes_from_the_first_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(X86)
    monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "cpuinfo")
    assert cpu.cpu_name() == "Some CPU"


def test_system_without_cpuinfo_gives_the_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "none")
    assert cpu.cpu_features() == platform.machine()
    assert cpu.cpu_name()


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(None, 64), ("max 100000", 64), ("200000 100000", 2), ("150000 100000", 2), ("10000 100000", 1), ("9900000 100000", 64)],
)
def test_count_heeds_what_a_container_may_use(limit: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if limit is not None:
        (tmp_path / "cpu.max").write_text(f"{limit}\n")
    monkeypatch.setattr(cpu, "CPU_MAX", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    assert cpu.cpu_count() == expected
