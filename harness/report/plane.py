"""P3: helpfulness against safety, each row's differences to SFT with their joint 95 % ellipse."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.joint import Region, frontier_shares, region
from harness.plain_text import csv_text
from harness.report.climb import Climb, climbs
from harness.report.figures import (
    INK,
    Picture,
    arrow,
    axes_of,
    marker,
    palette,
    save,
    style,
)
from harness.report.grid import Cell, Table, table
from harness.report.tables import Block, Matrix, Measure, Metric
from harness.report.words import number
from harness.results import write
from harness.statistics import Key, as_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SEED = 0  # of the draws, so that equal results make equal bytes
COLUMNS = (
    "label", "decoding", "x_axis", "x", "x_low", "x_high", "y_axis", "y", "y_low", "y_high",
    "correlation", "shape_xx", "shape_xy", "shape_yy", "n_x", "n_y", "n_seeds", "claim",
)  # fmt: skip


@dataclass(frozen=True)
class Spot:
    """One row under one decoding: where it stands on both metrics, and how surely."""

    label: str
    decoding: str
    region: Region


def draw_plane(matrix: Matrix, block: Block, folder: Path, name: str) -> Picture | None:
    """Write the plane as SVG, PNG and CSV, a panel a decoding; None without any row on both."""
    from matplotlib.figure import Figure

    metrics = axes_of(matrix, block)
    spots = spots_of(matrix, block, metrics)
    decodings = list(dict.fromkeys(spot.decoding for spot in spots))
    if not spots:
        return None
    idle = matrix.untrained(block)
    known = climbs(matrix, block, decodings[0])  # divergence is known at T = 1 alone
    colours = dict(zip(matrix.labels, palette(len(matrix.labels)), strict=True))
    shown = [x for x in matrix.labels if any(spot.label == x for spot in spots)]
    lines = 0.22 * (-(-len(shown) // 4)) + 0.1  # inches of the legend
    height = 4.4 * len(decodings) + lines
    folder.mkdir(parents=True, exist_ok=True)
    outside: dict[str, None] = {}
    with style():
        figure = Figure(figsize=(6.2, height))
        rows: Any = figure.subplots(len(decodings), squeeze=False)[:, 0]
        for axes, decoding in zip(rows, decodings, strict=True):
            mine = [spot for spot in spots if spot.decoding == decoding]
            panel(axes, mine, matrix, colours)
            learnt = [spot.region for spot in mine if spot.label not in idle]
            axes.set_xlim(*frame([(one.x.low, one.x.high) for one in learnt]))
            axes.set_ylim(*frame([(one.y.low, one.y.high) for one in learnt]))
            outside |= dict.fromkeys(beyond(axes, mine))
            trails(axes, mine, known, colours)
            axes.set_title(decoding, loc="left", fontsize=10)
            axes.set_xlabel(axis_name(matrix, metrics[0], "→"))
            axes.set_ylabel(axis_name(matrix, metrics[1], "↑"))
        figure.tight_layout(rect=(0, lines / height, 1, 1))
        handles = [named_mark(matrix, colours, label) for label in shown]
        figure.legend(handles=handles, loc="lower center", ncols=4, frameon=False)
        svg = save(figure, folder, name)
    write(folder / f"{name}.csv", csv_text(COLUMNS, [row(spot, matrix, metrics) for spot in spots]))
    said = caption(matrix, metrics, spots, known, list(outside))
    return Picture(svg, f"{said} {in_words(spots, metrics)}", said, name)


def axis_name(matrix: Matrix, metric: Metric, towards: str) -> str:
    """Return what an axis shows: a difference to SFT, or a score where there is no SFT."""
    minus = f" minus {matrix.reference}" if matrix.reference else ""
    return f"{metric.name}{minus}{arrow(metric, towards)}"


def spots_of(matrix: Matrix, block: Block, metrics: Sequence[Metric]) -> list[Spot]:
    """Return the rows that have both metrics, by label and decoding; SFT is where axes meet."""
    if len(metrics) != 2:
        return []
    found = []
    for label in matrix.labels:
        for decoding in matrix.decodings:
            pairs = [changes(matrix, block, label, metric, decoding) for metric in metrics]
            (x, x_clusters), (y, y_clusters) = pairs
            if x and y:
                spot = region(x, y, {**x_clusters, **y_clusters})
                found.append(Spot(label, decoding, spot))
    return found


def changes(
    matrix: Matrix, block: Block, label: str, metric: Metric, decoding: str
) -> tuple[dict[Key, float], Mapping[str, Hashable]]:
    """Return a row's differences to SFT by (seed, prompt), its values where there is no SFT."""
    measure = measure_of(matrix, block, metric, decoding)
    other = matrix.reference
    if measure is None or label == other or (other and matrix.gates.withheld(block, label, other)):
        return {}, {}
    ours = matrix.measured(block, label, measure)
    if ours is None or other is None:
        return (ours.values, ours.clusters) if ours else ({}, {})
    theirs = matrix.measured(block, other, measure)
    if theirs is None:
        return {}, {}
    paired = {k: v - theirs.values[k] for k, v in ours.values.items() if k in theirs.values}
    return paired, {**theirs.clusters, **ours.clusters}


def measure_of(matrix: Matrix, block: Block, metric: Metric, decoding: str) -> Measure | None:
    """Return a metric's measure under a decoding, over the whole population where there is one."""
    found = [m for m in matrix.measures(block, metric) if m.decoding == decoding]
    return next(iter(sorted(found, key=lambda m: bool(m.population))), None)


def panel(axes: Axes, spots: Sequence[Spot], matrix: Matrix, colours: Mapping[str, Any]) -> None:
    """Draw the rows of one decoding: a mark and an ellipse each; lines through SFT's place."""
    for spot in spots:
        colour = colours[spot.label]
        border = spot.region.outline()
        if np.isfinite(border).all():
            axes.fill(*border.T, facecolor=colour, alpha=0.04, linewidth=0)
            axes.plot(*border.T, color=colour, linewidth=1.0, alpha=0.65)
    for spot in spots:
        x, y = spot.region.centre
        axes.plot(
            x, y, color=colours[spot.label], marker=marker(matrix.labels.index(spot.label)),
            markersize=7, markeredgecolor=INK, markeredgewidth=0.5, linestyle="none", zorder=4,
        )  # fmt: skip
    if matrix.reference:
        axes.axhline(0, color=INK, linewidth=0.8, alpha=0.6)
        axes.axvline(0, color=INK, linewidth=0.8, alpha=0.6)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def trails(
    axes: Axes, spots: Sequence[Spot], known: Sequence[Climb], colours: Mapping[str, Any]
) -> None:
    """Join the rows of one method that differ in one setting, from SFT on, by rising divergence."""
    places = {spot.label: spot.region.centre for spot in spots}
    for climb in known:
        path = [(0.0, 0.0), *(places[label] for label, _ in climb.rows if label in places)]
        axes.plot(
            *zip(*path, strict=True), color=colours[climb.rows[0][0]], linewidth=1.0, zorder=3
        )


def frame(ends: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return what an axis shows: the own intervals of rows that learnt something, 0, some room.

    An ellipse of few seeds may be so wide that no row could be told from another beside it.
    """
    known = [end for pair in ends for end in pair if np.isfinite(end)]
    low, high = min([*known, 0.0]), max([*known, 0.0])
    room = 0.12 * (high - low) or 0.1
    return low - room, high + room


def beyond(axes: Axes, spots: Sequence[Spot]) -> list[str]:
    """Return the rows whose place the axes do not show."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    return [
        spot.label
        for spot in spots
        for x, y in [spot.region.centre]
        if not (left <= x <= right and bottom <= y <= top)
    ]


def named_mark(matrix: Matrix, colours: Mapping[str, Any], label: str) -> Any:
    """Return a row's mark for the legend."""
    from matplotlib.lines import Line2D

    look = marker(matrix.labels.index(label))
    return Line2D([], [], color=colours[label], marker=look, linestyle="none", label=label)


def row(spot: Spot, matrix: Matrix, metrics: Sequence[Metric]) -> tuple[object, ...]:
    """Return a spot's data."""
    found, (x, y) = spot.region, (spot.region.x, spot.region.y)
    tilt = "" if found.correlation is None else found.correlation
    (xx, xy), (_, yy) = found.shape.tolist()
    names = [axis_name(matrix, metric, "").split("  ")[0] for metric in metrics]
    return (
        spot.label, spot.decoding, names[0], x.value, x.low, x.high, names[1], y.value, y.low,
        y.high, tilt, xx, xy, yy, x.n, y.n, min(x.seeds, y.seeds), x.claim,
    )  # fmt: skip


def caption(
    matrix: Matrix,
    metrics: Sequence[Metric],
    spots: Sequence[Spot],
    known: Sequence[Climb],
    outside: Sequence[str],
) -> str:
    """Return what the figure shows, what its ellipses claim, and how to read it."""
    names = " against ".join(metric.name for metric in metrics)
    other = matrix.reference
    what = f", as paired differences to {other}, where the lines cross" if other else ""
    claims = sorted({spot.region.x.claim for spot in spots})
    said = f"{names}{what}. Each ellipse holds both at once in 95 % ({' and '.join(claims)}-level)"
    if any(spot.region.correlation is None for spot in spots):
        said += "; it stands upright where too few seeds, or other prompts, hide how the two go"
        said += " together"
    if known:
        said += ". Lines join rows of one method that differ in one setting, from SFT on"
    said += ". Ellipses that leave the frame go on: see the data"
    if outside:
        said += f". Beyond the frame: {', '.join(outside)}"
    return f"{said}."


def in_words(spots: Sequence[Spot], metrics: Sequence[Metric]) -> str:
    """Return the figure's numbers in words."""
    said = []
    for spot in spots:
        pairs = zip(metrics, (spot.region.x, spot.region.y), strict=True)
        values = ", ".join(
            f"{metric.name} {number(e.value, sign=True)} ({number(e.low)} to {number(e.high)})"
            for metric, e in pairs
        )
        said.append(f"{spot.label} at {spot.decoding}: {values}")
    return f"With each one's own 95 % interval: {'; '.join(said)}."


def frontier_table(matrix: Matrix, block: Block, name: str) -> Table | None:
    """Return how surely each row is on the frontier of both metrics; None without two metrics.

    Rows are compared on the seeds and prompts that all have.
    """
    metrics = axes_of(matrix, block)
    columns = {d: shares(matrix, block, metrics, d) for d in matrix.decodings}
    columns = {decoding: found for decoding, found in columns.items() if found}
    if not columns:
        return None
    rows: list[list[Cell | str]] = [
        [
            label,
            *(
                Cell(f"{found[label]:.1%}", order=found[label]) if label in found else ""
                for found in columns.values()
            ),
        ]
        for label in matrix.labels
    ]
    note = (
        f"Share of draws in which no other row is as good on both {metrics[0].name} and "
        f"{metrics[1].name} and better on one. Draws resample clusters of prompts; from three "
        "seeds on, the seeds' part is drawn from Student's t. A row that gives up one of the two "
        "altogether may stand on the frontier: being there is no merit of its own. Exploratory."
    )
    return table("On the frontier", ["row", *columns], rows, note, name=name)


def shares(
    matrix: Matrix, block: Block, metrics: Sequence[Metric], decoding: str
) -> dict[str, float]:
    """Return each row's share of draws on the frontier; {} with fewer than two rows to compare."""
    if len(metrics) != 2:
        return {}
    measures = [measure_of(matrix, block, metric, decoding) for metric in metrics]
    found: dict[str, list[Mapping[Key, float]]] = {}
    clusters: dict[str, Hashable] = {}
    for label in matrix.labels:
        if matrix.reference and matrix.gates.withheld(block, label, matrix.reference):
            continue
        for metric, measure in zip(metrics, measures, strict=True):
            mine = measure and matrix.measured(block, label, measure)
            if mine:
                gains = {key: metric.gain(value) for key, value in mine.values.items()}
                found.setdefault(label, []).append(gains)
                clusters |= mine.clusters
    whole = {label: both for label, both in found.items() if len(both) == 2}
    if len(whole) < 2:
        return {}
    keys = set.intersection(*(set(one) for both in whole.values() for one in both))
    if not keys:
        return {}
    kept = [[{k: one[k] for k in keys} for one in both] for both in whole.values()]
    prompts = as_table(kept[0][0])[1]
    tables = np.array([[as_table(one)[2] for one in both] for both in kept])
    groups = [clusters[prompt] for prompt in prompts]
    drawn = frontier_shares(tables, groups, generator=np.random.default_rng(SEED))
    return dict(zip(whole, drawn.tolist(), strict=True))
