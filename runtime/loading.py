"""Open a model: its name to a bundle, the bundle's components to engines on one target, all of it as one pipeline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from sd2rt.engine.build import open_engine
from sd2rt.engine.errors import InvalidArgument
from sd2rt.engine.protocol import Engine
from sd2rt.engine.spec import BuildOptions
from sd2rt.engine.targets import choose_target
from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.engine_plan import prompt_length
from sd2rt.runtime.host import Engines, HostPainter
from sd2rt.runtime.models import EMBEDDED, find_model
from sd2rt.runtime.request import read_schedule
from sd2rt.runtime.text_to_image import TextToImage
from sd2rt.runtime.tokenizer import PromptTokenizer

Notify = Callable[[str], None]
COMPONENTS = ("text_encoder", "unet", "vae_decoder")


def load(model: str | Path = EMBEDDED, target: str = "auto", threads: int = 0, notify: Notify = lambda message: None) -> TextToImage:
    """Open a model for text to image, building the engines that the cache does not have; `notify` is told of what takes time.

    `model` is a bundle folder, or `toyworld` for the embedded model; `target` one that `sd2rt info` lists, or "auto"; `threads`
    0 for one per core. Raises ModelNotFound, BundleError, TargetUnavailable, BuildError, EngineCacheError or InvalidArgument.
    """
    started = perf_counter()
    bundle = read_bundle(find_model(model))
    if bundle.task != "text-to-image":
        raise InvalidArgument(f"model {bundle.name}: got one for {bundle.task}, expected one for text-to-image; name another model")
    read_schedule(bundle)  # a scheduler that cannot be followed is better told before engines are built
    options = BuildOptions(target=choose_target(target), threads=threads)
    opened: dict[str, Engine] = {}
    try:
        for name in COMPONENTS:
            opened[name] = open_engine(bundle.component(name).files, options, notify)
        tokenizer = PromptTokenizer.from_bundle(bundle, prompt_length(bundle))
    except BaseException:
        for engine in opened.values():
            engine.close()
        raise
    painter = HostPainter(bundle, tokenizer, Engines(target=options.target, **opened))
    return TextToImage(bundle, painter, perf_counter() - started)
