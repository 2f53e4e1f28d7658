"""T2: every row against every other on the primary metrics, and groups that cannot be told apart.

All pairs of one metric and decoding are one family, and its intervals are simultaneous: a
checkpoint's by the largest |t| of a bootstrap over prompt clusters, a method's by Bonferroni, with
each pair's own tails and Holm's p-values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from harness.multiplicity import Pair, rank_intervals, simultaneous, tie_groups, told_apart, winner
from harness.report.grid import Cell, Table, sizes, table
from harness.report.headline import named
from harness.report.tables import Block, Matrix, Measure, Metric
from harness.report.words import number, p_value
from harness.resampling import FEWEST, max_t
from harness.statistics import Estimate, as_table

SEED = 0  # of the bootstrap, so that equal results make equal bytes
BONFERRONI = "Bonferroni), p is Holm's"
LARGEST_T = "largest |t| of a bootstrap over prompt clusters), p is of the same"


@dataclass(frozen=True)
class Square:
    """Every pair of rows, keyed both ways round, and how its intervals were made simultaneous."""

    pairs: Mapping[tuple[str, str], Pair]
    how: str


def pairs_of(matrix: Matrix, block: Block, measure: Measure) -> Square:
    """Return every two rows' paired difference on one measure; rows without overlap are left out.

    The bootstrap needs rows with the same prompts and seeds, and ten clusters; else it is
    Bonferroni's.
    """
    found = {
        (one, other): difference
        for one, other in combinations(matrix.labels, 2)
        if (difference := matrix.difference(block, one, measure, other)) is not None
    }
    bands = banded(matrix, block, measure, found)
    return Square(simultaneous(found), BONFERRONI) if bands is None else Square(bands, LARGEST_T)


def banded(
    matrix: Matrix, block: Block, measure: Measure, found: Mapping[tuple[str, str], Estimate]
) -> dict[tuple[str, str], Pair] | None:
    """Return the checkpoints' pairs with intervals by the largest |t|; None where it cannot be."""
    values = {
        label: series.values
        for label in dict.fromkeys(label for pair in found for label in pair)
        if (series := matrix.measured(block, label, measure)) is not None
    }
    fewest = min((d.clusters for d in found.values()), default=0)
    claims = {d.claim for d in found.values()}
    keys = {frozenset(known) for known in values.values()}
    if claims != {"checkpoint"} or fewest < FEWEST or len(keys) != 1:
        return None
    tables = {label: as_table(known) for label, known in values.items()}
    prompts = next(iter(tables.values()))[1]
    groups: dict[str, str] = {}
    for label in tables:
        if (series := matrix.measured(block, label, measure)) is not None:
            groups |= series.clusters
    means = {label: table.mean(axis=0) for label, (_, _, table) in tables.items()}
    stacked = np.stack([means[one] - means[other] for one, other in found])
    clusters = [groups[prompt] for prompt in prompts]
    bands = max_t(stacked, clusters, generator=np.random.default_rng(SEED))
    pairs = {
        key: Pair(d, float(low), float(high), float(p))
        for (key, d), low, high, p in zip(
            found.items(), bands.low, bands.high, bands.p, strict=True
        )
    }
    return pairs | {(b, a): pair.turned() for (a, b), pair in pairs.items()}


def matrix_table(matrix: Matrix, block: Block, metric: Metric, measure: Measure) -> Table | None:
    """Return the square of differences, row minus column; None with fewer than two rows."""
    square = pairs_of(matrix, block, measure)
    pairs = square.pairs
    labels = [x for x in matrix.labels if any(x in pair for pair in pairs)]
    if len(labels) < 2:
        return None
    higher = told_apart(pairs)
    better = higher if metric.higher_is_better else {(b, a) for a, b in higher}
    groups, ranks = tie_groups(labels, better), rank_intervals(labels, better)
    rows: list[list[Cell | str]] = [
        [
            label,
            groups[label],
            "{} to {}".format(*ranks[label]),
            *(pair_cell(pairs.get((label, other))) for other in labels),
        ]
        for label in labels
    ]
    count = len(pairs) // 2
    apart = sum(pair.distinguishable for pair in pairs.values()) // 2
    above = winner(labels, better) if alike(pairs) else None
    first = f" {above} is told apart from every other row, as the better." if above else ""
    way = "higher" if metric.higher_is_better else "lower"
    note = (
        f"Row minus column; {way} is better. Intervals hold for all {count} pairs at once "
        f"(95 %, {square.how}. {apart} of {count} pairs are told apart, marked by *; "
        "the others are not, which does not make them equal. Rows that share a letter are not told "
        f"apart; places are those that a row may have.{first} Each pair's interval, p and MDE are "
        "in the table's CSV file."
    )
    return table(
        f"{metric.name} at {measure.decoding}: every row against every other",
        ["row", "group", "place", *labels],
        rows,
        note,
        name=named(f"t2_{metric.name}_{measure.decoding}", block),
    )


def alike(pairs: Mapping[tuple[str, str], Pair]) -> bool:
    """Say whether all pairs rest on as many prompts and seeds, so that a row may stand out."""
    sets = {(p.difference.n, p.difference.clusters, p.difference.seeds) for p in pairs.values()}
    return len(sets) == 1


def pair_cell(pair: Pair | None) -> Cell:
    """Return one difference: its simultaneous interval and MDE in the text, the rest on hovering.

    A difference whose interval includes 0 is greyed.
    """
    if pair is None:
        return Cell("")
    d = pair.difference
    half = (pair.high - pair.low) / 2
    mark = " *" if pair.distinguishable else ""
    return Cell(
        f"{number(d.value, sign=True)} ± {number(half)}{mark}\nMDE {number(d.mde)}",
        f"p {p_value(pair.p)} over all pairs; {sizes(d)}; {d.claim}-level; simultaneous interval "
        f"{number(pair.low)} to {number(pair.high)}",
        d.value,
        "pair" if pair.distinguishable else "pair faint",
        estimate=d,
        brief=number(d.value, sign=True) + mark,
    )
