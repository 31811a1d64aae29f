"""`sd2rt batch`: what the rows of a file ask for, one after the other, going on where an earlier run ended."""

from __future__ import annotations

from typing import Any

import click

from sd2rt.cli.batch_ray import check_errand
from sd2rt.cli.batch_rows import Shared, check_rows
from sd2rt.cli.batch_run import ONE_PREVIEW, Batch
from sd2rt.cli.console import Console
from sd2rt.cli.file_options import kind_options
from sd2rt.cli.journal import open_journal
from sd2rt.cli.options import add_options
from sd2rt.cli.output import plan_output
from sd2rt.cli.paint import Errand, open_model
from sd2rt.cli.paint_options import paint_options
from sd2rt.cli.preview import Preview
from sd2rt.cli.ray_options import RAY_OPTIONS, ray_options, take_ray
from sd2rt.cli.row_files import READERS, read_rows
from sd2rt.cli.row_options import RowOptions
from sd2rt.cli.source_options import TASKS, source_options

OUT_DIR = click.option("-o", "--out-dir", "--out", "out", metavar="DIR", required=True, help="Folder for the pictures and batch.jsonl.")


@click.command()
@click.argument("file")
@click.option("--rows", "kind", type=click.Choice(list(READERS)), help="What FILE is.  [default: as its name says]")
@click.option("--keep-going", is_flag=True, help="Paint the other rows where one fails.")
@add_options(ray_options())
@source_options
@paint_options(*TASKS, model="toyworld", size="the model's, or the picture's", files=[OUT_DIR, *kind_options()])
def batch(console: Console, errand: Errand, /, file: str, kind: str | None, keep_going: bool, **asked: Any) -> None:
    """Paint what the rows of FILE ask for, with one model that is opened once; - is stdin.

    \b
    .txt    a prompt a line, or options: --prompt a red cube --seed 7; lines with # at their beginning are notes
    .csv    a header with the names of options, then their values; an empty cell says nothing
    .jsonl  an object a line with options by name

    Options are named as here (prompt, negative, steps, guidance, sampler, seed, count, image, mask, strength ...) and win over the command
    line's; `name` names a row's pictures. All rows are checked before the first is painted. The same command goes on after the last row
    that was finished, also after a crash; rows that were changed, added, or lost their pictures are painted. Exit code 1 where one failed.

    \b
    Examples:
      sd2rt batch prompts.txt --out-dir pictures/ --seed 7
      sd2rt batch rows.csv --out-dir pictures/ --model ./sd21 --steps 25 --keep-going
      sd2rt batch rows.jsonl --out-dir upscaled/ --model ./x4 --json
      printf 'a red cube\\na blue cone\\n' | sd2rt batch - --out-dir pictures/
    """
    from sd2rt.runtime.engine_plan import choose_bundle_target

    ray = take_ray(asked)
    rows = read_rows(file, kind)
    output = plan_output(errand.out, pictures=1, force=False, options=errand.file, option="--out-dir", folder=True)
    errand, bundle = open_model(console, errand)
    target = choose_bundle_target(bundle, errand.target)
    options = RowOptions(click.get_current_context().command, without=("file", "kind", "keep_going", *RAY_OPTIONS))
    shared = Shared(errand=errand, bundle=bundle, target=target, output=output, options=options, asked=asked)
    if ray is not None:
        check_errand(shared)
    with console.progress("row checked") as progress:
        tasks = check_rows(rows, shared, progress)
    Preview(errand.watch, bundle, output.folder / ONE_PREVIEW)  # what is wrong with it is better told now
    with open_journal(output.folder) as journal:
        Batch(console=console, shared=shared, journal=journal, rows=len(tasks), keep_going=keep_going, ray=ray).run(tasks)
