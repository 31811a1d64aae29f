"""What the samplers benchmark found, as an SVG plot: a small chart of each sampler before the others. Needs matplotlib (extra `bench`)."""

from __future__ import annotations

from pathlib import Path

from benchmarks.records import Record

COLOUR, OTHERS = "#0b6e4f", "#d5d5d5"
COLUMNS = 4


def curves(record: Record) -> dict[str, list[tuple[int, float]]]:
    """Return (steps, per cent of the pictures right in every part) of every sampler, in the order of the record."""
    found: dict[str, list[tuple[int, float]]] = {}
    for result in record["results"]:
        found.setdefault(result["sampler"], []).append((result["steps"], 100 * result["prompt_accuracy"]))
    return found


def draw(record: Record, path: Path) -> Path:
    """Write the plot; the file's description names the record's commit."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams.update({"svg.hashsalt": "sd2rt", "font.size": 9, "svg.fonttype": "none"})
    from matplotlib import pyplot

    found = curves(record)
    rows = -(-len(found) // COLUMNS)
    figure, charts = pyplot.subplots(rows, COLUMNS, figsize=(7.6, 1.6 * rows), sharex=True, sharey=True, layout="constrained")
    for chart in charts.flat[len(found) :]:
        chart.set_visible(False)
    for chart, (name, line) in zip(charts.flat, found.items(), strict=False):
        for other in found.values():
            chart.plot(*zip(*other, strict=True), color=OTHERS, linewidth=0.8)
        chart.plot(*zip(*line, strict=True), color=COLOUR, linewidth=2, marker="o", markersize=4)
        chart.set_title(name, fontsize=9, loc="left")
        chart.set(ylim=(-4, 104), xticks=[steps for steps, _ in line], yticks=(0, 50, 100))
        chart.grid(True, axis="y", alpha=0.3, linewidth=0.5)
        chart.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("steps", fontsize=9)
    figure.supylabel("per cent of the pictures right in every part", fontsize=9)
    figure.savefig(path, metadata={"Date": None, "Description": f"benchmarks/results/samplers.json of commit {record['commit'][:10]}"})
    pyplot.close(figure)
    return path
