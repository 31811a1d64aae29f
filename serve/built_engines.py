"""Which orders the engines on disk do for, on targets whose engines are built for sizes and numbers of pictures. Opens and builds none."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from threading import Lock

from sd2rt.engine.build import wanted_fields
from sd2rt.engine.index import EngineIndex
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.device_plans import DevicePlans, device_tiles
from sd2rt.runtime.device_shape import Shape, choose_shape
from sd2rt.runtime.engine_plan import plan_engines, prompt_length
from sd2rt.runtime.evaluations import is_deep, is_uniform
from sd2rt.runtime.portions import split_job
from sd2rt.runtime.request import Job
from sd2rt.runtime.tasks import components_of_start
from sd2rt.runtime.tokenizer import PromptTokenizer
from sd2rt.serve.first_engines import native_plan
from sd2rt.serve.order import Order
from sd2rt.serve.unbuilt import preview_decoders, refusal

MOST_KNOWN = 10_000  # kinds of orders, of which clients can think of any number


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How an order is painted: joined with others to one of `batch_sizes`, or `portion` pictures at a time, 0: all at once.

    Those that are joined have prompts of as many `chunks`: shorter ones would be made longer, which takes other engines.
    """

    batch_sizes: tuple[int, ...]
    portion: int = 0
    chunks: int = 0


class BuiltEngines:
    """A bundle's engines for a target, for up to `most` pictures at once. With `build`, those that lack are built when they are asked for.

    May be asked by several threads. Making one reads the cache and opens the target's library, both of which may take seconds.
    Raises EngineCacheError and TargetUnavailable.
    """

    def __init__(self, bundle: Bundle, target: str, most: int, *, build: bool) -> None:
        self._bundle = bundle
        self._most = most
        self._build = build
        self._plans = DevicePlans(bundle=bundle, target=target)
        self._tokenizer = PromptTokenizer.from_bundle(bundle, prompt_length(bundle))
        self._index = EngineIndex()
        self._turn = Lock()
        self._known: dict[Hashable, bool] = {}
        self._version = -1
        self._index.refresh()
        wanted_fields(*plan_engines(bundle, native_plan(bundle, target, (1, 1, 1)))[0])

    def fit(self, order: Order, job: Job) -> Fit:
        """Return how an order's job is painted. Raises InvalidArgument for one that no engines do for, unless they are built then."""
        with self._turn:
            self._index.refresh()
            if self._version != self._index.version:
                self._known, self._version = {}, self._index.version
            shape, _ = choose_shape(job, self._bundle, self._tokenizer)
            sizes = tuple(count for count in range(1, self._most + 1) if self._does(order, job, replace(shape, images=count)))
            chunks = shape.chunks
            if self._build or self._does(order, job, shape):
                return Fit(batch_sizes=sizes or (shape.images,), chunks=chunks)
            portion = choose_portion(shape.images, sizes)
            if portion and all(self._does(order, part, self._shape(part)) for part in split_job(job, portion)):
                return Fit(batch_sizes=sizes, portion=portion, chunks=chunks)
            found = self._index.axes(self._bundle.component("unet").files, self._plans.merged(shape)["unet"])
            raise refusal(order, job, shape, self._plans, found, self._most)

    def _shape(self, job: Job) -> Shape:
        return choose_shape(job, self._bundle, self._tokenizer)[0]

    def _does(self, order: Order, job: Job, shape: Shape) -> bool:
        """Whether there are all engines that the job takes when it has this shape."""
        previews = preview_decoders(order, job)
        kind = (shape, device_tiles(job), is_uniform(job.evaluations), is_deep(job.evaluations), components_of_start(job), previews)
        if kind not in self._known:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            plans = self._plans.of_job(job, shape, previews)
            self._known[kind] = all(self._index.has(self._bundle.component(name).files, options) for name, options in plans)
        return self._known[kind]


def choose_portion(count: int, sizes: Sequence[int]) -> int:
    """Return the largest of `sizes` that pictures can be painted at a time, what is left over being one of them too; 0 for none."""
    fitting = [size for size in sizes if size <= count and count % size in (0, *sizes)]
    return max(fitting, default=0)
