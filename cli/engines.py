"""`sd2rt engines list|verify|prune`: look after the engine cache."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from sd2rt.cli.console import Console, console_options, size_text

if TYPE_CHECKING:
    from sd2rt.engine.cache import CacheEntry

MOST = 100_000  # days or GB


@click.group()
def engines() -> None:
    """Look after the engines built on this machine."""


@engines.command("list")
@console_options
@click.pass_obj
def list_(console: Console, /) -> None:
    """List the cached engines, the most recently used first.

    \b
    Examples:
      sd2rt engines list
      sd2rt engines list --json | jq -r '.engines[].folder'
    """
    from sd2rt.engine.cache import cache_root, list_engines

    entries = list_engines()
    console.note(f"{len(entries)} engines in {cache_root()}, {size_text(sum(entry.bytes for entry in entries))}")
    console.result({"cache": str(cache_root()), "engines": [describe(entry) for entry in entries]}, map(line, entries))


@engines.command()
@console_options
@click.pass_obj
@click.pass_context
def verify(context: click.Context, console: Console, /) -> None:
    """Compare every file of every engine with its SHA-256; exit with 1 when one does not match.

    \b
    Examples:
      sd2rt engines verify
      sd2rt engines verify --json | jq '.engines[] | select(.problems != [])'
    """
    from sd2rt.engine.cache import verify_engines

    verdicts = verify_engines()
    damaged = [verdict for verdict in verdicts if verdict.problems]
    console.note(f"{len(verdicts)} engines checked, {len(damaged)} damaged{': sd2rt engines prune removes them' if damaged else ''}")
    found = [{"folder": str(verdict.folder), "problems": list(verdict.problems)} for verdict in verdicts]
    console.result({"ok": not damaged, "engines": found}, [f"{v.folder}: {'; '.join(v.problems) or 'ok'}" for v in verdicts])
    context.exit(1 if damaged else 0)


def refuse_endless(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Refuse what no engine can be: NaN, and numbers too large for a date or a disk."""
    if value is not None and not value <= MOST:
        raise click.BadParameter(f"got {value:g}; expected a number from 0 to {MOST:,}", context, parameter)
    return value


@engines.command()
@click.option("--unused-days", type=click.FloatRange(min=0), callback=refuse_endless, help="Remove engines not used for so many days.")
@click.option(
    "--max-gb",
    type=click.FloatRange(min=0),
    callback=refuse_endless,
    help="Remove the least recently used engines beyond this size in all.",
)
@click.option("--all", "everything", is_flag=True, help="Remove every engine.")
@console_options
@click.pass_obj
def prune(console: Console, /, unused_days: float | None, max_gb: float | None, everything: bool) -> None:
    """Remove engines and print their folders. Without options: only damaged ones and what killed builds left.

    An engine that is being built stays. What is needed again is built again.

    \b
    Examples:
      sd2rt engines prune --unused-days 30
      sd2rt engines prune --max-gb 20
      sd2rt engines prune --all
    """
    from sd2rt.engine.cache import prune_engines

    removed = prune_engines(
        unused_for=None if unused_days is None else timedelta(days=unused_days),
        max_bytes=None if max_gb is None else int(max_gb * 1e9),
        everything=everything,
    )
    console.note(f"{len(removed)} engines removed")
    console.result({"removed": [str(folder) for folder in removed]}, map(str, removed))


def describe(entry: CacheEntry) -> dict[str, Any]:
    """Return an engine's record as JSON values."""
    return {
        "folder": str(entry.folder),
        "component": entry.manifest.component,
        "target": entry.manifest.target,
        "bytes": entry.bytes,
        "created": entry.manifest.created,
        "last_used": datetime.fromtimestamp(entry.last_used, UTC).isoformat(timespec="seconds"),
        "build_seconds": entry.manifest.build_seconds,
        "fields": dict(entry.manifest.fields),
    }


def line(entry: CacheEntry) -> str:
    """Sum an engine up in one line."""
    used = datetime.fromtimestamp(entry.last_used, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
    manifest = entry.manifest
    return f"{manifest.key[:12]}  {manifest.target:<13} {manifest.component:<15} {size_text(entry.bytes):>9}  used {used}"
