"""A repository: its files are the bundle's, and a client that knows the configs alone paints with them what sd2rt paints."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from sd2rt.engine.errors import BundleError, InvalidArgument
from sd2rt.engine.spec import BuildOptions, ComponentFiles, Form
from sd2rt.engine.store import CacheEntry
from sd2rt.runtime import load
from sd2rt.runtime.bundle import Bundle, read_bundle
from sd2rt.runtime.engine_plan import prompt_length
from sd2rt.runtime.host import HostPainter
from sd2rt.runtime.models import find_model
from sd2rt.runtime.networks import Networks
from sd2rt.runtime.options import Request
from sd2rt.runtime.request import resolve
from sd2rt.runtime.tokenizer import PromptTokenizer
from sd2rt.serve import triton_repository
from sd2rt.serve.triton_repository import TritonOptions, write_repository
from tests.engine.fake_tensorrt import write_plan
from tests.runtime.bundles import write_bundle
from tests.serve.triton.schema import ServedModel, read_config

EMBEDDED = ("toyworld", "toyworld-inpainting", "toyworld-depth", "toyworld-upscaler")
DTYPES = {"TYPE_FP32": 1, "TYPE_INT32": 6, "TYPE_INT64": 7, "TYPE_FP16": 10}  # of onnx.TensorProto


def ignore(line: str) -> None:
    """Tell nobody."""


@pytest.fixture
def bundle() -> Bundle:
    return read_bundle(find_model("toyworld"))


@pytest.mark.parametrize("name", EMBEDDED)
def test_configs_say_what_the_graphs_say(name: str, tmp_path: Path) -> None:
    bundle = read_bundle(find_model(name))
    for model in write_repository(bundle, tmp_path, TritonOptions(), ignore):
        config = read_config((tmp_path / model.name / "config.pbtxt").read_text())
        graph = onnx.load(tmp_path / model.name / "1" / "model.onnx", load_external_data=False).graph
        assert config.name == model.name == model.component
        for said, tensors in ((config.input, graph.input), (config.output, graph.output)):
            assert [tensor.name for tensor in said] == [tensor.name for tensor in tensors]
            for mine, own in zip(said, tensors, strict=True):
                kind = own.type.tensor_type
                assert DTYPES[model_type(mine.data_type)] == kind.elem_type
                axes = [axis.dim_value or -1 for axis in kind.shape.dim]
                assert axes[0] == -1
                assert (list(mine.reshape.shape) if mine.HasField("reshape") else list(mine.dims)) == axes[1:]


def model_type(number: int) -> str:
    from tests.serve.triton.schema import schema

    return str(schema().DataType.Name(number))


def test_a_client_paints_with_it_what_sd2rt_paints(bundle: Bundle, tmp_path: Path) -> None:
    write_repository(bundle, tmp_path, TritonOptions(prefix="t-"), ignore)
    served: dict[str, ServedModel] = {}

    def open_network(name: str, form: Form) -> ServedModel:
        return served.setdefault(name, ServedModel(tmp_path / f"t-{name}"))

    painter = HostPainter(bundle, PromptTokenizer.from_bundle(bundle, prompt_length(bundle)), Networks("cpu", open_network))
    prompts = ["a large red sphere, gray floor", "a small blue cone, pink floor"]
    job = resolve(Request(prompt=prompts, seed=3, steps=4), bundle)
    pictures = painter.start(job).finish().pictures(foreseen=False, unit=True, decoder="vae")
    with load("toyworld", "cpu", threads=1) as pipe:
        expected = pipe(prompts, seed=3, steps=4, output="numpy").images
    error = float(np.mean((pictures - expected) ** 2))
    assert 10 * np.log10(1 / error) > 40  # dB; the graphs are float16, the cpu engines float32
    assert served["unet"].rows == [4] * 4  # two pictures, guided
    assert set(served["vae_decoder"].rows) == {1}


def test_files_are_copies_that_onnx_reads_and_the_bundles_stay_readable(bundle: Bundle, tmp_path: Path) -> None:
    mine = read_bundle(shutil.copytree(bundle.folder, tmp_path / "bundle"))
    write_repository(mine, tmp_path / "out", TritonOptions(), ignore)
    for name, component in mine.components.items():
        for path in component.files.paths:
            copied = tmp_path / "out" / name / "1" / ("model.onnx" if path == component.files.onnx else path.name)
            assert copied.read_bytes() == path.read_bytes()
            assert not copied.samefile(path)
        for graph in (component.files.onnx, tmp_path / "out" / name / "1" / "model.onnx"):
            onnx.checker.check_model(graph)
            onnx.load(graph)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*mine.components, "README.md"}


def test_damaged_files_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(bundle.folder, tmp_path / "bundle")
    weights = tmp_path / "bundle" / "unet" / "model.onnx.data"
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleError, match="export the bundle again"):
        write_repository(read_bundle(tmp_path / "bundle"), tmp_path / "out", TritonOptions(), ignore)


def test_plans_are_built_for_the_sizes_and_rows_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = read_bundle(write_bundle(tmp_path / "bundle"))
    built: dict[str, BuildOptions] = {}

    def build(files: ComponentFiles, options: BuildOptions, notify: object) -> CacheEntry:
        built[files.name] = options
        monkeypatch.setattr("tests.engine.fake_tensorrt.write_form", lambda files, form, folder: files.onnx)
        monkeypatch.setattr("tests.engine.fake_tensorrt.axis_names", lambda model: {})
        monkeypatch.setattr(onnx, "load", lambda *path, **options: None)
        return write_plan(tmp_path / "cache" / files.name, files, options.form, options.axes)

    monkeypatch.setattr(triton_repository, "build_engine", build)
    options = TritonOptions(target="tensorrt", max_batch=4, sizes=((32, 32), (64, 96)))
    models = write_repository(bundle, tmp_path / "out", options, ignore)
    assert built["unet"].axes == {"batch": (1, 2, 4), "height": (4, 8, 8), "width": (4, 6, 12), "sequence": (77, 77, 77)}
    assert built["text_encoder"].axes == {"batch": (1, 2, 4)}
    assert built["vae_decoder"].axes == {"batch": (1, 1, 1), "height": (4, 8, 8), "width": (4, 6, 12)}
    assert {options.form for options in built.values()} == {None}
    assert [(model.name, model.max_batch) for model in models] == [("text_encoder", 4), ("unet", 4), ("vae_decoder", 1)]
    plan = tmp_path / "out" / "unet" / "1" / "model.plan"
    assert json.loads(plan.read_text())["axes"]["batch"] == [1, 2, 4]
    assert [path.name for path in plan.parent.iterdir()] == ["model.plan"]
    assert "is of the same version" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_readme_has_the_bundles_numbers(name: str, tmp_path: Path) -> None:
    bundle = read_bundle(find_model(name))
    write_repository(bundle, tmp_path, TritonOptions(prefix="my-"), ignore)
    text = (tmp_path / "README.md").read_text()
    assert all(f"`my-{component}`" in text for component in bundle.components)
    assert str(bundle.scaling_factor) in text
    assert ("`class_labels` says" in " ".join(text.split())) == (bundle.task == "upscaling")
    assert ("A picture's latents" in " ".join(text.split())) == ("vae_encoder" in bundle.components)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "cuda"}, "target: got 'cuda'; expected one of onnx, tensorrt"),
        ({"max_batch": 0}, "max-batch: got 0; expected 1 to 1024"),
        ({"prefix": "../"}, "prefix: got '../'; expected letters"),
        ({"sizes": ((64, 64), (64, 64))}, "size: got one for --target onnx"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        TritonOptions(**options)  # type: ignore[arg-type]
