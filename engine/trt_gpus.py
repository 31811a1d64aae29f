"""Which GPUs a TensorRT engine is for: those that its build names, or the one it was built on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sd2rt.engine import gpu as gpus
from sd2rt.engine.errors import EngineError, InvalidArgument, TargetUnavailable
from sd2rt.engine.gpu import Gpu
from sd2rt.engine.manifest import Field
from sd2rt.engine.spec import TensorRTOptions
from sd2rt.engine.store import CacheEntry, Notify
from sd2rt.engine.targets import PORTABLE_TO, RTX_CAPABILITIES, architecture
from sd2rt.engine.trt_build import PORTABLE

if TYPE_CHECKING:
    from sd2rt.engine.cuda import Driver


def describe_machine(target: str) -> dict[str, Field]:
    """Describe this machine's GPU, which an engine for it does not outlive.

    Raises TargetUnavailable when there is none, or TensorRT-RTX does not know it.
    """
    gpu = gpus.find_gpu()
    elsewhere = "; name the GPUs to build for: --compute-capability sm89, or portable" if target == "tensorrt-rtx" else ""
    if isinstance(gpu, str):
        raise TargetUnavailable(f"target {target}: {gpu}{elsewhere}")
    if target == "tensorrt-rtx" and architecture(gpu.capability) not in RTX_CAPABILITIES:
        raise TargetUnavailable(f"target {target}: got {gpu.name} ({architecture(gpu.capability)}), which it does not run on{elsewhere}")
    return {"name": gpu.name, "capability": architecture(gpu.capability), "driver": gpu.driver_version}


def check_capabilities(target: str, options: TensorRTOptions) -> None:
    """Raise InvalidArgument for compute capabilities that a target cannot build for."""
    got = ", ".join(options.compute_capabilities)
    if target != "tensorrt-rtx" and got:
        raise InvalidArgument(f"compute capability: got {got} for target {target}; expected none: tensorrt-rtx alone builds for named GPUs")
    unknown = [name for name in options.compute_capabilities if name not in (*RTX_CAPABILITIES, PORTABLE)]
    if unknown:
        known = ", ".join(RTX_CAPABILITIES)
        raise InvalidArgument(f"compute capability: got {unknown[0]!r}; expected some of {known}, or {PORTABLE} alone")


def warn_of_turing(options: TensorRTOptions, notify: Notify) -> None:
    """Say what NVIDIA's support matrix says of engines for Turing and other GPUs."""
    if "sm75" in options.compute_capabilities and len(options.compute_capabilities) > 1:
        notify("an engine for sm75 (Turing) and others is slower on the others: build one for sm75 alone, and one for the rest")


def runs_on(capabilities: Field, gpu: Gpu | Driver) -> bool:
    """Whether an engine for these compute capabilities runs on a GPU."""
    named = capabilities if isinstance(capabilities, list) else []
    here = architecture(gpu.capability)
    return here in named or (PORTABLE in named and here in PORTABLE_TO)


def check_gpu(entry: CacheEntry, driver: Driver) -> None:
    """Raise EngineError when the engine was built for another GPU than the driver's."""
    fields, component = entry.manifest.fields, entry.manifest.component
    here = f"this one is {driver.name} ({architecture(driver.capability)})"
    machine = fields.get("gpu")
    if isinstance(machine, Mapping):
        if (machine["name"], machine["capability"]) != (driver.name, architecture(driver.capability)):
            got = f"{machine['name']} ({machine['capability']})"
            raise EngineError(f"{component}: the engine was built for another GPU, {got}; {here}: build it here with sd2rt build")
    elif not runs_on(fields.get("compute_capabilities"), driver):
        listed = fields.get("compute_capabilities")
        got = ", ".join(str(name) for name in listed) if isinstance(listed, list) else "none"
        remedy = f"build it with --compute-capability {architecture(driver.capability)}"
        raise EngineError(f"{component}: the engine was built for other GPUs, {got}; {here}: {remedy}")
