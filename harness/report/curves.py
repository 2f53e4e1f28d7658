"""Figures of points on curves: what moves along one dial, with intervals and fitted lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.plain_text import csv_text
from harness.report.figures import INK, MARKERS, Picture, palette, save, style
from harness.report.tables import Matrix
from harness.report.words import number
from harness.results import write
from harness.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = ("curve", "x_axis", "x", "y_axis", "value", "low", "high", "n", "n_seeds", "claim")


@dataclass(frozen=True)
class Curve:
    """Points of one thing along one dial, and the line through them: `fitted`, else straight.

    `label` is the row whose colour it has.
    """

    name: str
    label: str
    points: Sequence[tuple[float, Estimate]]
    fitted: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Panel:
    """One pair of axes with its curves."""

    x_name: str
    y_name: str
    curves: Sequence[Curve]
    logarithmic: bool = False


def draw_curves(
    matrix: Matrix, folder: Path, name: str, panels: Sequence[Panel], caption: str
) -> Picture | None:
    """Write panels of curves as SVG, PNG and CSV; None without any point."""
    from matplotlib.figure import Figure

    panels = [panel for panel in panels if any(curve.points for curve in panel.curves)]
    if not panels:
        return None
    colours = dict(zip(matrix.labels, palette(len(matrix.labels)), strict=True))
    names = list(dict.fromkeys(curve.name for panel in panels for curve in panel.curves))
    folder.mkdir(parents=True, exist_ok=True)
    with style():
        figure = Figure(figsize=(6.2, 3.1 * len(panels) + 0.3 * len(names) + 0.5))
        rows: Any = figure.subplots(len(panels), squeeze=False)[:, 0]
        for axes, panel in zip(rows, panels, strict=True):
            for curve in panel.curves:
                draw(axes, curve, colours[curve.label], MARKERS[names.index(curve.name) % 10])
            dress(axes, panel)
        handles = {
            text: handle
            for axes in rows
            for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        share = 0.3 * len(names) / float(figure.get_figheight())
        figure.tight_layout(rect=(0, share, 1, 1))
        figure.legend(handles.values(), handles, loc="lower center", frameon=False)
        svg = save(figure, folder, name)
    write(folder / f"{name}.csv", csv_text(COLUMNS, rows_of(panels)))
    return Picture(svg, f"{caption} {said(panels)}", caption, name)


def draw(axes: Axes, curve: Curve, colour: Any, marker: str) -> None:
    """Draw a curve's points with their intervals, and its line."""
    if not curve.points:
        return
    xs = [x for x, _ in curve.points]
    ys = [found.value for _, found in curve.points]
    bars = [
        [found.value - found.low for _, found in curve.points],
        [found.high - found.value for _, found in curve.points],
    ]
    axes.errorbar(
        xs, ys, yerr=bars, color=colour, marker=marker, markersize=6, linestyle="none",
        elinewidth=1.1, capsize=2, label=curve.name,
    )  # fmt: skip
    line = list(curve.fitted) or list(zip(xs, ys, strict=True))
    axes.plot(*zip(*line, strict=True), color=colour, linewidth=1.3)


def dress(axes: Axes, panel: Panel) -> None:
    """Name the axes and draw the line of no gain."""
    axes.axhline(0, color=INK, linewidth=0.8, alpha=0.6)
    if panel.logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda x, place: f"{x:,g}")
        axes.xaxis.set_minor_formatter(lambda x, place: "")
    axes.set_xlabel(panel.x_name)
    axes.set_ylabel(panel.y_name)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def rows_of(panels: Sequence[Panel]) -> list[tuple[object, ...]]:
    """Return a figure's data."""
    return [
        (curve.name, panel.x_name, x, panel.y_name, e.value, e.low, e.high, e.n, e.seeds, e.claim)
        for panel in panels
        for curve in panel.curves
        for x, e in curve.points
    ]


def said(panels: Sequence[Panel]) -> str:
    """Return a figure's numbers in words."""
    return " ".join(
        f"{panel.y_name} by {panel.x_name}: "
        + "; ".join(
            f"{curve.name} "
            + ", ".join(f"{number(found.value)} at {x:,.3g}" for x, found in curve.points)
            for curve in panel.curves
        )
        + "."
        for panel in panels
    )
