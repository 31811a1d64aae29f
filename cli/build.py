"""`sd2rt build`: a bundle's engines, ahead of their first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sd2rt.cli.choices import offline_option, precision_option
from sd2rt.cli.console import Console, console_options, size_text
from sd2rt.engine.errors import InvalidArgument

if TYPE_CHECKING:
    from sd2rt.engine.spec import TensorRTOptions
    from sd2rt.runtime.bundle import Bundle
    from sd2rt.runtime.engine_plan import PlanOptions

SIZED = ("size", "batch", "chunks")
TENSORRT = ("optimization_level", "workspace_mb", "weight_streaming", "low_memory")
ON_THE_HOST = (*SIZED, "guidance", "inpaint", *TENSORRT)
UNUSED = {"cpu": ON_THE_HOST, "openvino": ON_THE_HOST, "cuda": (*SIZED, *TENSORRT)}  # by targets whose engines are for every size
RANGE = ".."


@click.command()
@click.argument("bundle")
@click.option("--target", default="auto", show_default=True, help="What to build for; `sd2rt info` lists what works here.")
@click.option("--size", metavar="WxH[..WxH]", help="TensorRT: pixels, or from smallest to largest.  [default: the model's]")
@click.option("--batch", metavar="N[..N]", help="TensorRT: pictures at a time, or from fewest to most.  [default: 1]")
@click.option("--chunks", metavar="N[..N]", help="TensorRT: parts of 75 tokens that prompts have, or from fewest to most.  [default: 1]")
@click.option(
    "--guidance", type=click.Choice(["guided", "plain", "rescaled"]), help="On GPUs: how steps are guided.  [default: the model's]"
)
@click.option("--inpaint", is_flag=True, help="On GPUs: steps as `inpaint` takes them with a model not made for inpainting.")
@click.option(
    "--compute-capability", metavar="SM,..", help="TensorRT-RTX: the GPUs, such as sm86,sm89, or portable.  [default: the one here]"
)
@click.option("--optimization-level", type=click.IntRange(0, 5), help="TensorRT: 0 builds fast, 5 makes fast engines.  [default: 3]")
@click.option("--workspace-mb", type=click.IntRange(min=1), help="TensorRT: MiB that a kernel may work in.  [default: all of the GPU's]")
@click.option("--weight-streaming", is_flag=True, help="TensorRT: weights may stay in host memory; slower.")
@precision_option
@offline_option
@click.option("--low-memory", is_flag=True, help="TensorRT: build with one thread and little workspace.")
@console_options
@click.pass_obj
def build(console: Console, /, bundle: str, target: str, **asked: Any) -> None:
    """Build what BUNDLE's components need, as far as the cache has it not, and print the engines' folders.

    `generate` does the same when it finds an engine missing. TensorRT's engines are for given sizes: with a range they take any size in it
    and are fastest at the model's own. TensorRT-RTX builds for other machines' GPUs too, and needs none here for that.

    \b
    Examples:
      sd2rt build ./sd21
      sd2rt build toyworld --target cpu --json
      sd2rt build ./sd21 --target tensorrt --size 512x512..768x768 --batch 1..4
      sd2rt build ./sd21 --target tensorrt --inpaint
      sd2rt build ./sd21 --target tensorrt-rtx --compute-capability sm86,sm89
    """
    from sd2rt.cli.ready_model import ready_model
    from sd2rt.engine.build import build_engine
    from sd2rt.runtime.bundle import read_bundle
    from sd2rt.runtime.engine_plan import choose_bundle_target, plan_engines
    from sd2rt.runtime.models import find_model

    check_options(target, asked)
    checked = read_bundle(find_model(ready_model(console, bundle)))
    options = plan_options(checked, choose_bundle_target(checked, target, building=True), asked)
    for name in UNUSED.get(options.target, ()):
        if asked[name] is not None and asked[name] is not False:  # 0 is a level
            console.note(f"--{name.replace('_', '-')} changes nothing for {options.target}")
    entries = [build_engine(files, plan, console.note) for files, plan in plan_engines(checked, options)]
    console.note(f"{len(entries)} engines for {options.target}, {size_text(sum(entry.bytes for entry in entries))}")
    engines = [{"component": entry.manifest.component, "folder": str(entry.folder), "bytes": entry.bytes} for entry in entries]
    console.result({"model": checked.name, "target": options.target, "engines": engines}, [str(entry.folder) for entry in entries])


def check_options(target: str, asked: dict[str, Any]) -> None:
    """Check what can be without the model, which may have to be made first. Raises InvalidArgument and TargetUnavailable."""
    from sd2rt.engine.targets import choose_target
    from sd2rt.engine.trt_gpus import check_capabilities

    check_capabilities(choose_target(target, building=True), tensorrt_options(asked))
    read_sizes(asked["size"], (0, 0))
    read_counts("batch", asked["batch"], "pictures")
    read_counts("chunks", asked["chunks"], "parts")


def tensorrt_options(asked: dict[str, Any]) -> TensorRTOptions:
    """Return the options for TensorRT alone. Raises InvalidArgument."""
    from sd2rt.engine.spec import TensorRTOptions

    return TensorRTOptions(
        compute_capabilities=tuple(filter(None, (asked["compute_capability"] or "").lower().replace(" ", "").split(","))),
        optimization_level=3 if asked["optimization_level"] is None else asked["optimization_level"],
        workspace_bytes=asked["workspace_mb"] and asked["workspace_mb"] << 20,
        weight_streaming=asked["weight_streaming"],
        low_memory=asked["low_memory"],
    )


def plan_options(bundle: Bundle, target: str, asked: dict[str, Any]) -> PlanOptions:
    """Return what the options ask for, the bundle's own values where they say nothing. Raises InvalidArgument."""
    from sd2rt.engine.spec import Guidance
    from sd2rt.engine.trt_gpus import check_capabilities
    from sd2rt.runtime.engine_plan import PlanOptions, choose_guidance, keeps_part

    tensorrt = tensorrt_options(asked)
    check_capabilities(target, tensorrt)
    smallest, largest = read_sizes(asked["size"], bundle.native_size)
    fewest, most = read_counts("batch", asked["batch"], "pictures")
    shortest, longest = read_counts("chunks", asked["chunks"], "parts")
    guidance = Guidance(asked["guidance"]) if asked["guidance"] else choose_guidance(bundle.defaults.guidance_scale, 0.0)
    return PlanOptions(
        target=target,
        smallest=smallest,
        usual=(clamp(bundle.native_size[0], smallest[0], largest[0]), clamp(bundle.native_size[1], smallest[1], largest[1])),
        largest=largest,
        batch=(fewest, fewest, most),
        chunks=(shortest, shortest, longest),
        guidance=guidance,
        kept=asked["inpaint"] and keeps_part("inpainting", bundle),
        tensorrt=tensorrt,
        precision=asked["precision"],
    )


def read_sizes(text: str | None, native: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Read "768x512" or "512x512..768x768", width first, as smallest and largest (height, width). Raises InvalidArgument."""
    if text is None:
        return native, native
    sides = [part.split("x") for part in text.lower().split(RANGE)]
    if len(sides) > 2 or any(len(side) != 2 or not all(number.isdecimal() for number in side) for side in sides):
        raise InvalidArgument(f"size: got {text!r}; expected WIDTHxHEIGHT in pixels, such as 768x512, or a range such as 512x512..768x768")
    sizes = [(int(height), int(width)) for width, height in sides]
    return sizes[0], sizes[-1]


def read_counts(name: str, text: str | None, things: str) -> tuple[int, int]:
    """Read "2" or "1..4" as fewest and most. Raises InvalidArgument."""
    counts = (text or "1").split(RANGE)
    if len(counts) > 2 or not all(count.isdecimal() and int(count) > 0 for count in counts) or int(counts[0]) > int(counts[-1]):
        raise InvalidArgument(f"{name}: got {text!r}; expected a number of {things}, such as 1, or a range such as 1..4")
    return int(counts[0]), int(counts[-1])


def clamp(value: int, low: int, high: int) -> int:
    """Return the nearest value in a range."""
    return max(low, min(value, high))
