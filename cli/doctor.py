"""`sd2rt doctor`: what is installed, what is missing and how to get it, and whether every target paints what it should."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from sd2rt.cli.config import root_of
from sd2rt.cli.console import Console, colours, console_options

if TYPE_CHECKING:
    from sd2rt.cli.doctor_checks import Check

SIGNS = {"ok": "green", "absent": None, "warning": "yellow", "failed": "red"}


@click.command()
@click.option("--no-paint", is_flag=True, help="Look only: paint nothing, build nothing.")
@click.option("--target", "targets", multiple=True, metavar="NAME", help="Paint on this target alone; may be repeated.")
@console_options
@click.pass_context
def doctor(context: click.Context, /, no_paint: bool, targets: tuple[str, ...]) -> None:
    """Examine this installation, paint a picture on every target that works, and say what is wrong and what to do.

    Exits with 1 when something that should work does not. Tokens and passwords are not shown, so that the report can be passed on.

    \b
    Examples:
      sd2rt doctor
      sd2rt doctor --no-paint
      sd2rt doctor --target cpu --json | jq '.checks[] | select(.state == "failed")'
    """
    console = context.ensure_object(Console)
    found: list[Check] = []
    for check in examine(context, console, targets, paint=not no_paint):
        found.append(check)
        if not console.as_json:
            click.echo(line(check, found[-2].topic if len(found) > 1 else ""))
    counted = Counter(check.state for check in found)
    failed = counted["failed"]
    console.note(f"{counted['ok']} ok, {counted['absent']} not installed or not here, {counted['warning']} warnings, {failed} failed")
    if console.as_json:
        console.result({"ok": not failed, "checks": [asdict(check) for check in found]}, ())
    context.exit(1 if failed else 0)


def examine(context: click.Context, console: Console, targets: tuple[str, ...], *, paint: bool) -> Iterator[Check]:
    """Yield all checks, those that paint last. Raises InvalidArgument for an unknown target."""
    from sd2rt.cli.doctor_checks import check_folders, check_machine, check_models, check_packages, check_settings, check_targets
    from sd2rt.cli.self_test import paint_and_check
    from sd2rt.engine.targets import choose_target

    for name in targets:
        choose_target(name, building=True)  # a name that is none is better told now
    yield from check_machine()
    yield from check_packages()
    probed = list(check_targets())
    yield from probed
    yield from check_folders()
    yield from check_models()
    yield from check_settings(root_of(context))
    working = [check.name for check in probed if check.state == "ok"]
    for target in (targets or working) if paint else ():
        console.note(f"painting on {target}")
        yield paint_and_check(target)


def line(check: Check, before: str) -> str:
    """Lay a check out for reading, its topic where it is another one than `before`."""
    state = f"{check.state:<8}"
    sign = click.style(state, fg=SIGNS[check.state]) if colours() else state
    topic = f"{check.topic}\n" if check.topic != before else ""
    remedy = f"\n{'':<27}-> {check.remedy}" if check.remedy else ""
    return f"{topic}  {sign} {check.name:<15} {check.detail}{remedy}"
