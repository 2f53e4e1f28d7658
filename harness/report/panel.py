"""P8: all data sets as one: interquartile means, profiles, and the chance to improve on SFT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness.aggregates import (
    PROFILE_RESAMPLES,
    RESAMPLES,
    improvement,
    improvement_interval,
    interquartile_mean,
    interval,
    optimality_gap,
    profile,
    resampled,
)
from harness.plain_text import csv_text
from harness.report.contrasts import first_measures
from harness.report.figures import Picture, arrow, palette, save, style
from harness.report.grid import Cell, Table, table
from harness.report.tables import Matrix, Measure, Metric
from harness.report.words import number
from harness.results import write
from harness.statistics import ALPHA, Array

LEVELS = 60  # points of a profile
DATA_COLUMNS = ("label", "metric", "runs", "tasks", "what", "at", "value", "low", "high")


@dataclass(frozen=True)
class Span:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """The span as a table shows it."""
        return f"{number(self.value)} ({number(self.low)} to {number(self.high)})"


@dataclass(frozen=True)
class Summary:
    """One row over all data sets: runs are seeds, tasks are data sets.

    Scores and their middle are the metric's own values; the gap is how far they fall short of its
    best value, whichever way that lies. Without a chance to improve, `withheld` says why.
    """

    label: str
    scores: Array  # (runs, tasks), in the metric's unit
    middle: Span
    gap: Span
    improves: Span | None
    withheld: str = ""


def task_scores(matrix: Matrix, label: str, measure: Measure) -> Array | None:
    """Return a row's mean under each seed and data set; None unless all of them have it."""
    columns = []
    for block in matrix.blocks:
        one = matrix.measured(block, label, measure)
        if one is None or len(one.seeds) < len(matrix.facts["seeds"]):
            return None
        sums: dict[int, list[float]] = {}
        for (seed, _), value in one.values.items():
            sums.setdefault(seed, []).append(value)
        columns.append([sum(sums[seed]) / len(sums[seed]) for seed in sorted(sums)])
    return np.array(columns).T if len(columns) > 1 else None


def summaries(matrix: Matrix, metric: Metric, measure: Measure) -> list[Summary]:
    """Return each row that has every seed of every data set, in the order of the study.

    A comparison that a gate withholds on any of the sets is left out.
    """
    turn = metric.gain(1.0)  # gaps and chances are of gains: where less is better, turned round
    target = metric.high if metric.higher_is_better else -metric.low
    known = {
        label: scores
        for label in matrix.labels
        if (scores := task_scores(matrix, label, measure)) is not None
    }
    short = partial(optimality_gap, target=target)
    theirs = known.get(matrix.reference or "")
    found = []
    for label, scores in known.items():
        generator = np.random.default_rng(0)  # equal results make equal bytes
        middle = Span(
            float(interquartile_mean(scores)), *interval(scores, interquartile_mean, generator)
        )
        gap = Span(float(short(turn * scores)), *interval(turn * scores, short, generator))
        improves, withheld = None, ""
        if theirs is not None and label != matrix.reference:
            withheld = withheld_anywhere(matrix, label)
            if not withheld:
                bounds = improvement_interval(turn * scores, turn * theirs, generator)
                improves = Span(float(improvement(turn * scores, turn * theirs)), *bounds)
        found.append(Summary(label, scores, middle, gap, improves, withheld))
    return found


def withheld_anywhere(matrix: Matrix, label: str) -> str:
    """Return why a row is not compared with SFT on some data set, "" where it is on all."""
    words = (matrix.gates.withheld(x, label, matrix.reference or "") for x in matrix.blocks)
    return next(filter(None, words), "")


def panel_table(matrix: Matrix) -> Table | None:
    """Return the aggregates of every row over all data sets; None for one data set alone."""
    if len(matrix.blocks) < 2:
        return None
    rows = []
    for metric, measure in first_measures(matrix, matrix.blocks):
        for one in summaries(matrix, metric, measure):
            runs, tasks = one.scores.shape
            cells: list[Cell | str] = [one.label, metric.name, f"{runs} × {tasks}"]
            cells += [Cell(s.text, order=s.value) for s in (one.middle, one.gap)]
            cells.append(
                Cell(one.improves.text, order=one.improves.value) if one.improves else one.withheld
            )
            rows.append(cells)
    if not rows:
        return None
    note = (
        "Over all bases and data sets, after Agarwal et al. 2021: the interquartile mean of the "
        "scores of all seeds and sets, how far they fall short of the metric's best value on "
        "average, and the chance that a run beats a run of SFT on a set. Intervals are 95 % "
        f"percentiles of {RESAMPLES:,} stratified resamples of {len(matrix.facts['seeds'])} seeds, "
        "which are too narrow with few seeds: no claim about methods rests on them. Rows that lack "
        "a seed or a set are left out, and so are chances where a gate withholds the comparison."
    )
    heads = ["row", "metric", "seeds × sets", "interquartile mean", "optimality gap"]
    return table(
        "All data sets together", [*heads, "P(improves on SFT)"], rows, note, name="p8_panel"
    )


def panel_picture(matrix: Matrix, folder: Path) -> Picture | None:
    """Return P8: interquartile means, profiles and chances of improvement, a row a metric."""
    if len(matrix.blocks) < 2:
        return None
    found = [
        (metric, summaries(matrix, metric, m))
        for metric, m in first_measures(matrix, matrix.blocks)
    ]
    found = [(metric, rows) for metric, rows in found if rows]
    if not found:
        return None
    from matplotlib.figure import Figure

    colours = dict(zip(matrix.labels, palette(len(matrix.labels)), strict=True))
    folder.mkdir(parents=True, exist_ok=True)
    data: list[tuple[object, ...]] = []
    with style():
        height = sum(0.28 * len(rows) + 1.5 for _, rows in found)
        figure = Figure(figsize=(11.0, height))
        axes: Any = figure.subplots(len(found), 3, squeeze=False)
        for line, (metric, rows) in zip(axes, found, strict=True):
            labels = [one.label for one in rows]
            spans(line[0], labels, [one.middle for one in rows], colours)
            line[0].set_xlabel(f"interquartile mean of {metric.name}{arrow(metric, '→')}")
            profiles(line[1], rows, colours, data, metric)
            line[1].set_xlabel(f"{metric.name}{arrow(metric, '→')}")
            line[1].set_ylabel(f"share of runs {side(metric)}")
            better = [one for one in rows if one.improves is not None]
            spans(
                line[2],
                [b.label for b in better],
                [b.improves for b in better if b.improves],
                colours,
            )
            line[2].axvline(0.5, color="#888888", linewidth=0.8)
            line[2].set_xlabel("P(improves on SFT)")
            data += [row for one in rows for row in rows_of(one, metric.name)]
            for part in line:
                part.spines[["top", "right"]].set_visible(False)
                part.grid(alpha=0.25, linewidth=0.6)
        figure.tight_layout()
        svg = save(figure, folder, "all_data_sets")
    write(folder / "all_data_sets.csv", csv_text(DATA_COLUMNS, data))
    caption = (
        f"All {len(matrix.blocks)} data sets and {len(matrix.facts['seeds'])} seeds together; bars "
        "and bands are 95 % percentiles of stratified resamples of the seeds. Profiles are the "
        "share of runs that do better than each value: above it where higher is better, else below."
    )
    return Picture(svg, f"{caption} {said(found)}", caption, "all_data_sets")


def spans(axes: Any, labels: Sequence[str], found: Sequence[Span], colours: dict[str, Any]) -> None:
    """Draw a value and an interval a row."""
    for height, (label, one) in enumerate(zip(labels, found, strict=True)):
        bars = [[max(one.value - one.low, 0.0)], [max(one.high - one.value, 0.0)]]
        axes.errorbar(one.value, height, xerr=bars, color=colours[label], marker="o", capsize=2)
    axes.set_yticks(range(len(labels)), list(labels))
    axes.invert_yaxis()


def profiles(
    axes: Any,
    rows: Sequence[Summary],
    colours: dict[str, Any],
    data: list[tuple[object, ...]],
    metric: Metric,
) -> None:
    """Draw the share of runs better than each level with its band; add it to the figure's data."""
    low = min(float(one.scores.min()) for one in rows)
    high = max(float(one.scores.max()) for one in rows)
    levels, turn = np.linspace(low, high, LEVELS), metric.gain(1.0)
    for one in rows:
        whole = profile(turn * one.scores, turn * levels)
        drawn = resampled(
            turn * one.scores,
            partial(profile, levels=turn * levels),
            np.random.default_rng(0),
            resamples=PROFILE_RESAMPLES,
        )
        below, above = np.quantile(drawn, [ALPHA / 2, 1 - ALPHA / 2], axis=0)
        axes.plot(levels, whole, color=colours[one.label], linewidth=1.2)
        axes.fill_between(levels, below, above, color=colours[one.label], alpha=0.1, linewidth=0)
        data += [
            (one.label, metric.name, *one.scores.shape, f"share {side(metric)}", *map(float, point))
            for point in zip(levels, whole, below, above, strict=True)
        ]


def side(metric: Metric) -> str:
    """Return on which side of a value the better ones lie."""
    return "above" if metric.higher_is_better else "below"


def rows_of(one: Summary, metric: str) -> list[tuple[object, ...]]:
    """Return a row's aggregates as data."""
    named = {"iqm": one.middle, "optimality_gap": one.gap, "p_improves": one.improves}
    return [
        (one.label, metric, *one.scores.shape, what, "", span.value, span.low, span.high)
        for what, span in named.items()
        if span is not None
    ]


def said(found: Sequence[tuple[Metric, Sequence[Summary]]]) -> str:
    """Return the figure's numbers in words."""
    return " ".join(
        f"Interquartile mean of {metric.name}: "
        + "; ".join(f"{one.label} {one.middle.text}" for one in rows)
        + "."
        for metric, rows in found
    )
