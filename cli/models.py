"""`sd2rt models pull|import|list|show|rm`: look after the models folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sd2rt.cli.choices import offline_option
from sd2rt.cli.console import Console, console_options, size_text
from sd2rt.cli.model_lines import describe, line, source_of
from sd2rt.engine.errors import InvalidArgument, ModelNotFound

if TYPE_CHECKING:
    from sd2rt.runtime.model_store import StoredModel


@click.group()
def models() -> None:
    """Look after the models that a name alone finds.

    They lie in $SD2RT_MODELS, else in the user's data folder. `sd2rt generate --model NAME` takes them from there, and does what `pull`
    does for an alias that is not there yet.
    """


@models.command()
@click.argument("source")
@click.option("--name", help="What to call it.  [default: the alias, owner--name of a hub id, or the folder's or file's name]")
@click.option("--dtype", default="fp16", show_default=True, help="fp16 or fp32, for what is exported.")
@click.option("--preset", help="Configs by name, such as sd21-base, for a single file that does not tell its own.")
@click.option("--force", is_flag=True, help="Replace the model of that name.")
@offline_option
@console_options
@click.pass_obj
def pull(console: Console, /, source: str, name: str | None, dtype: str, preset: str | None, force: bool) -> None:
    """Get a model into the models folder, and print its bundle.

    SOURCE is an alias (sd2, sd2-base, sd21, sd21-base, sd2-inpainting, sd2-depth, x4-upscaler, sd-turbo), a hub id (owner/name), or
    anything that `sd2rt models import` takes. A checkpoint is exported, which needs torch: pip install 'sd2rt[export,cpu]'. A repository
    of ONNX graphs or of an sd2rt bundle is not, and needs pip install 'sd2rt[hub]' alone.

    Only what is needed is downloaded (safetensors, configs, tokenizer; never a pickle; half precision where that is enough), into the
    hub's own cache: HF_HOME, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE hold. What was cut off goes on where it stopped, and every file is
    compared with the hash that the hub lists.

    \b
    Examples:
      sd2rt models pull sd21
      sd2rt models pull someone/their-model --name theirs --dtype fp32
      sd2rt models pull ./stable-diffusion-2-1 --name sd21
      HF_HUB_OFFLINE=1 sd2rt models pull sd21-base      # from the hub's cache
    """
    add(console, source, name=name, dtype=dtype, preset=preset, force=force)


@models.command("import")
@click.argument("folder", type=click.Path(exists=True))
@click.option("--name", help="What to call it.  [default: the folder's or file's name]")
@click.option("--dtype", default="fp16", show_default=True, help="fp16 or fp32, for what is exported.")
@click.option("--preset", help="Configs by name, such as sd21-base, for a single file that does not tell its own.")
@click.option("--force", is_flag=True, help="Replace the model of that name.")
@console_options
@click.pass_obj
def import_(console: Console, /, folder: str, name: str | None, dtype: str, preset: str | None, force: bool) -> None:
    """Take a model on this machine into the models folder, and print its bundle.

    FOLDER is a bundle, a folder that optimum exported (its graphs run as they are), a diffusers folder, or a .safetensors file in
    Stability's layout; the last two are exported. Files are linked where the disk is the same, and copied where not.

    \b
    Examples:
      sd2rt models import ./sd21-onnx --name sd21                                        # optimum-cli export onnx
      sd2rt models import v2-1_768-ema-pruned.safetensors --preset sd21 --name sd21
      sd2rt models import ./my-bundle
    """
    path = str(Path(folder).absolute())  # never an alias
    add(console, path, name=name, dtype=dtype, preset=preset, force=force)


def add(console: Console, source: str, *, name: str | None, **asked: Any) -> None:
    """Put a model into the models folder and print where it is."""
    from sd2rt.cli.add_model import Wish, add_model, safe_name

    chosen = name or safe_name(source)
    folder = add_model(console, Wish(source=source, name=chosen, offline=console.offline, **asked))
    console.result({"name": chosen, "bundle": str(folder)}, [str(folder)])


@models.command("list")
@console_options
@click.pass_obj
def list_(console: Console, /) -> None:
    """List the models of the models folder and the embedded ones: task, pixels, precision, size, and the targets that have engines.

    \b
    Examples:
      sd2rt models list
      sd2rt models list --json | jq -r '.models[].name'
    """
    from sd2rt.engine.cache import list_engines
    from sd2rt.runtime.model_store import list_models, models_root
    from sd2rt.runtime.models import embedded_models

    cached = list_engines()
    found = [describe(model, cached) for model in list_models()]
    embedded = [describe(read_known(name), cached) for name in embedded_models()]
    total = size_text(sum(model["bytes"] for model in found))
    console.note(f"{len(found)} models in {models_root()}, {total}; {len(embedded)} embedded ones, which share files")
    console.result({"folder": str(models_root()), "models": found, "embedded": embedded}, map(line, found + embedded))


def read_known(name: str) -> StoredModel:
    """Read an embedded model, or one of the models folder. Raises ModelNotFound."""
    from sd2rt.runtime.bundle import read_bundle
    from sd2rt.runtime.model_store import StoredModel, read_stored
    from sd2rt.runtime.models import embedded_models

    if name not in embedded_models():
        return read_stored(name)
    bundle = read_bundle(embedded_models()[name])
    return StoredModel(name=name, folder=bundle.folder, bundle=bundle)


@models.command()
@click.argument("name")
@console_options
@click.pass_obj
def show(console: Console, /, name: str) -> None:
    """Describe one model: where it came from, its parts and its engines.

    \b
    Examples:
      sd2rt models show sd21
      sd2rt models show sd21 --json | jq '.engines'
    """
    from sd2rt.cli.info import bundle_lines, describe_bundle
    from sd2rt.engine.cache import list_engines
    from sd2rt.runtime.model_store import model_engines

    model = read_known(name)
    if model.bundle is None:
        raise ModelNotFound(f"{name} cannot be used: {model.problem}")
    built = model_engines(model.bundle, list_engines())
    described, about = describe(model, built), describe_bundle(str(model.bundle.manifest))
    entries: list[dict[str, Any]] = [
        {"component": entry.manifest.component, "target": entry.manifest.target, "folder": str(entry.folder), "bytes": entry.bytes}
        for entry in built
    ]
    source = source_of(model.bundle)
    lines = [*bundle_lines(about), f"from       {source}", f"disk       {size_text(described['bytes'])}", f"engines    {len(entries)}"]
    lines += [f"  {entry['target']:<14}{entry['component']:<16}{size_text(entry['bytes'])}" for entry in entries]
    console.result({**about, **described, "source": source, "engines": entries}, lines)


@models.command()
@click.argument("name")
@click.option("--engines", is_flag=True, help="Remove its engines too, those that no other model here has.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@console_options
@click.pass_obj
def rm(console: Console, /, name: str, engines: bool, yes: bool) -> None:
    """Remove a model, and print the folders that are gone. What the hub's cache has stays there.

    \b
    Examples:
      sd2rt models rm sd21
      sd2rt models rm sd21 --engines --yes
    """
    from sd2rt.engine.cache import drop_engine
    from sd2rt.runtime.model_store import folder_bytes, read_stored, remove_model, unshared_engines
    from sd2rt.runtime.models import embedded_models

    if name in embedded_models():
        raise InvalidArgument(f"{name} is embedded: it goes with sd2rt itself; expected a model of the models folder")
    model = read_stored(name)
    entries = unshared_engines(model) if engines else ()
    size = folder_bytes(model.folder) + sum(entry.bytes for entry in entries)
    confirm(f"remove {model.folder} and {len(entries)} engines, {size_text(size)}?", yes=yes)
    try:
        remove_model(model)
    except OSError as error:
        raise InvalidArgument(f"{model.folder} cannot be removed: {error.strerror}; check its permissions") from error
    removed = [str(model.folder), *(str(entry.folder) for entry in entries if drop_engine(entry.folder))]
    console.result({"removed": removed}, removed)


def confirm(question: str, *, yes: bool) -> None:
    """Ask on a terminal. Raises click.Abort for no, InvalidArgument where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidArgument(f"{question} got no answer, as stdin is no terminal; expected --yes")
    click.confirm(question, abort=True, err=True)
