"""Look for an NVIDIA GPU through the driver's own library: nothing is imported or installed for it, and no context is made."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
NAME_LENGTH = 256
CHECK_DRIVER = "check it with nvidia-smi and install NVIDIA's driver again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """The GPU that sd2rt uses: the first of those that CUDA_VISIBLE_DEVICES lets be seen.

    `capability` is (8, 9) for SM89; `driver_version` is the newest CUDA that the driver runs, 13010 for 13.1.
    """

    name: str
    capability: tuple[int, int]
    driver_version: int


def find_gpu(load: Callable[[str], Any] = ctypes.CDLL) -> Gpu | str:
    """Return the GPU, or in one line why there is none and what to do. `load` opens a shared library by its name."""
    try:
        cuda = load(LIBRARY)
    except OSError:
        return f"no NVIDIA driver ({LIBRARY}) was found: install NVIDIA's driver for this machine's GPU"
    status = cuda.cuInit(0)
    if status == NO_DEVICE:
        return "the NVIDIA driver sees no GPU: check nvidia-smi and CUDA_VISIBLE_DEVICES"
    if status:
        return f"the NVIDIA driver does not start ({_error(cuda, status)}): {CHECK_DRIVER}"
    try:
        return _describe(cuda)
    except OSError as error:
        return f"the NVIDIA driver does not describe its GPU ({error}): {CHECK_DRIVER}"


def _describe(cuda: Any) -> Gpu:
    """Ask for the first device. Raises OSError with the driver's message when a question is not answered."""
    version, device, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(NAME_LENGTH)
    major, minor = ctypes.c_int(), ctypes.c_int()
    _ask(cuda, cuda.cuDriverGetVersion(ctypes.byref(version)))
    _ask(cuda, cuda.cuDeviceGet(ctypes.byref(device), 0))
    _ask(cuda, cuda.cuDeviceGetName(name, NAME_LENGTH, device))
    _ask(cuda, cuda.cuDeviceGetAttribute(ctypes.byref(major), MAJOR, device))
    _ask(cuda, cuda.cuDeviceGetAttribute(ctypes.byref(minor), MINOR, device))
    return Gpu(name=name.value.decode(), capability=(major.value, minor.value), driver_version=version.value)


def _ask(cuda: Any, status: int) -> None:
    if status:
        raise OSError(_error(cuda, status))


def _error(cuda: Any, status: int) -> str:
    """Return the driver's words for an error, or its number."""
    text = ctypes.c_char_p()
    cuda.cuGetErrorString(status, ctypes.byref(text))
    return text.value.decode() if text.value else f"error {status}"
