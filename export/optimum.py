"""A folder of ONNX graphs in optimum's layout to a bundle: bundle.json written beside the graphs and their weights. Needs no torch.

Graphs are taken as they are but for their inputs and outputs (`graphs`): what `sd2rt export` makes of the checkpoint itself has whole
attention and normalization operators and is faster. Weights are linked where the file system can, and copied where it cannot.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sd2rt.engine.errors import ExportError
from sd2rt.export.checkpoint import TASKS_BY_EXTRA_CHANNELS
from sd2rt.export.clip import LENGTH, copy_tokenizer, read_json
from sd2rt.export.defaults import sampling_defaults
from sd2rt.export.graphs import Adapted, Shape, Signature, read_graph, write_graph
from sd2rt.export.layout import GRAPHS
from sd2rt.export.writer import describe_files, link_or_copy, new_folder, write_json

ENCODER = "vae_encoder"
TASKS = ("text-to-image", "inpainting")  # that optimum exports
SCALING_FACTOR = 0.18215  # diffusers' for an autoencoder whose config names none
Notify = Callable[[str], None]
Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFolder:
    """What the configs of a folder say: its task, and what each graph must take and give."""

    folder: Path
    unet: Config
    vae: Config
    scheduler: Config
    task: str
    signatures: Mapping[str, Signature]


def import_graphs(folder: Path, out: Path, name: str, notify: Notify = lambda line: None, *, replace: bool = False) -> Path:
    """Write the bundle of a folder in optimum's layout to `out`, which appears only when it is complete, and return it.

    Raises ExportError for graphs or configs that do not fit, InvalidArgument for an `out` in use.
    """
    source = read_folder(folder)
    with new_folder(out, replace=replace) as made:
        adapted = {}
        for part, signature in source.signatures.items():
            try:
                adapted[part] = read_graph(folder / part / "model.onnx", signature)
            except ExportError as error:
                if part != ENCODER:
                    raise
                notify(f"without {part}, so that pictures cannot be read: {error}")
                continue
            _take(folder / part, made / part, adapted[part])
            notify(f"{part}: opset {adapted[part].opset}, {adapted[part].dtype}")
        notify(f"sizes: this UNet was traced, so that width and height must be multiples of {_size_multiple(source)}")
        copy_tokenizer(folder / "tokenizer", made / "tokenizer")
        for file in ("model_index.json", "scheduler/scheduler_config.json"):
            write_json(made / file, read_config(folder / file))
        write_json(made / "bundle.json", _document(source, made, name, adapted))
    return out


def read_config(file: Path) -> Config:
    """Read a JSON object. Raises ExportError where there is none."""
    config = read_json(file)
    if not config:
        raise ExportError(f"cannot read {file}: expected a folder in optimum's layout")
    return config


def read_folder(folder: Path) -> GraphFolder:
    """Read the configs. Raises ExportError where they are missing, or for what SD2 has not."""
    text, unet, vae = (read_config(folder / name / "config.json") for name in GRAPHS)
    try:
        channels, latents = int(unet["in_channels"]), int(vae["latent_channels"])
        tokens, width = min(int(text["max_position_embeddings"]), LENGTH), int(unet["cross_attention_dim"])
        _native_size(unet, vae)
        len(unet["block_out_channels"])
    except (KeyError, TypeError, ValueError) as error:
        raise ExportError(
            f"{folder}: the configs of unet, vae_decoder and text_encoder lack {error}; expected Stable Diffusion's"
        ) from error
    task = TASKS_BY_EXTRA_CHANNELS.get(channels - latents, "")
    if task not in TASKS:
        raise ExportError(f"{folder}: a UNet of {channels} channels over {latents} latent channels; expected one for {' or '.join(TASKS)}")
    sample: Shape = ("batch", channels, "height", "width")
    states: Shape = ("batch", "sequence", width)
    image: Shape = ("batch", 3, "image_height", "image_width")
    small: Shape = ("batch", latents, "height", "width")
    return GraphFolder(
        folder=folder,
        unet=unet,
        vae=vae,
        scheduler=read_config(folder / "scheduler" / "scheduler_config.json"),
        task=task,
        signatures={
            "text_encoder": Signature(inputs={"input_ids": ("batch", tokens)}, outputs={"last_hidden_state": ("batch", tokens, width)}),
            "unet": Signature(
                inputs={"sample": sample, "timestep": ("batch",), "encoder_hidden_states": states}, outputs={"out_sample": small}
            ),
            "vae_decoder": Signature(inputs={"latent_sample": small}, outputs={"sample": image}),
            ENCODER: Signature(inputs={"sample": image}, outputs={"latent_parameters": ("batch", 2 * latents, "height", "width")}),
        },
    )


def _take(source: Path, target: Path, adapted: Adapted) -> None:
    """Put a graph and its weights into the bundle."""
    target.mkdir()
    write_graph(adapted, target / "model.onnx")
    for weights in adapted.data:
        link_or_copy(weights.resolve(), target / weights.name)
    if (source / "config.json").is_file():
        link_or_copy((source / "config.json").resolve(), target / "config.json")


def _document(source: GraphFolder, made: Path, name: str, adapted: Mapping[str, Adapted]) -> dict[str, Any]:
    """Return bundle.json."""
    graphs = {made / part / file for part in adapted for file in ("model.onnx", *(path.name for path in adapted[part].data))}
    others = [file for file in made.rglob("*") if file.is_file() and file not in graphs]
    return {
        "schema_version": 1,
        "name": name,
        "task": source.task,
        "prediction_type": source.scheduler.get("prediction_type", "epsilon"),
        "native_size": _native_size(source.unet, source.vae),
        "latent_channels": source.vae["latent_channels"],
        "latent_factor": _factor(source.vae),
        "size_multiple": _size_multiple(source),
        "scaling_factor": source.vae.get("scaling_factor", SCALING_FACTOR),
        "scheduler": source.scheduler,
        "defaults": sampling_defaults(source.scheduler, source.task),
        "components": {
            part: {
                "dtype": graph.dtype,
                "files": describe_files([file for file in graphs if file.parent.name == part], made / part),
                "inputs": _tensors(graph, source.signatures[part].inputs),
                "outputs": _tensors(graph, source.signatures[part].outputs),
            }
            for part, graph in adapted.items()
        },
        "files": describe_files(others, made),
        "export": {"source": str(source.folder), "sd2rt": version("sd2rt"), "layout": "optimum"},
    }


def _tensors(graph: Adapted, shapes: Mapping[str, Shape]) -> list[dict[str, object]]:
    return [{"name": name, "dtype": graph.dtypes[name], "shape": list(shape)} for name, shape in shapes.items()]


def _factor(vae: Config) -> int:
    """Return the image pixels per latent pixel: every block of the autoencoder but the last halves the size."""
    return int(2 ** (len(vae["block_out_channels"]) - 1))


def _size_multiple(source: GraphFolder) -> int:
    """Return what sides in pixels must be multiples of: a traced UNet joins its skips right only where every block halves evenly."""
    return _factor(source.vae) << (len(source.unet["block_out_channels"]) - 1)


def _native_size(unet: Config, vae: Config) -> list[int]:
    """Return [height, width] in pixels."""
    size = unet["sample_size"]
    return [int(side) * _factor(vae) for side in ((size, size) if isinstance(size, int) else size)]
