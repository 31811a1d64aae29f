"""Models without a checkpoint: SD2's architecture with weights drawn from a seed, for benchmarks and tests."""

import hashlib
from typing import Any

import torch

from sd2rt.export.checkpoint import SCHEDULERS, Checkpoint
from sd2rt.export.clip import shared_tokenizer
from sd2rt.export.modules import CLASSES, empty_module
from sd2rt.export.presets import read_preset

SMALL_STD = 0.02  # CLIP's own for embeddings
DEPTH_BIAS = 8.0  # before DPT's last ReLU, which would else make most of a random depth map zero


def open_random(preset: str, seed: int) -> Checkpoint:
    """Return the preset's architecture with random weights, the same for the same seed on every machine."""
    configs = read_preset(preset)

    def load(component: str) -> Any:
        module = empty_module(component, configs[component])
        fill(module, f"{seed}/{component}")
        if component == "depth_estimator":
            module.head.head[-2].bias.fill_(DEPTH_BIAS)
        return module

    return Checkpoint(
        source=f"random weights, preset {preset}, seed {seed}",
        name=preset,
        model_index=configs["model_index"],
        configs={name: configs[name] for name in CLASSES if name in configs},
        schedulers={name: configs[name] for name in SCHEDULERS if name in configs},
        tokenizer=shared_tokenizer(),
        load=load,
        weights_seed=seed,
        image_processor=configs.get("feature_extractor"),
    )


def fill(module: torch.nn.Module, seed: str) -> None:
    """Draw all parameters in place: matrices and kernels from N(0, 1 / fan_in), embeddings and biases from N(0, 0.02^2), norms one.

    With unit-variance inputs every layer then has outputs of order one, and with the norms in between nothing vanishes or
    explodes. Each parameter has its own generator, seeded by `seed` and its name.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim == 1 and name.endswith("weight"):
                parameter.fill_(1.0)
                continue
            digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))
            small = parameter.ndim == 1 or "embedding.weight" in name
            parameter.normal_(std=SMALL_STD if small else parameter[0].numel() ** -0.5, generator=generator)
