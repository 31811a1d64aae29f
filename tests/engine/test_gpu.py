"""The look for a GPU: against a driver library that is not there, fails, or describes one."""

import ctypes
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from sd2rt.engine.gpu import LIBRARY, Gpu, find_gpu

GIVEN = {"cuDriverGetVersion": 13010, "cuDeviceGet": 0}


def library(**statuses: int) -> Callable[[str], Any]:
    """Return a loader of a driver with one GPU; calls named in `statuses` return that error."""

    def answer(name: str, *values: Any) -> int:
        status = statuses.get(name, 0)
        if name == "cuDeviceGetName":
            values[0].value = b"NVIDIA Test 4090"
        elif name == "cuDeviceGetAttribute":
            values[0]._obj.value = {75: 8, 76: 9}[values[1]]
        elif name == "cuGetErrorString":
            values[1]._obj.value = b"system not yet initialized" if values[0] == 802 else None
        elif name in GIVEN:
            values[0]._obj.value = GIVEN[name]
        return status

    names = ("cuInit", "cuDriverGetVersion", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute", "cuGetErrorString")
    calls = {name: lambda *values, name=name: answer(name, *values) for name in names}

    def load(name: str) -> Any:
        assert name == LIBRARY
        return SimpleNamespace(**calls)

    return load


def test_a_gpu_is_described() -> None:
    assert find_gpu(library()) == Gpu(name="NVIDIA Test 4090", capability=(8, 9), driver_version=13010)


def test_without_a_driver_it_says_what_to_install() -> None:
    def load(name: str) -> Any:
        raise OSError("no such file")

    assert find_gpu(load) == f"no NVIDIA driver ({LIBRARY}) was found: install NVIDIA's driver for this machine's GPU"


@pytest.mark.parametrize(
    ("statuses", "message"),
    [
        ({"cuInit": 100}, "the NVIDIA driver sees no GPU: check nvidia-smi and CUDA_VISIBLE_DEVICES"),
        ({"cuInit": 802}, "the NVIDIA driver does not start (system not yet initialized): check it with nvidia-smi"),
        ({"cuInit": 804}, "the NVIDIA driver does not start (error 804): check it with nvidia-smi"),
        ({"cuDriverGetVersion": 1}, "the NVIDIA driver does not describe its GPU (error 1)"),
        ({"cuDeviceGet": 802}, "the NVIDIA driver does not describe its GPU (system not yet initialized)"),
        ({"cuDeviceGetName": 1}, "the NVIDIA driver does not describe its GPU"),
        ({"cuDeviceGetAttribute": 1}, "the NVIDIA driver does not describe its GPU"),
    ],
)
def test_a_driver_that_fails_is_one_line_with_what_to_do(statuses: dict[str, int], message: str) -> None:
    said = find_gpu(library(**statuses))
    assert isinstance(said, str)
    assert said.startswith(message)
    assert "nvidia-smi" in said


@pytest.mark.skipif(sys.platform == "win32", reason="the name of a library that Linux has")
def test_this_machine_s_answer_is_one_or_the_other() -> None:
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        assert find_gpu() == f"no NVIDIA driver ({LIBRARY}) was found: install NVIDIA's driver for this machine's GPU"
    else:
        assert isinstance(find_gpu(), Gpu | str)
