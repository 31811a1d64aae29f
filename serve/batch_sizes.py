"""How many pictures are worth painting at once, by what runs them. Where an engine is made for a number of rows, few sizes are best."""

from __future__ import annotations

from sd2rt.engine.errors import TargetUnavailable
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.engine_plan import FORMED, choose_bundle_target
from sd2rt.serve.shelf import weights_bytes

SMALL_BYTES = 128 << 20  # of weights: engines of such models are compiled within a second, and several can be kept


def batch_sizes(bundle: Bundle, target: str, most: int) -> tuple[int, ...]:
    """Return the numbers of pictures that orders are joined to, up to `most`; a single order may be of any number.

    On `cpu` that is any number: its engines take any. OpenVINO compiles an engine for every number of rows, so there it is 1, 2, 4 and
    so on, and for a large model, whose steps take as much longer as there are more rows, 1. ONNX Runtime holds engines on a GPU for one
    number of pictures at a time: 1 there too. Those of TensorRT are for sizes, and `built_engines` knows them; where nothing is known of
    them, 1. Raises InvalidArgument for a target that there is not.
    """
    try:
        chosen = choose_bundle_target(bundle, target)
    except TargetUnavailable:  # not on this machine, which need not be the one that paints
        chosen = target
    if chosen == "cpu":
        return tuple(range(1, most + 1))
    if chosen in FORMED or weights_bytes(bundle) > SMALL_BYTES:
        return (1,)
    return tuple(1 << power for power in range(most.bit_length()))
