"""LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685) merged into a checkpoint's weights before they are exported.

A layer's weight W becomes W + scale * alpha / rank * up . down, in float32. Every tensor of the file must find its layer: nothing is
dropped. Merged: linear layers and convolutions, LoCon's kernels and its "mid" form included. Refused: LoHa, LoKr, OFT, DoRA, biases
and text embeddings, whose names `lora_keys` does not know.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from sd2rt.engine.errors import ExportError, ModelNotFound
from sd2rt.export.checkpoint import Checkpoint
from sd2rt.export.layout import PICKLE_ADVICE
from sd2rt.export.lora_keys import LoraKey, flat_name, parse_key
from sd2rt.export.modules import empty_module
from sd2rt.export.options import Lora
from sd2rt.export.single_file import Header, read_header

COMPONENTS = ("text_encoder", "unet")
PEFT_METADATA = "lora_adapter_metadata"  # diffusers keeps PEFT's configuration under this key, as JSON
KEYS_NAMED = 3  # in an error

Shape = tuple[int, ...]
Layers = Mapping[str, Mapping[str, Shape]]  # weight shapes by component and flat layer name


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One layer's part of a file: tensor names by part ("down", "up", "mid", "alpha"), and what else scales it."""

    keys: dict[str, str] = field(default_factory=dict)
    factor: Callable[[int], float]  # rank -> alpha / rank, where the file has no "alpha" tensor


def merge_loras(checkpoint: Checkpoint, loras: tuple[Lora, ...]) -> Checkpoint:
    """Return the checkpoint with the LoRAs added to whatever `load` returns, one after the other, and named in `loras`.

    Raises ModelNotFound for a missing file, ExportError for one that is no .safetensors file, or that does not fit the model whole.
    """
    if not loras:
        return checkpoint
    layers = {component: _layer_shapes(component, checkpoint.configs[component]) for component in COMPONENTS}
    updates = [_open(lora, layers) for lora in loras]

    def load(component: str) -> Any:
        module = checkpoint.load(component)
        for lora, found in zip(loras, updates, strict=True):
            _add(lora, {layer: update for (owner, layer), update in found.items() if owner == component}, component, module)
        return module

    return replace(checkpoint, load=load, loras=tuple(_describe(lora) for lora in loras))


def _describe(lora: Lora) -> dict[str, object]:
    with lora.file.open("rb") as stream:
        return {"file": lora.file.name, "sha256": hashlib.file_digest(stream, "sha256").hexdigest(), "scale": lora.scale}


def _layers(component: str, module: nn.Module) -> dict[str, Any]:
    """Return the linear layers and convolutions by flat name."""
    return {flat_name(component, name): layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}


def _layer_shapes(component: str, config: Mapping[str, Any]) -> dict[str, Shape]:
    with torch.device("meta"):
        module = empty_module(component, config)
    return {name: tuple(layer.weight.shape) for name, layer in _layers(component, module).items()}


def _open(lora: Lora, layers: Layers) -> dict[tuple[str, str], Update]:
    """Read the file's names and shapes, and return the update of each (component, layer)."""
    if lora.file.suffix != ".safetensors":
        raise ExportError(f"{lora.file}: got a {lora.file.suffix or 'file without ending'}, expected .safetensors; {PICKLE_ADVICE}")
    if not lora.file.is_file():
        raise ModelNotFound(f"no LoRA file {lora.file}")
    header = read_header(lora.file)
    parsed = {key: parse_key(key) for key in header.shapes}
    known = {key: place for key, place in parsed.items() if place is not None and place.layer in layers[place.component]}
    strangers = sorted(parsed.keys() - known.keys())
    if strangers or not known:
        named = ", ".join(strangers[:KEYS_NAMED]) or "nothing"
        raise ExportError(
            f"{lora.file}: {len(strangers)} of {len(parsed)} tensors fit no layer of this model (the first: {named}); expected LoRA or "
            "LoCon for an SD2 UNet and text encoder, in kohya's or diffusers' names"
        )
    config = _peft_config(lora, header)
    updates: dict[tuple[str, str], Update] = {}
    for key, place in known.items():
        update = updates.setdefault((place.component, place.layer), Update(factor=_peft_factor(config, place)))
        if place.part in update.keys:
            raise ExportError(f"{lora.file}: both {update.keys[place.part]} and {key} are for one layer; expected one of them")
        update.keys[place.part] = key
    for (component, layer), update in updates.items():
        _check_shapes(lora, header, update.keys, layers[component][layer])
    return updates


def _check_shapes(lora: Lora, header: Header, keys: Mapping[str, str], weight: Shape) -> None:
    """Refuse a layer of which a part is missing, or whose product has not the shape of `weight`."""
    if not {"down", "up"} <= keys.keys():
        raise ExportError(f"{lora.file}: {next(iter(keys.values()))} stands alone; expected a down and an up tensor for each layer")
    shapes = {part: header.shapes[key] for part, key in keys.items()}
    down, up, mid = shapes["down"], shapes["up"], shapes.get("mid")
    fits = len(down) > 1 < len(up) and math.prod(up[2:]) == 1 and up[0] == weight[0]
    if mid is None:
        fits = fits and up[1] == down[0] and math.prod(down[1:]) == math.prod(weight[1:])
    else:
        fits = fits and len(weight) == 4 and mid == (up[1], down[0], *weight[2:]) and math.prod(down[1:]) == weight[1]
    if not fits:
        raise ExportError(
            f"{lora.file}: {keys['down']} {list(down)} and {keys['up']} {list(up)} do not make the layer's weight {list(weight)}; "
            "was it trained for another model?"
        )


def _peft_config(lora: Lora, header: Header) -> Mapping[str, Any]:
    """Return PEFT's configuration, its names prefixed by components or not, empty where the file has none."""
    try:
        config = dict(json.loads(header.metadata.get(PEFT_METADATA, "{}")))
        for name in (name for name in config if name.endswith("alpha_pattern")):
            config[name] = {re.compile(pattern).pattern: float(alpha) for pattern, alpha in dict(config[name] or {}).items()}
    except (ValueError, TypeError, re.error) as error:
        raise ExportError(f"{lora.file}: its metadata {PEFT_METADATA} cannot be read ({error}); save the LoRA again") from error
    return config


def _peft_factor(config: Mapping[str, Any], place: LoraKey) -> Callable[[int], float]:
    """Return the function rank -> alpha / rank that PEFT's configuration asks for: 1 where it names no alpha."""
    own = {name: config.get(f"{place.component}.{name}", config.get(name)) for name in ("lora_alpha", "alpha_pattern", "use_rslora")}
    alpha = own["lora_alpha"]
    for pattern, value in (own["alpha_pattern"] or {}).items():
        if re.search(rf"(^|_)({flat_name(place.component, pattern)})$", place.layer):
            alpha = value
            break

    def factor(rank: int) -> float:
        return 1.0 if alpha is None else alpha / (rank**0.5 if own["use_rslora"] else rank)

    return factor


def _add(lora: Lora, updates: Mapping[str, Update], component: str, module: nn.Module) -> None:
    """Add the updates of one component to its weights, in place."""
    layers = _layers(component, module)
    with safe_open(lora.file, framework="pt") as tensors, torch.no_grad():
        for name, update in updates.items():
            parts = {part: tensors.get_tensor(key).float() for part, key in update.keys.items()}
            down, up = parts["down"].flatten(1), parts["up"].flatten(1)  # [rank, in * h * w], [out, rank]
            rank = len(down)
            product = torch.einsum("or,rshw,si->oihw", up, parts["mid"], down) if "mid" in parts else up @ down
            factor = parts["alpha"].item() / rank if "alpha" in parts else update.factor(rank)
            weight: Any = layers[name].weight
            weight.add_(product.reshape(weight.shape), alpha=lora.scale * factor)
