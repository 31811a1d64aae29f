"""What Triton Inference Server is told of a model: its `config.pbtxt`, from the tensors that a bundle names. Knows no files.

The schema is `ModelConfig` of Triton's model_config.proto. Batches are made along a tensor's first axis, which the text leaves out; a
tensor that has no other, such as `timestep`, is sent with one element a row and loses that axis again on its way to the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sd2rt.engine.errors import BundleError, InvalidArgument
from sd2rt.engine.spec import TensorSpec

TYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16", "int64": "TYPE_INT64", "int32": "TYPE_INT32"}
KINDS = {"onnxruntime": "KIND_AUTO", "tensorrt": "KIND_GPU"}  # of devices, by backend; AUTO: the GPUs, or the CPU where there are none
QUEUE_DELAY_US = 2_000
QUEUE_TIMEOUT_US = 60_000_000
QUEUE_SIZE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonModel:
    """One model of a repository: `max_batch` rows at once at most, `instances` on each device.

    Raises InvalidArgument for numbers below 1, BundleError for a tensor whose first axis is not free, so that no batch can be made.
    """

    name: str
    component: str
    backend: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch: int = 8
    instances: int = 1

    def __post_init__(self) -> None:
        for name in ("max_batch", "instances"):
            if getattr(self, name) < 1:
                raise InvalidArgument(f"{name.replace('_', '-')}: got {getattr(self, name)}; expected at least 1")
        for tensor in (*self.inputs, *self.outputs):
            if not tensor.shape or not isinstance(tensor.shape[0], str):
                got = f"{tensor.name} of shape {list(tensor.shape)}"
                raise BundleError(f"{self.component}: got {got}; expected a first axis for any number of rows: export the model again")


def config_text(model: TritonModel) -> str:
    """Return a model's `config.pbtxt`."""
    return "\n".join(
        [
            f'name: "{model.name}"',
            f'backend: "{model.backend}"',
            f"max_batch_size: {model.max_batch}",
            "version_policy { latest { num_versions: 1 } }",
            *_tensors("input", model.inputs),
            *_tensors("output", model.outputs),
            f"instance_group [ {{ count: {model.instances} kind: {KINDS[model.backend]} }} ]",
            *_batching(model.max_batch),
            "",
        ]
    )


def preferred_sizes(max_batch: int) -> list[int]:
    """Return the batches that leave without waiting for more: two rows, which one guided picture has, and their multiples by 2."""
    sizes = [1 << power for power in range(1, max_batch.bit_length())]
    return sorted({*sizes, max_batch})


def _tensors(kind: str, tensors: Sequence[TensorSpec]) -> list[str]:
    return [f"{kind} [", ",\n".join(_tensor(tensor) for tensor in tensors), "]"]


def _tensor(tensor: TensorSpec) -> str:
    """Describe one tensor without its axis of rows; an axis of any size is -1."""
    dims = [axis if isinstance(axis, int) else -1 for axis in tensor.shape[1:]]
    said = [f'name: "{tensor.name}"', f"data_type: {TYPES[tensor.dtype]}", f"dims: {dims or [1]}"]
    said += [] if dims else ["reshape { shape: [] }"]
    return "  {\n" + "".join(f"    {line}\n" for line in said) + "  }"


def _batching(max_batch: int) -> list[str]:
    """Return the dynamic batcher's part: join rows of requests, wait little, and refuse rather than let a queue grow."""
    return [
        "dynamic_batching {",
        f"  preferred_batch_size: {preferred_sizes(max_batch)}",
        f"  max_queue_delay_microseconds: {QUEUE_DELAY_US}",
        "  default_queue_policy {",
        "    timeout_action: REJECT",
        f"    default_timeout_microseconds: {QUEUE_TIMEOUT_US}",
        "    allow_timeout_override: true",
        f"    max_queue_size: {QUEUE_SIZE}",
        "  }",
        "}",
    ]
