"""Win rates as judged and at equal lengths, with the length ratio: always the three together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.report.figures import INK, Picture, marker, style
from harness.report.grid import Cell, Table, measured, table
from harness.report.plots import Painter
from harness.report.tables import Block, Matrix, Metric
from harness.report.words import number
from harness.results import ITEMS, columnwise
from harness.statistics import Estimate
from harness.win_rates import LengthControlled, length_controlled, length_controlled_rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KEYS = ("base", "dataset", "label", "suite", "metric", "decoding", "judge", "population", "seed")
READ = (*KEYS, "prompt_id", "cluster")
MEANS = ("value", "length", "opponent_length")
NOTE = (
    "Against SFT's answers; a tie is 1/2. At equal lengths: the rate that AlpacaEval 2's logistic "
    "model predicts for answers as long as SFT's (Dubois et al. 2024), with a ridge, no difficulty "
    "term, and errors of the whole fit. A correction is a model: read it beside the raw rate. "
    "Length ratio: our tokens over SFT's."
)
CAPTION = (
    "Win rate against SFT as judged (filled) and as the logistic model predicts it at equal "
    "lengths (hollow), with 95 % intervals; at the right, how many times SFT's length the answers "
    "have. A rate that falls to one half was won by length."
)
COLUMNS = (
    "label", "win_rate", "decoding", "as_judged", "low", "high", "n", "n_seeds", "claim",
    "at_equal_lengths", "equal_low", "equal_high", "length_ratio",
)  # fmt: skip


@dataclass
class Judged:
    """Verdicts of one row: mean score, tokens and SFT's tokens for each (seed, prompt)."""

    found: dict[tuple[int, str], tuple[float, float, float]] = field(default_factory=dict)
    clusters: dict[str, str] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Our tokens over the opponent's."""
        ours = sum(mine for _, mine, _ in self.found.values())
        theirs = sum(other for _, _, other in self.found.values())
        return ours / theirs if theirs else float("nan")


Series = tuple[str, ...]  # the first eight of KEYS


def read_judged(folder: Path) -> dict[Series, Judged]:
    """Return the verdicts of every row, samples averaged; one row group in memory at a time."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    found: dict[Series, Judged] = {}
    with pq.ParquetFile(folder / ITEMS) as file:
        for group in range(file.num_row_groups):
            items = file.read_row_group(group, columns=[*READ, *MEANS])
            wanted = pc.and_(pc.ends_with(items["metric"], "win_rate"), pc.is_valid(items["value"]))
            kept = items.filter(wanted)
            means = kept.group_by(list(READ), use_threads=False).aggregate(
                [(name, "mean") for name in MEANS]
            )
            for row in columnwise(means, [*READ, *(f"{name}_mean" for name in MEANS)]):
                *key, seed, prompt, cluster, value, ours, theirs = row
                if ours is not None and theirs is not None:
                    one = found.setdefault(tuple(key), Judged())
                    one.found[seed, prompt] = (value, ours, theirs)
                    one.clusters[prompt] = cluster
    return found


def at_equal_lengths(judged: Judged) -> Estimate | None:
    """Return the length-controlled win rate over the prompts that every seed judged.

    None where all verdicts are one, so that there is nothing to correct, or the fit has no answer.
    """
    seeds = sorted({seed for seed, _ in judged.found})
    every = {prompt for _, prompt in judged.found}
    prompts = sorted(p for p in every if all((s, p) in judged.found for s in seeds))
    fits: list[LengthControlled] = []
    for seed in seeds:
        rows = np.array([judged.found[seed, prompt] for prompt in prompts])
        if len(rows) < 2 or rows[:, 0].max() == 0 or rows[:, 0].min() == 1:
            return None
        try:
            fits.append(length_controlled(rows[:, 0], rows[:, 1] - rows[:, 2]))
        except ArithmeticError:  # said as "no fit" in the table
            return None
    return length_controlled_rate(fits, [judged.clusters[prompt] for prompt in prompts])


@dataclass(frozen=True)
class Rate:
    """One row's win rate as judged and at equal lengths, None without a fit, and its ratio."""

    label: str
    name: str
    decoding: str
    raw: Estimate
    equal: Estimate | None
    ratio: float


def rates_of(matrix: Matrix, block: Block, folder: Path) -> list[Rate]:
    """Return every win rate of a block, SFT against itself left out."""
    metrics = [m for m in matrix.metrics.values() if m.name.endswith("win_rate")]
    known = read_judged(folder) if metrics else {}
    return [rate for metric in metrics for rate in rates(matrix, block, metric, known)]


def rates(
    matrix: Matrix, block: Block, metric: Metric, known: Mapping[Series, Judged]
) -> Iterator[Rate]:
    """Yield the rates of one metric, decoding by decoding."""
    for measure in matrix.measures(block, metric):
        for label in matrix.labels:
            judged = known.get((*block, label, *measure))
            raw = matrix.entries[block, label, measure].value
            if label == matrix.reference or judged is None or raw is None:
                continue
            name = f"{metric.name} by {measure.judge}" if measure.judge else metric.name
            name += f", {measure.population}" if measure.population else ""
            equal = at_equal_lengths(judged)
            yield Rate(label, name, measure.decoding, raw, equal, judged.ratio)


def win_table(found: Sequence[Rate], name: str) -> Table | None:
    """Return raw and length-controlled win rates with length ratios; None without verdicts."""
    rows: list[list[Cell | str]] = [
        [
            rate.label,
            rate.name,
            rate.decoding,
            measured(rate.raw),
            Cell("no fit") if rate.equal is None else measured(rate.equal),
            Cell(number(rate.ratio), order=rate.ratio),
        ]
        for rate in found
    ]
    columns = ("row", "win rate", "decoding", "as judged", "at equal lengths", "length ratio")
    return table("Win rates and length", columns, rows, NOTE, name=name) if rows else None


def dumbbell(matrix: Matrix, block: Block, found: Sequence[Rate], folder: Path) -> Picture | None:
    """Write P6: each win rate as judged, and where it moves at equal lengths; None without any."""
    from matplotlib.figure import Figure

    panels: dict[tuple[str, str], list[Rate]] = {}
    for rate in found:
        panels.setdefault((rate.name, rate.decoding), []).append(rate)
    if not panels:
        return None
    painter = Painter(matrix, block, folder)
    most = max(len(rates) for rates in panels.values())
    with style():
        figure = Figure(figsize=(6.2, (0.3 * most + 0.9) * len(panels)))
        places = figure.subplots(len(panels), squeeze=False, sharex=True)[:, 0]
        for axes, ((name, decoding), mine) in zip(places, panels.items(), strict=True):
            draw(axes, mine, painter)
            axes.set_title(f"{name}, {decoding}", loc="left", fontsize=10)
        places[-1].set_xlabel("win rate against SFT")
        figure.tight_layout()
        data = (COLUMNS, [columns_of(rate) for rate in found])
        return painter.finish(figure, "win_rates", CAPTION, data, " ".join(map(in_words, found)))


def draw(axes: Axes, mine: Sequence[Rate], painter: Painter) -> None:
    """Draw a row's two rates on one line, with its length ratio at the right."""
    for height, rate in enumerate(mine):
        colour = painter.colours[rate.label]
        both = [(rate.raw, float(height), True)]
        if rate.equal is not None:
            both.append((rate.equal, height + 0.28, False))
            axes.plot(
                [rate.raw.value, rate.equal.value], [height, height + 0.28], color=colour, alpha=0.6
            )
        for found, place, filled in both:
            axes.errorbar(
                found.value, place, xerr=[[found.value - found.low], [found.high - found.value]],
                color=colour, marker=marker(painter.matrix.labels.index(rate.label)), markersize=6,
                markerfacecolor=colour if filled else "none", elinewidth=1.0, linestyle="none",
            )  # fmt: skip
        axes.annotate(
            f"×{rate.ratio:.2f}", (1.0, height), xycoords=("axes fraction", "data"),
            xytext=(4, 0), textcoords="offset points", va="center", fontsize=8,
        )  # fmt: skip
    axes.set_yticks(range(len(mine)), [rate.label for rate in mine])
    axes.invert_yaxis()
    axes.axvline(0.5, color=INK, linewidth=0.8, alpha=0.6)
    axes.grid(axis="x", alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def columns_of(rate: Rate) -> tuple[object, ...]:
    """Return a rate's data."""
    equal = rate.equal
    moved = (equal.value, equal.low, equal.high) if equal else ("", "", "")
    raw = (rate.raw.value, rate.raw.low, rate.raw.high, rate.raw.n, rate.raw.seeds, rate.raw.claim)
    return (rate.label, rate.name, rate.decoding, *raw, *moved, rate.ratio)


def in_words(rate: Rate) -> str:
    """Return a rate in words."""
    equal = "no fit" if rate.equal is None else number(rate.equal.value)
    return (
        f"{rate.label}, {rate.name}, {rate.decoding}: {number(rate.raw.value)} as judged, {equal} "
        f"at equal lengths, length ratio {number(rate.ratio)}."
    )
