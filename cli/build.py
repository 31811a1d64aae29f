"""`sd2rt build`: a bundle's engines, ahead of their first use."""

from __future__ import annotations

import click

from sd2rt.cli.console import Console, console_options, size_text


@click.command()
@click.argument("bundle")
@click.option("--target", default="auto", show_default=True, help="What to build for; `sd2rt info` lists what works here.")
@console_options
@click.pass_obj
def build(console: Console, /, bundle: str, target: str) -> None:
    """Build what BUNDLE's components need on this machine, as far as the cache has it not, and print the engines' folders.

    `generate` does the same when it finds an engine missing.

    \b
    Examples:
      sd2rt build ./sd21
      sd2rt build toyworld --target cpu --json
    """
    from sd2rt.engine.build import build_engine
    from sd2rt.engine.spec import BuildOptions
    from sd2rt.engine.targets import resolve_target
    from sd2rt.runtime.bundle import read_bundle
    from sd2rt.runtime.models import find_model

    checked = read_bundle(find_model(bundle))
    options = BuildOptions(target=resolve_target(target).name)
    entries = [build_engine(component.files, options, console.note) for component in checked.components.values()]
    console.note(f"{len(entries)} engines for {options.target}, {size_text(sum(entry.bytes for entry in entries))}")
    engines = [{"component": entry.manifest.component, "folder": str(entry.folder), "bytes": entry.bytes} for entry in entries]
    console.result({"model": checked.name, "target": options.target, "engines": engines}, [str(entry.folder) for entry in entries])
