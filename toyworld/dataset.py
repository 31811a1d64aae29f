"""Render toyworld's training sets: scenes, depth, boxes and caption ids as one NumPy archive.

Owns the arrays that training reads. Knows nothing of models.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sd2rt.toyworld.scene import Rendering, is_held_out, render, sample_scene, vary_caption

CHUNK = 250  # scenes of one seed: the archive depends on count and seed alone, not on the number of workers


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetOptions:
    """What to render: `count` scenes of `size` x `size` pixels, each with `captions` wordings of its caption."""

    count: int
    size: int = 64
    captions: int = 4
    seed: int = 0


def write_dataset(path: Path, options: DatasetOptions, workers: int) -> None:
    """Render the set and save it to `path` (.npz).

    Arrays: images uint8 [N, S, S, 3]; depth float16 [N, S, S], along the ray; boxes int16 [N, 2, 4] as (x0, y0, x1, y1) pixels of the
    solids, the only one twice; ids int32 [N, captions, 77]. Captions that `is_held_out` names do not occur.
    """
    jobs = [(options, chunk) for chunk in range(-(-options.count // CHUNK))]
    with Pool(workers) as pool:
        parts = pool.starmap(_render_chunk, jobs, chunksize=1)
    arrays = {name: np.concatenate([part[name] for part in parts])[: options.count] for name in parts[0]}
    np.savez(path, allow_pickle=False, **arrays)


def _render_chunk(options: DatasetOptions, chunk: int) -> dict[str, npt.NDArray[np.generic]]:
    from tokenizers import Tokenizer

    rng = np.random.default_rng((options.seed, chunk))
    tokenizer = Tokenizer.from_file(str(files("sd2rt.toyworld").joinpath("bundle/tokenizer/tokenizer.json")))
    rows: dict[str, list[npt.NDArray[np.generic]]] = {"images": [], "depth": [], "boxes": [], "ids": []}
    for caption, rendering in _scenes(rng, options.size):
        wordings = [caption, *(vary_caption(caption, rng) for _ in range(options.captions - 1))]
        rows["images"].append(rendering.image)
        rows["depth"].append(rendering.depth.astype(np.float16))
        rows["boxes"].append(_boxes(rendering))
        rows["ids"].append(np.array([encoding.ids for encoding in tokenizer.encode_batch(wordings)], np.int32))
    return {name: np.stack(values) for name, values in rows.items()}


def _scenes(rng: np.random.Generator, size: int) -> Iterator[tuple[str, Rendering]]:
    done = 0
    while done < CHUNK:
        scene = sample_scene(rng)
        if not is_held_out(scene.caption):
            done += 1
            yield scene.caption, render(scene, size)


def _boxes(rendering: Rendering) -> npt.NDArray[np.int16]:
    """Pixel boxes [2, 4] of the solids; a scene with one solid repeats it."""
    boxes = []
    for solid in (0, 1 if (rendering.index == 1).any() else 0):
        y, x = np.nonzero(rendering.index == solid)
        boxes.append((x.min(), y.min(), x.max() + 1, y.max() + 1) if len(x) else (0, 0, 0, 0))
    return np.array(boxes, np.int16)
