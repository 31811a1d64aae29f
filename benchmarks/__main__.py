"""`python -m benchmarks`: run the benchmarks, write their results, and make the README's tables from them."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks import cold_start, cpu_settings, evaluations, gpu_report, samplers, samplers_plot, serving, unet_step
from benchmarks.machine import ROOT
from benchmarks.measure import ContenderFailed
from benchmarks.peers import plots, runner
from benchmarks.records import RESULTS, Record, fill_markers, read_record, write_record

REPORTS = {"cold_start": cold_start.report, "unet_step": unet_step.report, "samplers": samplers.report, "gpu": gpu_report.report}
REPORTS |= {"serving": serving.report, "evaluations": evaluations.report, "cpu_settings": cpu_settings.report, **runner.REPORTS}
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", DOCS / "benchmarks.md")  # each benchmark's markers are in one of them

bundle_option = click.option("--bundle", type=click.Path(path_type=Path), default=ROOT / "toyworld" / "bundle", help="A toyworld bundle.")
results_option = click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Where result files go.")


@click.group(invoke_without_command=True)
@click.pass_context
def benchmarks(context: click.Context) -> None:
    """Measure; without a command: cold-start, samplers, evaluations and unet-step, and the README's tables.

    unet-step takes about 20 minutes and 20 GB of disk. cpu-settings, serving, gpu and peers run by their own commands alone.
    """
    if context.invoked_subcommand is None:
        for command in (run_cold_start, run_samplers, run_evaluations, run_unet_step, report):
            context.invoke(command)


@benchmarks.command("cold-start")
@bundle_option
@results_option
@click.option("--rounds", default=7, show_default=True)
@click.option("--captions", default=100, show_default=True)
def run_cold_start(bundle: Path, results: Path, rounds: int, captions: int) -> None:
    """Time from the shell to a PNG on toyworld, against diffusers."""
    click.echo(write_record(results, "cold_start", cold_start.measure(bundle, rounds=rounds, captions=captions)))


@benchmarks.command("unet-step")
@click.option("--work", type=click.Path(path_type=Path), default=ROOT / "out" / "benchmarks", help="Where exports go and are found again.")
@results_option
@click.option("--rounds", default=3, show_default=True)
@click.option("--steps", default=2, show_default=True)
def run_unet_step(work: Path, results: Path, rounds: int, steps: int) -> None:
    """Time a guided step of the full-size UNet, against torch and plain ONNX Runtime."""
    click.echo(write_record(results, "unet_step", unet_step.measure(work, rounds=rounds, steps=steps)))


@benchmarks.command("cpu-settings")
@click.option("--bundle", type=click.Path(path_type=Path), required=True, help="A bundle of a full-size model.")
@click.option("--work", type=click.Path(path_type=Path), default=ROOT / "out" / "cpu-settings", help="Where engines go; 16 GB.")
@results_option
@click.option("--rounds", default=2, show_default=True)
@click.option("--steps", default=2, show_default=True)
def run_cpu_settings(bundle: Path, work: Path, results: Path, rounds: int, steps: int) -> None:
    """Time what was tried for target cpu: forms of layers, and engines and settings for the UNet. About 15 minutes."""
    measured = cpu_settings.measure(bundle.resolve(), work.resolve(), rounds=rounds, steps=steps)
    click.echo(write_record(results, "cpu_settings", measured))


@benchmarks.command("samplers")
@bundle_option
@results_option
@click.option("--captions", default=40, show_default=True)
def run_samplers(bundle: Path, results: Path, captions: int) -> None:
    """Judge and time every sampler at several numbers of steps on toyworld."""
    click.echo(write_record(results, "samplers", samplers.measure(bundle, captions=captions)))


@benchmarks.command("evaluations")
@bundle_option
@results_option
@click.option("--captions", default=200, show_default=True)
def run_evaluations(bundle: Path, results: Path, captions: int) -> None:
    """Judge and time what leaves out rows of the UNet, on toyworld."""
    click.echo(write_record(results, "evaluations", evaluations.measure(bundle, captions=captions)))


@benchmarks.command("serving")
@results_option
@click.option("--part", "parts", type=click.Choice(list(serving.PARTS)), multiple=True, help="Measure these alone.  [default: all]")
def run_serving(results: Path, parts: tuple[str, ...]) -> None:
    """Measure `sd2rt serve` over HTTP: throughput, what the server adds, refusals, endurance. About 6 minutes."""
    for part in parts or tuple(serving.PARTS):
        click.echo(write_record(results, serving.NAME, serving.measure(results, [part])))


@benchmarks.command("gpu")
@click.option("--work", type=click.Path(path_type=Path), default=ROOT / "out" / "benchmarks", help="Where exports go and are found again.")
@results_option
@click.option("--side", "sides", type=int, multiple=True, default=(512, 768), show_default=True, help="Pixels of a picture's side.")
@click.option("--batch", "batches", type=int, multiple=True, default=(1, 4), show_default=True, help="Pictures at a time.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--steps", default=20, show_default=True, help="Sampling steps of a picture.")
def run_gpu(work: Path, results: Path, sides: tuple[int, ...], batches: tuple[int, ...], rounds: int, steps: int) -> None:
    """Time the full-size model on this machine's GPU: torch, torch.compile, ONNX Runtime CUDA, TensorRT. About an hour."""
    from benchmarks import gpu  # it imports numpy, and whoever measures memory must stay small

    settings = gpu.settings(sides, batches, steps=steps, blocks=5, calls=20, pictures=5)
    try:
        click.echo(write_record(results, "gpu", gpu.measure(work, settings, rounds=rounds)))
    except ContenderFailed as error:
        raise click.ClickException(str(error)) from None


@benchmarks.command("peers")
@bundle_option
@click.option("--work", type=click.Path(path_type=Path), default=ROOT / "out" / "peers", help="Where models and pictures go; up to 25 GB.")
@results_option
@click.option("--scenario", "scenarios", type=click.Choice(list(runner.SCENARIOS)), multiple=True, help="Measure these, even again.")
@click.option("--only", "wanted", multiple=True, metavar="NAME", help="Take the contenders with this in their names, and the reference.")
@click.option("--rounds", type=click.IntRange(min=1), help="Alternating rounds.  [default: the scenario's]")
def run_peers(bundle: Path, work: Path, results: Path, scenarios: tuple[str, ...], wanted: tuple[str, ...], rounds: int | None) -> None:
    """Install the peers in venvs of their own and measure all of them; what this commit has a record of is not measured again.

    \b
    Estimated, not measured: 35 minutes on two quiet cores, and the first time 8 to install and 15 to make the models.
    """
    request = runner.Request(bundle=bundle.resolve(), work=work.resolve(), results=results, rounds=rounds, wanted=wanted)
    try:
        for line in runner.run(scenarios, request):
            click.echo(line)
    except (ContenderFailed, ValueError) as error:
        raise click.ClickException(str(error)) from None


@benchmarks.command()
@results_option
@click.option("--page", "pages", type=click.Path(path_type=Path), multiple=True, default=PAGES, help="The files whose markers are filled.")
@click.option("--plots", "folder", type=click.Path(path_type=Path), default=DOCS, help="Where plots go.")
def report(results: Path, pages: tuple[Path, ...], folder: Path) -> None:
    """Make the tables of the README and docs/benchmarks.md, and the plots, from the result files."""
    records = read_records(results)
    for page in pages:
        try:
            page.write_text(fill_markers(page.read_text(), REPORTS, records, runner.COMMANDS))
        except ValueError as error:
            raise click.ClickException(f"{page.name}: {error}") from None
    if samplers_record := records.get("samplers"):
        click.echo(samplers_plot.draw(samplers_record, folder / "samplers.svg"))
    if growth := records.get(runner.record_name("growth")):
        for path in plots.draw(growth, folder):
            click.echo(path)


def read_records(results: Path) -> dict[str, Record]:
    """Read what has been measured."""
    return {name: record for name in REPORTS if (record := read_record(results, name))}


if __name__ == "__main__":
    benchmarks(prog_name="python -m benchmarks")
