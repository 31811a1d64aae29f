"""config.pbtxt: Triton's own schema reads it, and it says what was meant."""

import pytest

from sd2rt.engine.errors import BundleError, InvalidArgument
from sd2rt.engine.spec import TensorSpec
from sd2rt.serve.triton import TritonModel, config_text, preferred_sizes
from tests.serve.triton.schema import read_config, schema

SAMPLE = TensorSpec(name="sample", dtype="float16", shape=("batch", 4, "height", "width"))
TIMESTEP = TensorSpec(name="timestep", dtype="float32", shape=("batch",))
IDS = TensorSpec(name="input_ids", dtype="int64", shape=("batch", 77))


def make(backend: str = "onnxruntime", **numbers: int) -> TritonModel:
    return TritonModel(name="a-unet", component="unet", backend=backend, inputs=(SAMPLE, TIMESTEP, IDS), outputs=(SAMPLE,), **numbers)


def test_the_schema_reads_it() -> None:
    config = read_config(config_text(make(max_batch=6, instances=2)))
    types = schema().DataType
    assert (config.name, config.backend, config.max_batch_size) == ("a-unet", "onnxruntime", 6)
    assert [(tensor.name, types.Name(tensor.data_type), list(tensor.dims)) for tensor in config.input] == [
        ("sample", "TYPE_FP16", [4, -1, -1]),
        ("timestep", "TYPE_FP32", [1]),
        ("input_ids", "TYPE_INT64", [77]),
    ]
    assert [tensor.HasField("reshape") for tensor in config.input] == [False, True, False]
    assert list(config.input[1].reshape.shape) == []
    assert [(tensor.name, list(tensor.dims)) for tensor in config.output] == [("sample", [4, -1, -1])]
    assert config.version_policy.latest.num_versions == 1


def test_batches_wait_little_and_queues_are_bounded() -> None:
    batching = read_config(config_text(make(max_batch=6))).dynamic_batching
    policy = batching.default_queue_policy
    assert list(batching.preferred_batch_size) == [2, 4, 6]
    assert batching.max_queue_delay_microseconds == 2000
    assert policy.timeout_action == schema().ModelQueuePolicy.REJECT
    assert (policy.max_queue_size, policy.default_timeout_microseconds, policy.allow_timeout_override) == (64, 60_000_000, True)


@pytest.mark.parametrize(("backend", "kind"), [("onnxruntime", "KIND_AUTO"), ("tensorrt", "KIND_GPU")])
def test_plans_need_a_gpu(backend: str, kind: str) -> None:
    (group,) = read_config(config_text(make(backend, instances=3))).instance_group
    assert (group.count, schema().ModelInstanceGroup.Kind.Name(group.kind)) == (3, kind)


@pytest.mark.parametrize(("most", "sizes"), [(1, [1]), (2, [2]), (3, [2, 3]), (8, [2, 4, 8]), (12, [2, 4, 8, 12])])
def test_preferred_sizes_never_exceed_the_largest(most: int, sizes: list[int]) -> None:
    assert preferred_sizes(most) == sizes


@pytest.mark.parametrize(("name", "words"), [("max_batch", "max-batch: got 0"), ("instances", "instances: got 0")])
def test_numbers_below_one_are_refused(name: str, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        make(**{name: 0})


@pytest.mark.parametrize("shape", [(), (1, 77)])
def test_a_graph_of_one_row_is_refused(shape: tuple[int, ...]) -> None:
    fixed = TensorSpec(name="input_ids", dtype="int64", shape=shape)
    with pytest.raises(BundleError, match=r"text_encoder: got input_ids of shape .*; expected a first axis for any number of rows"):
        TritonModel(name="x", component="text_encoder", backend="onnxruntime", inputs=(fixed,), outputs=())
