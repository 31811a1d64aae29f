"""What all contenders paint: `python -m benchmarks.workers.peer_inputs BUNDLE COUNT SEED START SIDE...`.

Writes `<START>-<side>x<side>.npy`, the noise of seeds SEED to SEED + COUNT - 1 as torch's CPU generator draws it, and prints captions.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.noise import TorchNormals
from sd2rt.toyworld.evaluate import held_out_captions


def main(folder: str, count: str, seed: str, start: str, *sides: str) -> None:
    """Write the noise, print the captions, the schedule and the model's name."""
    bundle = read_bundle(Path(folder))
    for side in sides:
        shape = (1, bundle.latent_channels, int(side) // bundle.latent_factor, int(side) // bundle.latent_factor)
        noise = [TorchNormals(int(seed) + k).draw(shape) for k in range(int(count))]
        np.save(f"{start}-{side}x{side}.npy", np.concatenate(noise))
    described = json.loads((Path(folder) / "bundle.json").read_text())
    print(json.dumps({"captions": held_out_captions(int(count)), "scheduler": described["scheduler"], "model": described["name"]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
