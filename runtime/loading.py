"""Open a model: its name to a bundle, the bundle's components to engines on one target, all of it as one pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from sd2rt.engine.build import open_engine
from sd2rt.engine.errors import InvalidArgument
from sd2rt.engine.protocol import DeviceEngine, Engine
from sd2rt.engine.spec import BuildOptions, ComponentFiles, Form
from sd2rt.runtime.bundle import Bundle, read_bundle
from sd2rt.runtime.checks import check_integer
from sd2rt.runtime.decoders import check_decoder
from sd2rt.runtime.engine_plan import FORMED, PlanOptions, choose_bundle_target, plan_component, prompt_length, text_form
from sd2rt.runtime.host import HostPainter
from sd2rt.runtime.models import EMBEDDED, find_model
from sd2rt.runtime.networks import COMPONENTS, Networks
from sd2rt.runtime.options import Expected
from sd2rt.runtime.painter import Painter
from sd2rt.runtime.request import read_schedule
from sd2rt.runtime.text_to_image import TextToImage
from sd2rt.runtime.tokenizer import PromptTokenizer

if TYPE_CHECKING:
    from sd2rt.engine.cuda import Driver

Notify = Callable[[str], None]


def load(
    model: str | Path = EMBEDDED,
    target: str = "auto",
    threads: int = 0,
    notify: Notify = lambda message: None,
    *,
    low_memory: bool = False,
    precision: str = "auto",
    expect: Expected | None = None,
) -> TextToImage:
    """Open a model of any task, building the engines that the cache does not have; `notify` is told of what takes time.

    `model` is a bundle folder or the name of a model: `toyworld`, the embedded one, or one in the models folder. `target` is one that
    `sd2rt info` lists, or "auto"; `threads` 0 for one per core. `precision` is "bf16" or "f32" where the target has a choice. `expect` says
    what calls will ask for, where that is not usual: networks are opened for it; on a GPU, nothing is opened before the first call.

    With `low_memory` each network is opened when its turn comes and the one before is freed: a call then needs the memory of the largest,
    and the time to open all; pictures are the same. A preview then opens the decoder, and the next step the UNet again.
    Raises ModelNotFound, BundleError, TargetUnavailable, BuildError, EngineCacheError or InvalidArgument.
    """
    started = perf_counter()
    bundle = read_bundle(find_model(model))
    read_schedule(bundle)  # a scheduler that cannot be followed is better told before engines are built
    options = BuildOptions(target=choose_bundle_target(bundle, target), threads=threads, precision=precision)
    if precision != "auto" and options.target in FORMED:
        raise InvalidArgument(f"precision: got {precision} for target {options.target}, which has no choice; expected target openvino")
    tokenizer = PromptTokenizer.from_bundle(bundle, prompt_length(bundle))
    for name in COMPONENTS:
        bundle.component(name)  # what is missing is better told now
    expect = expect or Expected()
    check_decoder(expect.decoder, bundle)
    text = text_form(check_integer("clip_skip", expect.clip_skip, 1))
    painter: Painter
    if options.target not in FORMED:
        networks = open_host(bundle, options, notify, one_at_a_time=low_memory)
        networks.open_usual(deep=expect.deep_cache, decoder=expect.decoder, text=text)
        painter = HostPainter(bundle, tokenizer, networks)
    elif low_memory:
        raise InvalidArgument(f"low_memory: got target {options.target}, whose engines stay on the device; expected target openvino or cpu")
    else:
        painter = open_device(bundle, tokenizer, options, notify)
    return TextToImage(bundle, painter, perf_counter() - started, precision)


def open_host(bundle: Bundle, options: BuildOptions, notify: Notify, *, one_at_a_time: bool) -> Networks:
    """Return the bundle's networks as numpy engines, none of them open yet."""
    native = bundle.native_size
    plan = PlanOptions(
        target=options.target, smallest=native, usual=native, largest=native, threads=options.threads, precision=options.precision
    )

    def open_network(name: str, form: Form) -> Engine:
        return open_engine(bundle.component(name).files, replace(plan_component(bundle, name, plan), form=form), notify)

    return Networks(options.target, open_network, one_at_a_time=one_at_a_time)


def open_device(bundle: Bundle, tokenizer: PromptTokenizer, options: BuildOptions, notify: Notify) -> Painter:
    """Open a GPU; the engines, which depend on a job's sizes, are opened when the first job is there. Raises as `load` does."""
    from sd2rt.engine.build import open_device_engine
    from sd2rt.engine.cuda import open_driver
    from sd2rt.runtime.device import DeviceOptions, DevicePainter

    def open_on_device(files: ComponentFiles, options: BuildOptions, driver: Driver, stream: int) -> DeviceEngine:
        return open_device_engine(files, options, driver, stream, notify)

    settings = DeviceOptions(
        target=options.target,
        open_on_device=open_on_device,
        open_on_host=lambda files, options: open_engine(files, options, notify),
        notify=notify,
        threads=options.threads,
        tensorrt=options.tensorrt,
    )
    return DevicePainter(bundle, tokenizer, settings, open_driver())
