"""Every component of the small models, of every task there is, built by TensorRT-RTX for every GPU that it knows, without one.

toyworld is built whole; of the other tasks' bundles, what differs from it. The full-size model is behind the marker `slow`.
"""

from pathlib import Path
from typing import Any

import pytest

from sd2rt.engine.errors import BuildError
from sd2rt.engine.forms import apply_form
from sd2rt.engine.spec import TensorRTOptions
from sd2rt.engine.trt_build import Job, build_plan
from sd2rt.engine.trt_process import build_in_child
from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.engine_plan import PlanOptions, plan_component
from sd2rt.runtime.models import find_model

GPUS = [
    ("sm75",),
    pytest.param(("sm80", "sm86", "sm89", "sm120"), marks=pytest.mark.slow),
    ("portable",),
]  # one plan for several GPUs has what each of them needs
TOYWORLD = ("text_encoder", "unet", "vae_decoder", "vae_encoder")
OTHERS = [
    ("inpaint", "unet"),
    ("depth", "unet"),
    ("depth", "depth_estimator"),
    ("upscale", "unet"),
    ("upscale", "vae_decoder"),
    ("upscale", "vae_encoder"),
]
NOT_ON_TURING = {("upscale", "vae_decoder"), ("upscale", "vae_encoder")}  # they are float32 in every bundle

gpus = pytest.mark.parametrize("names", GPUS, ids="+".join)


def job(folder: Path, name: str, names: tuple[str, ...], plan: Path, *, kept: bool = False, times: int = 1) -> Job:
    """Return what `sd2rt build` would build for one component of a bundle, for sizes and batches up to so many times the usual.

    With `kept`, it is what inpainting by blending would build.
    """
    bundle = read_bundle(folder)
    size, tensorrt = bundle.native_size, TensorRTOptions(compute_capabilities=names)
    largest = (size[0] * times, size[1] * times)
    planned = PlanOptions(
        target="tensorrt-rtx", smallest=size, usual=size, largest=largest, batch=(1, 1, times), kept=kept, tensorrt=tensorrt
    )
    options = plan_component(bundle, name, planned)
    files = bundle.component(name).files
    return Job(
        target=options.target,
        component=name,
        graph=apply_form(files, options.form).SerializeToString(),
        weights=files.onnx.parent.absolute(),
        plan=plan,
        axes=options.axes,
        options=tensorrt,
    )


@gpus
@pytest.mark.parametrize("name", TOYWORLD)
def test_toyworld(name: str, names: tuple[str, ...], rtx: Any, tmp_path: Path) -> None:
    folder = find_model("toyworld")
    build_plan(job(folder, name, names, tmp_path / "plan"))
    weights = (folder / name / "model.onnx.data").stat().st_size
    assert (tmp_path / "plan").stat().st_size > weights * 0.9


def test_toyworlds_step_that_keeps_a_part_of_the_picture(rtx: Any, tmp_path: Path) -> None:
    folder = find_model("toyworld")
    build_plan(job(folder, "unet", ("sm89",), tmp_path / "plan", kept=True))
    weights = (folder / "unet" / "model.onnx.data").stat().st_size
    assert (tmp_path / "plan").stat().st_size > weights * 0.9


@pytest.mark.parametrize("name", TOYWORLD)
def test_toyworld_for_a_range_of_sizes_and_batches(name: str, rtx: Any, tmp_path: Path) -> None:
    """TensorRT-RTX has no attention kernel for the autoencoder then."""
    build = job(find_model("toyworld"), name, ("sm89",), tmp_path / "plan", times=2)
    assert any(smallest < largest for smallest, _, largest in build.axes.values())
    build_plan(build)
    assert (tmp_path / "plan").exists()


@pytest.mark.torch
@gpus
@pytest.mark.parametrize(("variant", "name"), OTHERS)
def test_other_tasks(variant: str, name: str, names: tuple[str, ...], rtx: Any, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from tests.tiny import tiny_bundle

    build = job(tiny_bundle(variant, "fp16"), name, names, tmp_path / "plan")
    if names == ("sm75",) and (variant, name) in NOT_ON_TURING:
        with pytest.raises(BuildError, match=rf"{name}: TensorRT-RTX cannot build it for one of the GPUs .+FP32 GEMM is not supported"):
            build_plan(build)
        return
    build_plan(build)
    assert (tmp_path / "plan").stat().st_size > 100_000


@pytest.mark.slow
@pytest.mark.torch
@gpus
def test_full_size_unet(names: tuple[str, ...], rtx: Any, full_size: Path, tmp_path: Path) -> None:
    build_in_child(job(full_size, "unet", names, tmp_path / "plan"))
    assert (tmp_path / "plan").stat().st_size > 1_700_000_000


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize("name", ["text_encoder", "vae_decoder", "vae_encoder"])
def test_full_size_for_a_range_of_sizes(name: str, rtx: Any, full_size: Path, tmp_path: Path) -> None:
    build_in_child(job(full_size, name, ("sm89",), tmp_path / "plan", times=2))
    assert (tmp_path / "plan").stat().st_size > 60_000_000


@pytest.fixture(scope="session")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export SD2's own architecture with random weights: two minutes and 7 GB of memory."""
    pytest.importorskip("torch")
    from sd2rt.export import ExportOptions, export

    out = tmp_path_factory.mktemp("full") / "sd2-base"
    export(None, out, ExportOptions(preset="sd2-base", random_weights=True, weights_seed=0))
    return out
