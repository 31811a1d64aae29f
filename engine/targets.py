"""Which targets this machine can build for and run, and why not the others. Looks at what is installed; imports none of it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sd2rt.engine import gpu as gpus
from sd2rt.engine import trt_library
from sd2rt.engine.cpu import cpu_count, cpu_name
from sd2rt.engine.errors import InvalidArgument, TargetUnavailable

TARGETS = ("tensorrt", "tensorrt-rtx", "cuda", "openvino", "cpu")  # in the order that `auto` prefers them
ONNX_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")  # two distributions of one import name
CUDA_LIBRARIES = ("libonnxruntime_providers_cuda.so", "onnxruntime_providers_cuda.dll")  # onnxruntime-gpu has one of them
CUDA_13 = 13000  # as Gpu.driver_version counts
OLDEST_CAPABILITY = (7, 5)  # that the libraries of CUDA 13 have kernels for
DISTRIBUTIONS = {
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "tensorrt-rtx": ("tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu12-bindings"),
    "cuda": ONNX_RUNTIMES,
    "openvino": ("openvino",),
}
SMALL_MODEL_BYTES = 200 << 20  # of weights. toyworld (33 MB) starts 1 s later on openvino, which no faster step makes up for
FOR_OTHERS = ("tensorrt-rtx", "cuda")  # their engines can be built where there is no GPU
RTX_CAPABILITIES = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")  # of the GPUs that TensorRT-RTX knows
PORTABLE_TO = RTX_CAPABILITIES[1:]  # an engine for Turing must name it


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetStatus:
    """Whether a target's engines run here, and whether they can at least be built here, for other machines.

    `detail` is one line: its version and device, or why not and what to do.
    """

    name: str
    works: bool
    builds: bool
    detail: str


def probe_targets() -> tuple[TargetStatus, ...]:
    """Look at every target, in the order that `auto` prefers them."""
    return tuple(_status(name) for name in TARGETS)


def resolve_target(name: str) -> TargetStatus:
    """Return the status of a target that works: the one named, or the best for "auto".

    Raises InvalidArgument for an unknown name and TargetUnavailable when it, or for "auto" every target, does not work.
    """
    return _status(choose_target(name))


def choose_target(name: str, *, building: bool = False, model_bytes: int | None = None) -> str:
    """Return the name of the target that `resolve_target` would, without looking up its version. Raises as that does.

    For `building`, a target named need not run here: some build for other machines. "auto" is what runs here all the same; for a model
    of at most SMALL_MODEL_BYTES it takes openvino last.
    """
    if name != "auto" and name not in TARGETS:
        raise InvalidArgument(f"target: got {name!r}; expected auto or one of {', '.join(TARGETS)}")
    small = model_bytes is not None and model_bytes <= SMALL_MODEL_BYTES
    order = sorted(TARGETS, key=lambda target: small and target == "openvino") if name == "auto" else [name]
    obstacles: dict[str, str] = {}
    for candidate in order:
        obstacles[candidate] = _obstacle(candidate, building=building and name != "auto")
        if not obstacles[candidate]:
            return candidate
    raise TargetUnavailable(f"target {name}: {obstacles['cpu' if name == 'auto' else name]}")


def architecture(capability: tuple[int, int]) -> str:
    """Return "sm89" for compute capability 8.9."""
    return f"sm{capability[0]}{capability[1]}"


def cuda_version(found: gpus.Gpu) -> str:
    """13010 -> "13.1"."""
    return f"{found.driver_version // 1000}.{found.driver_version % 1000 // 10}"


def _status(name: str) -> TargetStatus:
    obstacle = _obstacle(name)
    builds = not _obstacle(name, building=True)
    return TargetStatus(name=name, works=not obstacle, builds=builds, detail=_detail(name, obstacle, builds))


def _detail(name: str, obstacle: str, builds: bool) -> str:
    if obstacle:
        return f"builds engines for other machines (sd2rt build), runs none: {obstacle}" if builds else obstacle
    if name == "cpu":
        return f"{_versions(ONNX_RUNTIMES)} on {cpu_name()}, {cpu_count()} cores"
    if name == "openvino":
        where = f"{_versions(DISTRIBUTIONS[name])} on {cpu_name()}, {cpu_count()} cores"
        return f"{where}; auto takes it for models above {SMALL_MODEL_BYTES >> 20} MiB, as smaller ones start faster on cpu"
    found = gpus.find_gpu()
    assert isinstance(found, gpus.Gpu), found  # or there would be an obstacle
    return f"{_versions(DISTRIBUTIONS[name])} on {found.name} ({architecture(found.capability)}), driver for CUDA {cuda_version(found)}"


def _obstacle(name: str, *, building: bool = False) -> str:
    """Say why a target does not work here and what to do; "" when it works."""
    elsewhere = building and name in FOR_OTHERS
    if name == "cpu":
        return "" if find_spec("onnxruntime") else "onnxruntime is not installed: pip install 'sd2rt[cpu]'"
    if name == "openvino":
        return "" if find_spec("openvino") else "openvino is not installed: pip install 'sd2rt[openvino]'"
    if name == "cuda":
        return _cuda_obstacle() or ("" if elsewhere else _gpu_obstacle(name))
    return _tensorrt_obstacle(name) or ("" if elsewhere else _gpu_obstacle(name)) or _version_obstacle(name)


def _tensorrt_obstacle(name: str) -> str:
    """Look for the package and its shared libraries."""
    if find_spec(trt_library.MODULES[name]) is None:
        return trt_library.missing_package(name)
    lost = trt_library.lost_library(name)
    return trt_library.missing_library(name, lost) if lost else ""


def _version_obstacle(name: str) -> str:
    """Look at the version of the package; one that has none of the known names is left to the import."""
    version = next(filter(None, map(_installed_version, DISTRIBUTIONS[name])), None)
    old = version is not None and int(version.split(".")[0]) < trt_library.OLDEST[name]
    return trt_library.old_version(name, str(version)) if old else ""


def _cuda_obstacle() -> str:
    """Look for onnxruntime-gpu, which has the import name of onnxruntime and one library more."""
    spec = find_spec("onnxruntime")
    folders = (spec.submodule_search_locations or ()) if spec else ()
    if any((Path(folder) / "capi" / name).exists() for folder in folders for name in CUDA_LIBRARIES):
        return ""
    swap = "uninstall onnxruntime, then " if spec else ""
    return f"onnxruntime-gpu is not installed: {swap}pip install 'sd2rt[gpu]'; running needs an NVIDIA GPU with {trt_library.DRIVER}"


def _gpu_obstacle(name: str) -> str:
    """Look at the GPU, its driver, and what talks to them."""
    found = gpus.find_gpu()
    if isinstance(found, str):
        return f"{found}; {name} needs an NVIDIA GPU with {trt_library.DRIVER}"
    if found.driver_version < CUDA_13:
        return f"got a driver for CUDA {cuda_version(found)}; expected {trt_library.DRIVER}: update it"
    here = f"got {found.name} ({architecture(found.capability)})"
    if found.capability < OLDEST_CAPABILITY:
        return f"{here}; expected {architecture(OLDEST_CAPABILITY)} or newer, as CUDA 13 does: use cpu"
    if name == "tensorrt-rtx" and architecture(found.capability) not in RTX_CAPABILITIES:
        return f"{here}; TensorRT-RTX runs on {', '.join(RTX_CAPABILITIES)} alone: use tensorrt or cuda"
    if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
        return f"cuda-bindings is not installed: pip install 'sd2rt[{'gpu' if name == 'cuda' else name}]'"
    return ""


def _versions(distributions: tuple[str, ...]) -> str:
    """Return "onnxruntime 1.32.0"; where both distributions of ONNX Runtime are installed, which spoils them, say so."""
    found = [f"{name} {version}" for name in distributions if (version := _installed_version(name))]
    if distributions == ONNX_RUNTIMES and len(found) > 1:
        return f"{' and '.join(found)} (they overwrite each other's files: uninstall both, then install one)"
    return found[0] if found else distributions[0]


def _installed_version(distribution: str) -> str | None:
    import importlib.metadata  # 15 ms that painting a picture does not need

    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
