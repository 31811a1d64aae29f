"""Whether an engine that was built for one request does for another: what it takes and runs on may be more than is asked for.

Fields are those of manifests. All of them must be equal but for the sizes (`axes`: smallest, usual, largest), the GPUs
(`compute_capabilities`, and `gpu` where an engine is for this machine's) and how it was built (`TensorRTOptions`). Knows no backend.
"""

from __future__ import annotations

from collections.abc import Mapping

from sd2rt.engine.manifest import Field
from sd2rt.engine.spec import TensorRTOptions
from sd2rt.engine.targets import PORTABLE_TO

OF_THE_BUILD = ("low_memory", "workspace_bytes")  # they change how long a build takes, and what it takes, but not what the engine does
FLEXIBLE = ("axes", "compute_capabilities", "gpu", "optimization_level", "weight_streaming", *OF_THE_BUILD)
USUAL_LEVEL = TensorRTOptions().optimization_level
Fields = Mapping[str, Field]


def covers(found: Fields, wanted: Fields) -> bool:
    """Say whether an engine of the fields `found` may stand in for one of the fields `wanted`."""
    if "axes" not in wanted or {**found, **_flexible(wanted)} != {**wanted}:
        return False
    return _axes_cover(found.get("axes"), wanted["axes"]) and _gpus_cover(found, wanted) and _tuning_covers(found, wanted)


def _flexible(fields: Fields) -> Fields:
    return {name: fields[name] for name in FLEXIBLE if name in fields}


def _axes_cover(found: Field, wanted: Field) -> bool:
    """Every axis must be there and take all sizes asked for; which is the usual one does not matter."""
    if not isinstance(found, Mapping) or not isinstance(wanted, Mapping) or found.keys() != wanted.keys():
        return False
    pairs = [(found[name], wanted[name]) for name in wanted]
    return all(isinstance(have, list) and isinstance(want, list) and have[0] <= want[0] and want[2] <= have[2] for have, want in pairs)  # type: ignore[operator]


def _gpus_cover(found: Fields, wanted: Fields) -> bool:
    """An engine for this machine's GPU is as good as one that names its compute capability, and for nothing else."""
    if found.get("gpu") is not None:
        return found["gpu"] == wanted.get("gpu")
    have, need = _capabilities(found), _capabilities(wanted)
    gpu = wanted.get("gpu")
    if isinstance(gpu, Mapping):
        need = {str(gpu["capability"])}
    return bool(need) and (need <= have or ("portable" in have and need <= {"portable", *PORTABLE_TO}))


def _tuning_covers(found: Fields, wanted: Fields) -> bool:
    """A higher level does for a lower one, and any for the usual one: whoever built it chose it. Streamed weights do for others."""
    level, asked = found.get("optimization_level"), wanted.get("optimization_level")
    if level != asked and not (isinstance(level, int) and isinstance(asked, int) and (level > asked or asked == USUAL_LEVEL)):
        return False
    return bool(found.get("weight_streaming")) >= bool(wanted.get("weight_streaming"))


def _capabilities(fields: Fields) -> set[str]:
    listed = fields.get("compute_capabilities")
    return {str(name) for name in listed} if isinstance(listed, list) else set()
