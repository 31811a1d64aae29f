"""`python -m benchmarks`: run the benchmarks, write their results, and make the README's tables from them."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks import cold_start, gpu_report, samplers, unet_step
from benchmarks.machine import ROOT
from benchmarks.measure import ContenderFailed
from benchmarks.records import RESULTS, fill_markers, read_record, write_record

REPORTS = {"cold_start": cold_start.report, "unet_step": unet_step.report, "samplers": samplers.report, "gpu": gpu_report.report}
README = ROOT / "README.md"

bundle_option = click.option("--bundle", type=click.Path(path_type=Path), default=ROOT / "toyworld" / "bundle", help="A toyworld bundle.")
results_option = click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Where result files go.")


@click.group(invoke_without_command=True)
@click.pass_context
def benchmarks(context: click.Context) -> None:
    """Measure; without a command: everything, and the README's tables. The full-size step takes about 20 minutes and 20 GB of disk."""
    if context.invoked_subcommand is None:
        for command in (run_cold_start, run_samplers, run_unet_step, report):
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


@benchmarks.command("samplers")
@bundle_option
@results_option
@click.option("--captions", default=40, show_default=True)
def run_samplers(bundle: Path, results: Path, captions: int) -> None:
    """Judge and time every sampler at several numbers of steps on toyworld."""
    click.echo(write_record(results, "samplers", samplers.measure(bundle, captions=captions)))


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


@benchmarks.command()
@results_option
@click.option("--readme", type=click.Path(path_type=Path), default=README, help="The file whose markers are filled.")
def report(results: Path, readme: Path) -> None:
    """Make the README's tables from the result files."""
    records = {name: record for name in REPORTS if (record := read_record(results, name))}
    readme.write_text(fill_markers(readme.read_text(), REPORTS, records))


if __name__ == "__main__":
    benchmarks(prog_name="python -m benchmarks")
