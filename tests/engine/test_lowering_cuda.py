"""Whole components, lowered for cuda, against the canonical graphs: the same numbers on the CPU, faster operators, the same precision."""

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from sd2rt.engine.accuracy import fixed_feeds
from sd2rt.engine.forms import apply_form
from sd2rt.engine.ort import tensor_spec
from sd2rt.engine.spec import BuildOptions, ComponentFiles, Form, Guidance, PixelForm, StepForm
from sd2rt.engine.widening import widen
from sd2rt.runtime.bundle import read_bundle
from tests.engine.graphs import relative_error
from tests.engine.ort_engines import built

TOYWORLD = Path(__file__).parents[2] / "toyworld" / "bundle"
TOLERANCE = 1e-4  # largest difference relative to the output's spread, in float32
GATE_DB = 35  # of the lowered graph in its own precision
AXES = {"images": 1, "batch": 2, "height": 8, "width": 12, "sequence": 77, "image_height": 64, "image_width": 96}
KEPT = ("Conv", "MatMul", "Gemm", "Resize", "Gelu", "Sigmoid")
Arrays = dict[str, npt.NDArray[Any]]
STEPS = [StepForm(guidance=guidance) for guidance in Guidance]
CASES: list[tuple[str, str, Form]] = [
    *(("toyworld", name, None) for name in ("text_encoder", "unet", "vae_decoder", "vae_encoder")),
    *(("toyworld", "unet", form) for form in STEPS),
    ("toyworld", "vae_decoder", PixelForm(scaling_factor=0.18215)),
]
TINY: list[tuple[str, str, Form]] = [("upcast", "unet", None), ("upcast", "unet", STEPS[-1])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A component in a form: its canonical graph, the lowered one, where the latter lies, and sizes to run them at."""

    before: onnx.ModelProto
    after: onnx.ModelProto
    lowered: Path
    axes: dict[str, int]


def case_id(value: Any) -> str | None:
    if isinstance(value, StepForm):
        return str(value.guidance)
    return "pixels" if isinstance(value, PixelForm) else "plain" if value is None else None


@pytest.fixture(
    scope="module",
    params=[*CASES, *(pytest.param(case, marks=pytest.mark.torch) for case in TINY)],
    ids=lambda case: "-".join([case[0], case[1], case_id(case[2]) or ""]),
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    bundle, name, form = request.param
    folder = tmp_path_factory.mktemp(name)
    files = component_files(bundle, name)
    entry = built(files, BuildOptions(target="cuda", form=form), folder / "lowered")
    for data in files.data:
        shutil.copyfile(data, folder / data.name)  # onnx refuses files of several hard links
    before = apply_form(files, form)
    onnx.load_external_data_for_model(before, str(folder))
    path = entry.folder / "lowered.onnx"
    axes = {**AXES, "images": 2} if form == STEPS[0] else AXES  # a row per image, or two
    return Case(before=before, after=onnx.load(path), lowered=path, axes=axes)


def component_files(bundle: str, name: str) -> ComponentFiles:
    if bundle == "toyworld":
        return read_bundle(TOYWORLD).component(name).files
    pytest.importorskip("torch")
    from tests.tiny import tiny_bundle

    return read_bundle(tiny_bundle(bundle, "fp16")).component(name).files


def operations(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def open_session(model: onnx.ModelProto | Path) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = 1
    content = str(model) if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])


def in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    made = ir.from_proto(model)
    widen(made)
    return ir.to_proto(made)


def run(session: onnxruntime.InferenceSession, feeds: Arrays) -> Arrays:
    specs = [tensor_spec("", tensor) for tensor in session.get_inputs()]
    results = session.run(None, {spec.name: feeds[spec.name].astype(spec.dtype) for spec in specs})
    return {tensor.name: result for tensor, result in zip(session.get_outputs(), results, strict=True)}


def test_attention_and_group_normalization_are_lowered_and_nothing_else_is(case: Case) -> None:
    before, after = operations(case.before), operations(case.after)
    assert not {"Attention", "GroupNormalization"} & after.keys()
    assert after["MultiHeadAttention"] == before["Attention"]
    assert after["LayerNormalization"] == before["LayerNormalization"] + before["GroupNormalization"]
    assert {name: after[name] for name in KEPT} == {name: before[name] for name in KEPT}
    assert before["Transpose"] - after["Transpose"] >= 4 * before["Attention"]


def test_weights_and_attention_keep_their_precision(case: Case) -> None:
    types = {tensor.name: tensor.data_type for tensor in case.before.graph.initializer}
    kept = [tensor for tensor in case.after.graph.initializer if tensor.name in types]
    assert len(kept) > 0.9 * len(types)
    assert all(tensor.data_type == types[tensor.name] for tensor in kept)
    assert casts_to_half(case.after) == casts_to_half(case.before)
    upcast = casts_before(case.before, "Attention")
    assert casts_before(case.after, "MultiHeadAttention") == upcast
    assert set(upcast) <= {0, 3}  # of queries, keys and values: none, or all


def casts_to_half(model: onnx.ModelProto) -> int:
    return sum(node.op_type == "Cast" and node.attribute[0].i == onnx.TensorProto.FLOAT16 for node in model.graph.node)


def casts_before(model: onnx.ModelProto, op_type: str) -> list[int]:
    """For every attention, how many of its operands come from a cast to float32."""
    wide = {node.output[0] for node in model.graph.node if node.op_type == "Cast" and node.attribute[0].i == onnx.TensorProto.FLOAT}
    return [sum(name in wide for name in node.input[:3]) for node in model.graph.node if node.op_type == op_type]


def test_it_computes_what_the_canonical_graph_does(case: Case) -> None:
    canonical = open_session(in_float32(case.before))
    feeds = fixed_feeds(tuple(tensor_spec("", tensor) for tensor in canonical.get_inputs()), case.axes)
    expected, wide = run(canonical, feeds), run(open_session(in_float32(case.after)), feeds)
    narrow = run(open_session(case.lowered), feeds)
    for name, array in expected.items():
        if array.dtype == np.float32:
            assert relative_error(wide[name], array) <= TOLERANCE
            assert psnr(narrow[name], array) >= GATE_DB
        else:
            assert np.abs(wide[name].astype(int) - array.astype(int)).max() <= (name == "pixels")  # rounded the other way


def psnr(got: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    error = np.mean((got.astype(np.float64) - expected) ** 2)
    return float(10 * np.log10(np.ptp(expected) ** 2 / error))
