"""Which engine another one is compared with."""

from pathlib import Path

import onnx
import pytest

from sd2rt.engine.cache import list_engines
from sd2rt.engine.errors import BundleError
from sd2rt.engine.reference import borrow_reference, open_reference
from sd2rt.engine.spec import BuildOptions, Guidance, StepForm
from tests.engine.graphs import block, component
from tests.engine.test_ort import unet


def test_gpu_engines_are_compared_with_the_cpu_engine_of_their_form(tmp_path: Path) -> None:
    notes: list[str] = []
    options = BuildOptions(target="tensorrt", form=StepForm(guidance=Guidance.GUIDED), axes={"images": (1, 1, 1)})
    reference = open_reference(component(tmp_path, unet()), options, notes.append)
    assert {spec.name for spec in reference.outputs} == {"next_registers", "next_step", "denoised"}
    assert [entry.manifest.target for entry in list_engines()] == ["cpu"]
    assert notes[0].startswith("building the cpu engine of unet")


def test_the_cpu_engine_is_compared_with_the_bundles_own_graph(tmp_path: Path) -> None:
    reference = open_reference(component(tmp_path, block("float16")), BuildOptions(target="cpu"), lambda message: None)
    assert reference.inputs[0].dtype == "float16"
    assert list_engines() == ()


def test_a_damaged_bundle_is_no_reference(tmp_path: Path) -> None:
    files = component(tmp_path, block())
    files.data[0].write_bytes(b"x")
    with pytest.raises(BundleError, match="the file was changed or damaged"):
        open_reference(files, BuildOptions(target="cpu"), lambda message: None)


def test_a_borrowed_reference_of_another_form_leaves_the_cache_as_it_was(tmp_path: Path) -> None:
    files = component(tmp_path, unet())
    step, plain = (BuildOptions(target="tensorrt", form=form) for form in (StepForm(guidance=Guidance.GUIDED), None))
    with borrow_reference(files, step, print) as reference:
        assert "denoised" in {spec.name for spec in reference.outputs}
        assert len(list_engines()) == 1
    assert list_engines() == ()
    with borrow_reference(files, plain, print):  # which is what the target `cpu` uses
        pass
    assert len(list_engines()) == 1
    open_reference(files, step, print).close()
    with borrow_reference(files, step, print):
        pass
    assert len(list_engines()) == 2
    with (
        pytest.raises(KeyboardInterrupt),
        borrow_reference(files, BuildOptions(target="cuda", form=StepForm(guidance=Guidance.PLAIN)), print),
    ):
        raise KeyboardInterrupt
    assert len(list_engines()) == 2


def test_what_others_build_while_a_reference_is_borrowed_stays(tmp_path: Path) -> None:
    files = component(tmp_path / "one", unet())
    model = unet()
    model.graph.initializer.append(onnx.helper.make_tensor("unused", onnx.TensorProto.FLOAT, [1], [1.0]))
    other = component(tmp_path / "other", model)
    step = BuildOptions(target="tensorrt", form=StepForm(guidance=Guidance.GUIDED))
    plain = BuildOptions(target="tensorrt", form=StepForm(guidance=Guidance.PLAIN))
    with borrow_reference(files, step, print):
        for meanwhile in ((files, plain), (other, step)):
            open_reference(*meanwhile, print).close()
        assert len(list_engines()) == 3
    left = [(entry.manifest.fields["files"], entry.manifest.fields["form"]) for entry in list_engines()]
    assert len(left) == 2
    assert (files.sha256, {"StepForm": {"guidance": "guided", "kept": False}}) not in left
