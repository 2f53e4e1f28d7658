"""The figures beside the plane: differences, costs, lengths, divergence, training, tuning."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.plain_text import csv_text
from harness.report.costs import seconds_of
from harness.report.figures import INK, Picture, arrow, marker, palette, save, style
from harness.report.tables import Block, Matrix, Measure, Metric
from harness.report.words import number
from harness.results import write
from harness.statistics import ALPHA, Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOT_COLUMNS = (
    "label", "decoding", "x_axis", "x", "y_axis", "value", "low", "high", "n", "n_seeds", "claim",
)  # fmt: skip


@dataclass(frozen=True)
class Dot:
    """One row of a figure: where it stands, and the estimate drawn with its interval."""

    label: str
    decoding: str
    x: float
    found: Estimate


@dataclass(frozen=True)
class Trail:
    """A line through estimates: rows of one dial in a row's colour, or a reference in ink."""

    name: str
    label: str | None
    points: Sequence[tuple[float, Estimate]]


@dataclass(frozen=True)
class Panel:
    """One pair of axes: its dots, what its axes are called, and whether x grows by factors."""

    dots: Sequence[Dot]
    x_name: str
    y_name: str
    logarithmic: bool = False
    trails: Sequence[Trail] = ()
    limit: Sequence[tuple[float, float]] = ()  # what no row can cross
    end: float = math.inf  # of x, where what lies beyond would hide the rest


class Painter:
    """Draws panels of one block with one colour and marker a row, and writes them."""

    def __init__(self, matrix: Matrix, block: Block, folder: Path) -> None:
        self.matrix, self.block, self.folder = matrix, block, folder
        self.colours = dict(zip(matrix.labels, palette(len(matrix.labels)), strict=True))

    def name(self, start: str) -> str:
        """Return a figure's name: a block's own where there are several."""
        several = len(self.matrix.blocks) > 1
        return f"{self.block.base}-{self.block.dataset}-{start}" if several else start

    def against(self, start: str, panels: Sequence[Panel], caption: str) -> Picture | None:
        """Write panels of dots against a common kind of x; None without any dot."""
        from matplotlib.figure import Figure as NewFigure

        panels = [panel for panel in panels if panel.dots]
        if not panels:
            return None
        with style():
            figure = NewFigure(figsize=(6.2, 3.3 * len(panels) + 1.1))
            for axes, panel in zip(
                figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True
            ):
                self.panel(axes, panel)
            self.legend(figure, [dot.label for panel in panels for dot in panel.dots])
            rows = [self.row(dot, panel) for panel in panels for dot in panel.dots]
            return self.finish(figure, start, caption, (DOT_COLUMNS, rows), said(panels))

    def panel(self, axes: Axes, panel: Panel) -> None:
        """Draw one panel: a dot and an interval a row, a line at no difference."""
        for dot in panel.dots:
            low, high = dot.found.value - dot.found.low, dot.found.high - dot.found.value
            if dot.x <= panel.end:
                axes.errorbar(dot.x, dot.found.value, yerr=[[low], [high]], **self.mark(dot))
        if panel.limit:
            axes.plot(*zip(*panel.limit, strict=True), color=INK, linewidth=1.4, linestyle=":")
        for trail in panel.trails:
            self.trail(axes, trail, panel.end)
        if panel.logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda x, place: f"{x:,g}")
            axes.xaxis.set_minor_formatter(lambda x, place: "")
        axes.axhline(0.5 if "win" in panel.y_name else 0, color=INK, linewidth=0.8, alpha=0.6)
        axes.set_xlabel(panel.x_name)
        axes.set_ylabel(panel.y_name)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)

    def trail(self, axes: Axes, trail: Trail, end: float) -> None:
        """Draw a line through SFT and its points: dashed with a band for a reference."""
        shown = [(x, found) for x, found in trail.points if x <= end]
        xs, ys = [0.0, *(x for x, _ in shown)], [0.0, *(found.value for _, found in shown)]
        if trail.label is not None:
            axes.plot(xs, ys, color=self.colours[trail.label], linewidth=1.1, alpha=0.7)
            return
        axes.plot(xs, ys, color=INK, linewidth=1.1, linestyle="--", label=trail.name)
        low = [0.0, *(found.low for _, found in shown)]
        high = [0.0, *(found.high for _, found in shown)]
        axes.fill_between(xs, low, high, color=INK, alpha=0.08, linewidth=0)

    def mark(self, dot: Dot) -> dict[str, Any]:
        """Return how a row is drawn with its interval."""
        return {**self.look(dot), "elinewidth": 1.1, "capsize": 2}

    def look(self, dot: Dot) -> dict[str, Any]:
        """Return how a row is drawn: filled under the first decoding, hollow under the others."""
        filled = dot.decoding == next(iter(self.matrix.decodings), dot.decoding)
        return {
            "color": self.colours[dot.label],
            "marker": marker(self.matrix.labels.index(dot.label)),
            "markersize": 6.5,
            "markerfacecolor": self.colours[dot.label] if filled else "none",
            "linestyle": "none",
        }

    def legend(self, figure: Figure, labels: Sequence[str]) -> None:
        """Name the rows below the panels."""
        from matplotlib.lines import Line2D

        handles = [
            Line2D(
                [], [], color=self.colours[x], marker=marker(self.matrix.labels.index(x)),
                linestyle="none", label=x,
            )
            for x in self.matrix.labels
            if x in labels
        ]  # fmt: skip
        inches = 0.22 * -(-len(handles) // 4) + 0.1
        figure.tight_layout(rect=(0, inches / float(figure.get_figheight()), 1, 1))
        figure.legend(handles=handles, loc="lower center", ncols=4, frameon=False)

    def row(self, dot: Dot, panel: Panel) -> tuple[object, ...]:
        """Return a dot's data."""
        e = dot.found
        key = (dot.label, dot.decoding, panel.x_name, dot.x, panel.y_name)
        return (*key, e.value, e.low, e.high, e.n, e.seeds, e.claim)

    def finish(
        self,
        figure: Figure,
        start: str,
        caption: str,
        data: tuple[Sequence[str], Sequence[Sequence[object]]],
        alt: str,
    ) -> Picture:
        """Write SVG, PNG and CSV of a figure."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name = self.name(start)
        svg = save(figure, self.folder, name)
        write(self.folder / f"{name}.csv", csv_text(*data))
        return Picture(svg, f"{caption} {alt}", caption, name)


def said(panels: Sequence[Panel]) -> str:
    """Return a figure's numbers in words."""
    return " ".join(
        f"{panel.y_name}: "
        + "; ".join(
            f"{dot.label} at {number(dot.x)}: {number(dot.found.value)} "
            f"({number(dot.found.low)} to {number(dot.found.high)})"
            for dot in panel.dots
        )
        + "."
        for panel in panels
    )


def draw_plots(matrix: Matrix, block: Block, folder: Path) -> Iterator[Picture]:
    """Yield the figures of dots that a block has data for; each is written into `folder`."""
    painter = Painter(matrix, block, folder)
    for picture in (forest(painter), costs(painter)):
        if picture is not None:
            yield picture


def tested(painter: Painter) -> Iterator[tuple[Metric, Measure]]:
    """Yield the primary metrics under every decoding."""
    for metric in painter.matrix.co_primary():
        for measure in painter.matrix.measures(painter.block, metric):
            yield metric, measure


def gains(painter: Painter, x_of: Callable[[str, str], float | None]) -> Iterator[tuple[str, Dot]]:
    """Yield a metric's name and the difference to SFT of every row whose x is known."""
    for metric, measure in tested(painter):
        for label in painter.matrix.labels:
            entry = painter.matrix.entries[painter.block, label, measure]
            x = x_of(label, measure.decoding)
            if entry.difference is not None and x is not None:
                name = f"{metric.name} minus {painter.matrix.reference}{arrow(metric, '↑')}"
                yield name, Dot(label, measure.decoding, x, entry.difference)


def panels_of(found: Iterator[tuple[str, Dot]], x_name: str, *, by_factors: bool) -> list[Panel]:
    """Return a panel for each metric."""
    dots: dict[str, list[Dot]] = {}
    for name, dot in found:
        dots.setdefault(name, []).append(dot)
    return [Panel(mine, x_name, name, by_factors) for name, mine in dots.items()]


def costs(painter: Painter) -> Picture | None:
    """Return P2: what each row gained over SFT against what it costs alone."""

    def seconds(label: str, decoding: str) -> float | None:
        return seconds_of(painter.matrix, painter.block, label) or None

    panels = panels_of(gains(painter, seconds), "seconds of the method alone", by_factors=True)
    caption = "Gain over SFT against cost, shared stages counted in full; bars are 95 % intervals."
    return painter.against("gain_by_cost", panels, caption)


def mean_of(matrix: Matrix, block: Block, label: str, name: str, decoding: str) -> float | None:
    """Return a row's mean of the first metric of a name, None where it is not measured."""
    for metric in matrix.metrics.values():
        if metric.name == name:
            for measure in matrix.measures(block, metric):
                value = matrix.entries[block, label, measure].value
                if measure.decoding == decoding and value is not None:
                    return value.value
    return None


def forest(painter: Painter) -> Picture | None:
    """Return P5: paired differences to SFT, each alone and as all of a decoding hold at once."""
    from matplotlib.figure import Figure as NewFigure

    matrix = painter.matrix
    alone = panels_of(gains(painter, lambda label, decoding: 0.0), "", by_factors=False)
    panels = [Panel([simultaneous(d, alone) for d in p.dots], "", p.y_name) for p in alone]
    if not panels:
        return None
    labels = [x for x in matrix.labels if any(d.label == x for p in panels for d in p.dots)]
    decodings = list(dict.fromkeys(d.decoding for p in panels for d in p.dots))
    with style():
        figure = NewFigure(figsize=(2.4 * len(panels) + 1.4, 0.42 * len(labels) + 1.5))
        columns = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axes, own, panel in zip(columns, alone, panels, strict=True):
            for single, dot in zip(own.dots, panel.dots, strict=True):
                shift = (decodings.index(dot.decoding) - (len(decodings) - 1) / 2) * 0.3
                height, colour = labels.index(dot.label) + shift, painter.colours[dot.label]
                axes.hlines(height, dot.found.low, dot.found.high, color=colour, linewidth=0.8)
                axes.hlines(height, single.found.low, single.found.high, color=colour, linewidth=3)
                axes.plot(dot.found.value, height, **painter.look(dot))
            axes.axvline(0, color=INK, linewidth=0.8, alpha=0.6)
            axes.set_xlim(-frame(own), frame(own))
            axes.set_xlabel(panel.y_name.replace("  (", "\n(").replace("↑", "→"))
            axes.grid(axis="x", alpha=0.25, linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
        columns[0].set_yticks(range(len(labels)), labels)
        columns[0].invert_yaxis()
        figure.tight_layout()
        hollow = f" Hollow: {', '.join(decodings[1:])}." if decodings[1:] else ""
        caption = (
            "Paired differences to SFT. Thick: the 95 % interval of a row alone. Thin: intervals "
            "that hold for all rows and metrics of a decoding at once (Bonferroni); those that "
            f"leave the frame go on: see the data. Filled: {decodings[0]}.{hollow}"
        )
        rows = [painter.row(dot, panel) for panel in panels for dot in panel.dots]
        return painter.finish(figure, "differences", caption, (DOT_COLUMNS, rows), said(panels))


def frame(panel: Panel) -> float:
    """Return how far from 0 a panel is drawn: a little beyond the farthest end of a row's own.

    Intervals that hold for many rows at once may be so wide that nothing else could be seen.
    """
    ends = [abs(end) for dot in panel.dots for end in (dot.found.low, dot.found.high)]
    values = [abs(dot.found.value) for dot in panel.dots]
    return 1.1 * max((x for x in (*ends, *values) if math.isfinite(x)), default=0.0) or 1.0


def simultaneous(dot: Dot, panels: Sequence[Panel]) -> Dot:
    """Return a dot whose interval holds for all dots of its decoding at once."""
    family = sum(d.decoding == dot.decoding for panel in panels for d in panel.dots)
    low, high = dot.found.interval(1 - ALPHA / family)
    return replace(dot, found=replace(dot.found, low=low, high=high))
