"""How time grows with size, batch and steps: SVG plots of the scenario `growth`. Needs matplotlib (extra `bench`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.peers.report import KINDS
from benchmarks.records import Record

COLOURS = {"sd2rt": "#0b6e4f", "diffusers": "#b5442e", "optimum-onnx": "#7d5ba6", "optimum-intel": "#2f6690", "openvino-genai": "#c98a1b"}
LINES = ("-", "--", ":", "-.")


def points(record: Record, kind: str) -> dict[str, list[tuple[int, float, float, float]]]:
    """Return per contender (x, median, least and most milliseconds per picture) of one kind; `size` and `steps` are of single pictures.

    Raises ValueError where a point was not judged.
    """
    found: dict[str, list[tuple[int, float, float, float]]] = {}
    for name, contender in record["contenders"].items():
        for part, seconds in contender.get("parts", {}).items():
            label, number = part.split()
            if label != kind:
                continue
            if part not in contender.get("accuracy", {}):
                raise ValueError(f"{name}, {part}: measured, but not judged; a speed is not published without its accuracy")
            scale = 1000 / record["parameters"]["parts"][part]["batch"]
            found.setdefault(name, []).append((int(number), *(scale * seconds["call_s"][key] for key in ("median", "min", "max"))))
    return found


def draw(record: Record, folder: Path) -> list[Path]:
    """Write `growth-<kind>.svg` for each kind, and return the paths."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams.update({"svg.hashsalt": "sd2rt", "font.size": 9, "svg.fonttype": "none"})
    folder.mkdir(parents=True, exist_ok=True)
    return [draw_kind(record, kind, folder / f"growth-{kind}.svg") for kind in KINDS]


def draw_kind(record: Record, kind: str, path: Path) -> Path:
    """Draw one plot, both axes logarithmic, each contender's name at its last point's height."""
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, StrMethodFormatter

    figure, axes = pyplot.subplots(figsize=(7.2, 4.0), layout="constrained")
    drawn = points(record, kind)
    for name, line in drawn.items():
        x, median, least, most = zip(*line, strict=True)
        style: dict[str, Any] = {"color": colour(name), "linestyle": LINES[position(name, list(drawn)) % len(LINES)]}
        axes.plot(x, median, marker="o", markersize=3, linewidth=1.6, label=name, **style)
        axes.fill_between(x, least, most, color=style["color"], alpha=0.12, linewidth=0)
    axes.set(xscale="log", yscale="log", xlabel=KINDS[kind], ylabel="milliseconds per picture")
    ticks = sorted({point[0] for line in drawn.values() for point in line})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="both", axis="y", alpha=0.2, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    handles, names = axes.get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda k: -drawn[names[k]][-1][1])
    figure.legend([handles[k] for k in order], [names[k] for k in order], loc="outside right upper", frameon=False, handlelength=2.8)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path


def colour(name: str) -> str:
    """One colour per library."""
    return COLOURS.get(name.split(",")[0], "#555555")


def position(name: str, names: list[str]) -> int:
    """How many of the same library come before: their lines differ in their dashes."""
    return [other for other in names if other.split(",")[0] == name.split(",")[0]].index(name)
