"""How many replicas paint, what each may take of a machine, and which Ray cluster they are in. Imports no Ray."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from pathlib import Path

from sd2rt.engine.cpu import cpu_count
from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.engine_plan import FORMED
from sd2rt.runtime.models import MANIFESTS

MOST_REPLICAS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RaySettings:
    """`address` is a cluster's ("auto" for the one on this machine, "head:6379"), "" to start one here, for this process alone.

    From `replicas[0]` to `replicas[1]` replicas are kept, as many as there is work for. `cpus` and `gpus` are what Ray sets aside for each;
    None: the cores of this machine shared out, or one of a cluster's, and a GPU where the target needs one. Raises InvalidArgument.
    """

    address: str = ""
    replicas: tuple[int, int] = (1, 1)
    cpus: float | None = None
    gpus: float | None = None

    def __post_init__(self) -> None:
        low, high = self.replicas
        if not 1 <= low <= high <= MOST_REPLICAS:
            raise InvalidArgument(f"replicas: got {low} to {high}; expected 1 to {MOST_REPLICAS:,}, the smaller number first")
        for name, value in (("cpus-per-replica", self.cpus), ("gpus-per-replica", self.gpus)):
            if value is not None and not 0 <= value <= 1024:
                raise InvalidArgument(f"{name}: got {value:g}; expected 0 to 1024")
        if self.gpus is not None and self.gpus > 1 and self.gpus % 1:
            raise InvalidArgument(f"gpus-per-replica: got {self.gpus:g}; expected a whole number, or a part of one GPU, such as 0.5")

    def cpus_for(self) -> float:
        """Return the cores that Ray sets aside for a replica."""
        if self.cpus is not None:
            return self.cpus
        return 1.0 if self.address else max(cpu_count() / self.replicas[1], 0.1)

    def gpus_for(self, target: str) -> float:
        """Return the GPUs, or the part of one, that Ray sets aside for a replica; without, a replica sees none."""
        return self.gpus if self.gpus is not None else float(target in FORMED)

    def threads_for(self, threads: int) -> int:
        """Return on how many threads a replica's engines run, where `threads` does not say."""
        return threads or max(int(self.cpus_for()), 1)

    def local_cpus(self) -> int:
        """Return how many cores a cluster of our own says that it has: enough for all replicas."""
        return max(ceil(self.replicas[1] * self.cpus_for()), 1)


def portable_model(model: str) -> str:
    """Return what other processes take for a model: its name, or the whole path of a folder, which must be there on their machines too."""
    path = Path(model)
    return model if model in MANIFESTS or not path.exists() else str(path.absolute())


def read_replicas(text: str) -> tuple[int, int]:
    """Read "2" or "1-4". Raises InvalidArgument."""
    low, dash, high = text.partition("-")
    if not low.isdecimal() or (dash and not high.isdecimal()):
        raise InvalidArgument(f"replicas: got {text[:80]!r}; expected a number, such as 2, or the fewest and the most, such as 1-4")
    return int(low), int(high or low)
