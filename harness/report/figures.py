"""What all figures share, and the first of a report: the plane, or dots where one axis is there."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.plain_text import csv_text
from harness.report.tables import Block, Matrix, Metric
from harness.report.words import number
from harness.results import replacing, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*", "<", ">")
COLOUR_BLIND_SAFE = (  # seaborn's palette of that purpose, whose import takes a second
    "#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc",
    "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9",
)  # fmt: skip
INK = "#010203"  # stands for the reader's text colour until the SVG is written
POINT_COLUMNS = (
    "label", "decoding", "metric", "value", "low", "high", "n", "n_seeds", "claim",
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One row under one decoding: value, low and high on each metric drawn."""

    label: str
    decoding: str
    spans: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Picture:
    """A figure as the page embeds it: SVG without scripts, text for those who cannot see it."""

    svg: str
    alt: str
    caption: str
    name: str


def draw_all(matrix: Matrix, block: Block, folder: Path) -> list[Picture]:
    """Write all figures of a block that its data are there for."""
    from harness.report.frontier import frontier
    from harness.report.lines import draw_lines
    from harness.report.plots import draw_plots

    first = draw(matrix, block, folder)
    rest = [*draw_plots(matrix, block, folder), *draw_lines(matrix, block, folder)]
    return [picture for picture in (first, frontier(matrix, block, folder), *rest) if picture]


def draw(matrix: Matrix, block: Block, folder: Path) -> Picture | None:
    """Write a block's figure as SVG, PNG and CSV into `folder`; None without any point."""
    from harness.report.plane import draw_plane

    metrics = axes_of(matrix, block)
    several = f"{block.base}-{block.dataset}-" if len(matrix.blocks) > 1 else ""
    if len(metrics) == 2:
        return draw_plane(matrix, block, folder, f"{several}helpfulness_safety")
    points = points_of(matrix, block, metrics)
    if not points:
        return None
    name = f"{several}{metrics[0].name}"
    folder.mkdir(parents=True, exist_ok=True)
    colours = dict(zip(matrix.labels, palette(len(matrix.labels)), strict=True))
    with style():
        svg = save(plot(points, metrics, matrix, colours), folder, name)
    write(folder / f"{name}.csv", csv_text(POINT_COLUMNS, point_rows(matrix, block, metrics)))
    return Picture(svg, alt_text(points, metrics), caption(metrics, points), name)


def axes_of(matrix: Matrix, block: Block) -> list[Metric]:
    """Return the metrics to draw: helpfulness and safety, or the one of them that is measured."""
    first: dict[str, Metric] = {}
    for metric in matrix.co_primary():
        if matrix.measures(block, metric):
            first.setdefault(metric.axis, metric)
    return [first[axis] for axis in ("helpfulness", "safety") if axis in first]


def points_of(matrix: Matrix, block: Block, metrics: Sequence[Metric]) -> list[Point]:
    """Return the rows that have a value on every metric drawn, by label and decoding."""
    points = []
    for label in matrix.labels:
        for decoding in matrix.decodings:
            spans = []
            for metric in metrics:
                for measure in matrix.measures(block, metric):
                    found = matrix.entries[block, label, measure].value
                    if measure.decoding == decoding and found is not None:
                        spans.append((found.value, found.low, found.high))
            if metrics and len(spans) == len(metrics):
                points.append(Point(label, decoding, tuple(spans)))
    return points


def point_rows(matrix: Matrix, block: Block, metrics: Sequence[Metric]) -> list[tuple[object, ...]]:
    """Return the figure's data: value, interval and sizes of everything drawn."""
    rows: list[tuple[object, ...]] = []
    for label in matrix.labels:
        for metric in metrics:
            for measure in matrix.measures(block, metric):
                e = matrix.entries[block, label, measure].value
                if e is not None:
                    key = (label, measure.decoding, metric.name)
                    rows.append((*key, e.value, e.low, e.high, e.n, e.seeds, e.claim))
    return rows


def palette(n: int) -> list[Any]:
    """Return n colours, one a row; the first ten are safe for colour-blind readers.

    From the eleventh on they come again, darker; markers differ too.
    """
    from matplotlib.colors import to_rgb

    safe = [to_rgb(colour) for colour in COLOUR_BLIND_SAFE]
    return [tuple(part * 0.75 ** (i // 10) for part in safe[i % 10]) for i in range(n)]


def style() -> AbstractContextManager[None]:
    """Return matplotlib's settings for our figures: real text, equal bytes for equal numbers."""
    import matplotlib as mpl

    inked = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    settings: dict[Any, Any] = {
        "text.parse_math": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "alignment-matrix",
        "font.family": "sans-serif",
        "font.size": 10,
        **dict.fromkeys(inked, INK),
    }
    return mpl.rc_context(settings)


def plot(
    points: Sequence[Point], metrics: Sequence[Metric], matrix: Matrix, colours: dict[str, Any]
) -> Figure:
    """Draw every point with its intervals: filled for the first decoding, hollow for the others."""
    from matplotlib.figure import Figure as NewFigure

    figure = NewFigure(figsize=(5.2, 0.45 * len(points) + 1.2))
    axes = figure.subplots()
    dots(axes, points, metrics[0], matrix, colours)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def dots(
    axes: Axes, points: Sequence[Point], metric: Metric, matrix: Matrix, colours: dict[str, Any]
) -> None:
    """Draw one metric as a dot and an interval for each row and decoding."""
    for height, point in enumerate(points):
        value, low, high = point.spans[0]
        axes.errorbar(
            value,
            height,
            xerr=[[value - low], [high - value]],
            **mark(point.label, point.decoding, matrix, colours),
        )
    axes.set_yticks(range(len(points)), [f"{p.label}, {p.decoding}" for p in points])
    axes.invert_yaxis()
    axes.set_xlabel(f"{metric.name}{arrow(metric, '→')}")
    axes.grid(axis="x", alpha=0.25, linewidth=0.6)


def mark(label: str, decoding: str, matrix: Matrix, colours: dict[str, Any]) -> dict[str, Any]:
    """Return colour and marker of one row: the same everywhere, hollow from the second decoding."""
    filled = decoding == matrix.decodings[0]
    return {
        "color": colours[label],
        "marker": marker(matrix.labels.index(label)),
        "markersize": 7,
        "markerfacecolor": colours[label] if filled else "none",
        "markeredgewidth": 1.5,
        "linestyle": "none",
        "elinewidth": 1.2,
        "capsize": 2,
    }


def marker(place: int) -> str:
    """Return the marker of the row in a place: colour and marker together are its own."""
    return MARKERS[(place + place // len(MARKERS)) % len(MARKERS)]


def arrow(metric: Metric, towards: str) -> str:
    """Return which way is better, for an axis label."""
    return f"  (higher is better {towards})" if metric.higher_is_better else "  (lower is better)"


def save(figure: Figure, folder: Path, name: str) -> str:
    """Write a figure as PNG and SVG, equal bytes for equal numbers; return the SVG to embed.

    In the embedded one, text and axes take the colour of the page, light or dark.
    """
    with replacing(folder / f"{name}.png") as temporary:
        figure.savefig(
            temporary, format="png", dpi=160, metadata={"Software": None}, facecolor="white"
        )
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = re.sub(r"^.*?(?=<svg )", "", text.getvalue(), flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    whole = f'<?xml version="1.0" encoding="utf-8"?>\n{svg.replace(INK, "#222222")}'
    write(folder / f"{name}.svg", whole)
    return svg.replace(INK, "currentColor")


def alt_text(points: Sequence[Point], metrics: Sequence[Metric]) -> str:
    """Return the figure's numbers in words."""
    said = []
    for point in points:
        values = ", ".join(
            f"{metric.name} {number(value)} ({number(low)} to {number(high)})"
            for metric, (value, low, high) in zip(metrics, point.spans, strict=True)
        )
        said.append(f"{point.label} at {point.decoding}: {values}")
    names = " against ".join(metric.name for metric in metrics)
    return f"{names}, with 95 % intervals. {'; '.join(said)}."


def caption(metrics: Sequence[Metric], points: Sequence[Point]) -> str:
    """Return what the figure shows and how to read it."""
    decodings = list(dict.fromkeys(point.decoding for point in points))
    names = " against ".join(metric.name for metric in metrics)
    filled = f"Filled: {decodings[0]}."
    hollow = f" Hollow: {', '.join(decodings[1:])}." if decodings[1:] else ""
    return f"{names}; bars are 95 % intervals. {filled}{hollow}"
