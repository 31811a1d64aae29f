"""Engines on a real GPU: each component's accuracy, what its build recorded, and what the loop adds to them."""

from contextlib import closing

import numpy as np
import pytest

from benchmarks.gpu_report import OVERHEAD_GATE
from benchmarks.workers.clock import measure_overhead
from sd2rt.engine import build, cuda
from sd2rt.engine.device_loop import DeviceLoop, LoopEngines, Work
from sd2rt.engine.step_table import pack_row, pack_table
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.engine_plan import PlanOptions, axis_sizes, plan_component, plan_engines
from sd2rt.runtime.verify import verify_bundle
from tests.gpu.conftest import FAKE

pytestmark = pytest.mark.gpu


def test_every_component_reaches_its_gate(bundle: Bundle, options: PlanOptions) -> None:
    found = {verdict.component: verdict.worst for verdict in verify_bundle(bundle, options, print)}
    assert list(found) == list(bundle.components)
    assert {name: str(one) for name, one in found.items() if not one.passes} == {}


def test_the_manifest_says_how_the_build_was_checked(bundle: Bundle, options: PlanOptions, target: str) -> None:
    if FAKE or not target.startswith("tensorrt"):
        pytest.skip(f"{target}: only TensorRT's engines are checked when they are built, and the fake's are not")
    for files, how in plan_engines(bundle, options):
        notes = build.build_engine(files, how).manifest.notes
        assert (notes["checked"], notes["precision"], notes["not_finite"]) == ("against the cpu engine", "as exported", 0)
        assert float(str(notes["psnr_db"])) >= 30


def test_the_loop_adds_little_to_its_engines(bundle: Bundle, options: PlanOptions) -> None:
    """Over many steps, since toyworld's take well below a millisecond; at full size `python -m benchmarks gpu` measures it."""
    rows, axes = 500, {name: sizes[1] for name, sizes in axis_sizes(bundle, options, together=True).items()}
    shape = (axes["images"], bundle.latent_channels, axes["height"], axes["width"])
    work = Work(
        ids=np.zeros((axes["batch"], axes["sequence"]), np.int64),
        latents=np.random.default_rng(0).standard_normal(shape, dtype=np.float32),
        table=pack_table([pack_row(500.0, 1.0, (0.0, 1.0), np.array([[0.9, -0.05, 0.0]]))] * rows),
        rows=rows if not FAKE else 3,
        guidance=(bundle.defaults.guidance_scale, 0.0),
    )
    driver = cuda.open_driver()
    stream = driver.create_stream()

    def open_engine(name: str) -> closing:
        how = plan_component(bundle, name, options)
        return closing(build.open_device_engine(bundle.component(name).files, how, driver, stream))

    with open_engine("text_encoder") as text, open_engine("unet") as step, open_engine("vae_decoder") as decoder:
        engines = LoopEngines(text_encoder=text, step=step, decoder=decoder)
        with DeviceLoop(driver, stream, engines, axes) as loop:
            found = measure_overhead(driver, stream, engines, loop, work, calls=100 if not FAKE else 2)
    driver.destroy_stream(stream)
    assert FAKE or found["overhead"] <= OVERHEAD_GATE, found  # the fake takes Python's time
