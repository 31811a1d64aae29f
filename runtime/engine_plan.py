"""Which engines a bundle needs on a target: the form of each component and the sizes of its axes, from pixels and images.

Builds and opens nothing; knows the components' tensors from the bundle, no backend.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sd2rt.engine.errors import BundleError, InvalidArgument, TargetUnavailable
from sd2rt.engine.spec import BuildOptions, ComponentFiles, Form, Guidance, PixelForm, Range, StepForm, TensorRTOptions, TextForm
from sd2rt.engine.targets import choose_target
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.bundle_entries import Component
from sd2rt.runtime.decoders import COMPONENTS as DECODERS
from sd2rt.runtime.decoders import latents_divisor
from sd2rt.runtime.guidance import is_guided

FORMED = ("tensorrt", "tensorrt-rtx", "cuda")  # targets whose engines stay on the device, with the sampler merged into the UNet
SIZED = ("tensorrt", "tensorrt-rtx")  # targets whose engines are built for given sizes and numbers of pictures
OPENVINO = "openvino"  # its engines are for all sizes, but tried at the model's own
TOGETHER = ("text_encoder", "unet")  # these take all images of a call at once, the others one at a time
Size = tuple[int, int]
"""(height, width) in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """What engines should take: pixel sizes (height, width) from `smallest` to `largest`, fastest at `usual`, and images per call.

    `kept` is for jobs that put a part of the picture back after every step, as inpainting by blending does. `merged` is False where
    the loop runs on the host, over components as they are; such a UNet may take images without guidance too (`plain_too`).
    `clip_skip` counts the text encoder's layers from its end, 1 being all of them, and `chunks` is how many of its lengths the UNet's
    context has.
    Raises InvalidArgument when the three sizes are not in order.
    """

    target: str
    smallest: Size
    usual: Size
    largest: Size
    batch: Range = (1, 1, 1)
    chunks: Range = (1, 1, 1)
    clip_skip: int = 1
    guidance: Guidance = Guidance.GUIDED
    kept: bool = False
    merged: bool = True
    plain_too: bool = False
    tensorrt: TensorRTOptions = field(default_factory=TensorRTOptions)
    threads: int = 0
    precision: str = "auto"

    def __post_init__(self) -> None:
        for low, usual, high, side in zip(self.smallest, self.usual, self.largest, ("height", "width"), strict=True):
            if not 1 <= low <= usual <= high:
                raise InvalidArgument(f"{side}: got {low}, {usual}, {high}; expected smallest, usual and largest in this order")


def plan_engines(bundle: Bundle, options: PlanOptions) -> tuple[tuple[ComponentFiles, BuildOptions], ...]:
    """Return every component of the bundle with how to build it. On the host sizes do not count.

    Raises InvalidArgument for sizes that are no multiples of the bundle's `size_multiple`.
    """
    return tuple((component.files, plan_component(bundle, name, options)) for name, component in bundle.components.items())


def plan_component(bundle: Bundle, name: str, options: PlanOptions) -> BuildOptions:
    """Return how to build one component. Raises as `plan_engines` does, and BundleError when the bundle has no such component."""
    component = bundle.component(name)
    form = choose_form(bundle, name, options) if options.target in FORMED and options.merged else None
    sized = at_native_size(bundle, options) if options.target == OPENVINO else options
    known = axis_sizes(bundle, sized, together=name in TOGETHER)
    axes = {axis: known[axis] for axis in input_axes(component, form) if axis in known} if options.target in (*FORMED, OPENVINO) else {}
    if name == "text_encoder" and options.target in FORMED:
        axes["batch"] = text_rows(axes["batch"], options)
    return BuildOptions(
        target=options.target, threads=options.threads, precision=options.precision, form=form, axes=axes, tensorrt=options.tensorrt
    )


def text_rows(rows: Range, options: PlanOptions) -> Range:
    """Return how many chunks the text encoder takes at once for so many rows of the UNet: the host's loop encodes equal ones once."""
    low, usual, high = (count * chunks for count, chunks in zip(rows, options.chunks, strict=True))
    return (low if options.merged else 1), usual, high


def at_native_size(bundle: Bundle, options: PlanOptions) -> PlanOptions:
    """Return the options for one guided picture of the size that the bundle's model was trained at."""
    native = bundle.native_size
    return replace(options, smallest=native, usual=native, largest=native, batch=(1, 1, 1), chunks=(1, 1, 1), guidance=Guidance.GUIDED)


def choose_bundle_target(bundle: Bundle, name: str, *, building: bool = False) -> str:
    """Return the target of this name; for "auto" the best one here for a model of the bundle's size.

    Raises as `choose_target` does, and TargetUnavailable for a GPU's when a component is in int8.
    """
    size = sum(path.stat().st_size for component in bundle.components.values() for path in component.files.paths)
    target = choose_target(name, building=building, model_bytes=size)
    if target in FORMED and any(component.int8 for component in bundle.components.values()):
        raise TargetUnavailable(f"target {target}: {bundle.name} is in int8; name openvino or cpu, or use the bundle that it was made from")
    return target


def choose_form(bundle: Bundle, name: str, options: PlanOptions) -> Form:
    """Return what is merged with a component where it runs on a device."""
    forms: dict[str, Form] = {"unet": StepForm(guidance=options.guidance, kept=options.kept), "text_encoder": text_form(options.clip_skip)}
    forms |= {part: PixelForm(scaling_factor=latents_divisor(decoder, bundle)) for decoder, part in DECODERS.items()}
    return forms.get(name)


def text_form(clip_skip: int) -> Form:
    """Return the text encoder's form for a job that takes the states of this layer, counted from the last one, 1."""
    return TextForm(skip=clip_skip - 1) if clip_skip > 1 else None


def choose_guidance(scale: float, rescale: float) -> Guidance:
    """Return how a job of this guidance scale and rescaling combines the UNet's rows."""
    if not is_guided(scale):
        return Guidance.PLAIN
    return Guidance.RESCALED if rescale > 0.0 else Guidance.GUIDED


def keeps_part(task: str, bundle: Bundle) -> bool:
    """Whether a job of this task puts a part of its picture back after every step: inpainting by a UNet that sees no mask."""
    return task == "inpainting" and bundle.task != "inpainting"


def prompt_length(bundle: Bundle) -> int:
    """Return how many tokens the text encoder takes, from the shape of its input. Raises BundleError where that is not fixed."""
    for tensor in bundle.component("text_encoder").inputs:
        if tensor.name == "input_ids" and len(tensor.shape) == 2 and isinstance(tensor.shape[1], int):
            return tensor.shape[1]
    raise BundleError(f"{bundle.folder}: text_encoder has no input input_ids of a fixed length; export the model again")


def input_axes(component: Component, form: Form) -> tuple[str, ...]:
    """Return the named axes of the inputs that the engine will have, each once."""
    named = [axis for tensor in component.inputs for axis in tensor.shape if isinstance(axis, str)]
    if isinstance(form, PixelForm):
        named = ["images" if axis == "batch" else axis for axis in named]
    return tuple(dict.fromkeys([*(["images"] if isinstance(form, StepForm) else []), *named]))


def axis_sizes(bundle: Bundle, options: PlanOptions, *, together: bool) -> Mapping[str, Range]:
    """Return the ranges of every axis name that bundles use, for a component that takes all images `together`, or one at a time."""
    factor, rows = bundle.latent_factor, 1 if options.guidance is Guidance.PLAIN else 2
    pixels = {side: _range(options, index) for index, side in enumerate(("height", "width"))}
    for side, sizes in pixels.items():
        uneven = [size for size in sizes if size % bundle.size_multiple]
        if uneven:
            raise InvalidArgument(f"{side}: got {uneven[0]} pixels; expected a multiple of {bundle.size_multiple}")
    low, usual, high = scale_range(options.batch, rows)
    batch = (options.batch[0] if options.plain_too else low, usual, high)
    return {
        "images": options.batch if together else (1, 1, 1),
        "batch": batch if together else (1, 1, 1),
        "sequence": scale_range(options.chunks, prompt_length(bundle)),
        **{side: (low // factor, usual // factor, high // factor) for side, (low, usual, high) in pixels.items()},
        **{f"image_{side}": sizes for side, sizes in pixels.items()},
    }


def scale_range(sizes: Range, by: int) -> Range:
    """Multiply the three sizes of an axis."""
    low, usual, high = sizes
    return low * by, usual * by, high * by


def _range(options: PlanOptions, side: int) -> Range:
    return options.smallest[side], options.usual[side], options.largest[side]
