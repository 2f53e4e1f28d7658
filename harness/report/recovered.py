"""The share of the placebo-to-ceiling gap that a method recovers from noisy labels.

The placebo is the same row on the same pairs with their labels permuted, the ceiling with the
truth's labels. What lies between is what labels can be worth to this method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from harness.report.contrasts import combined, datasets_but, primary_measures
from harness.report.grid import Cell, Table, measured, slug, table
from harness.report.tables import Block, Matrix, Measure
from harness.results import Measured
from harness.statistics import Estimate, summary

PLACEBO, OWN, CEILING = "permuted", "noisy", "oracle"
WIDEST = 1e6  # a share beyond this is no share
STEPS = 60  # halvings: the bound is then as exact as a float


@dataclass(frozen=True)
class Trio:
    """Three datasets that differ in their labels alone, from one base."""

    base: str
    placebo: str
    own: str
    ceiling: str


def trios(matrix: Matrix) -> list[Trio]:
    """Return every three datasets of the study that are placebo, own labels and ceiling."""
    found = []
    for group in datasets_but(matrix, "labels"):
        by_labels = {matrix.facts["datasets"][name]["settings"]["labels"]: name for name in group}
        if all(kind in by_labels for kind in (PLACEBO, OWN, CEILING)):
            bases = dict.fromkeys(block.base for block in matrix.blocks)
            names = (by_labels[PLACEBO], by_labels[OWN], by_labels[CEILING])
            found += [Trio(base, *names) for base in bases]
    return found


def share(ours: Measured, placebo: Measured, ceiling: Measured) -> Estimate | None:
    """Return (ours - placebo) / (ceiling - placebo) with Fieller's interval; values are gains.

    The interval holds every share r for which the paired mean of (ours - placebo) - r (ceiling -
    placebo) is not told from 0 at 95 %, seeds and clusters random as everywhere (Fieller 1954). It
    is bounded because None is returned unless ceiling is surely above placebo.
    """
    above, gap = combined([(1, ours), (-1, placebo)]), combined([(1, ceiling), (-1, placebo)])
    if above is None or gap is None:
        return None
    keys = above.values.keys() & gap.values.keys()
    over = summary({key: gap.values[key] for key in keys}, gap.clusters)
    if not over.low > 0:
        return None

    def rest(ratio: float) -> Estimate:
        values = {key: above.values[key] - ratio * gap.values[key] for key in keys}
        return summary(values, above.clusters)

    centre = rest(0.0).value / over.value
    found = rest(centre)
    low, high = (bound(rest, centre, way) for way in (-1.0, 1.0))
    return replace(found, value=centre, stderr=found.stderr / over.value, low=low, high=high)


def bound(rest: Callable[[float], Estimate], centre: float, way: float) -> float:
    """Return the farthest ratio one way whose remainder is not told from 0."""
    near, far = 0.0, 0.25
    while far < WIDEST and holds_zero(rest(centre + way * far)):
        near, far = far, 2 * far
    for _ in range(STEPS):
        middle = (near + far) / 2
        if middle in (near, far):
            break
        near, far = (middle, far) if holds_zero(rest(centre + way * middle)) else (near, middle)
    return centre + way * near


def holds_zero(found: Estimate) -> bool:
    """Say whether an interval holds 0."""
    return found.low <= 0 <= found.high


def recovered_tables(matrix: Matrix) -> Iterator[Table]:
    """Yield a table for each three datasets: gap and share of every row that has all three."""
    for trio in trios(matrix):
        blocks = [Block(trio.base, name) for name in (trio.placebo, trio.own, trio.ceiling)]
        rows: list[list[Cell | str]] = [
            [label, f"{measure.metric} at {measure.decoding}", *cells]
            for measure in primary_measures(matrix, blocks)
            for label in matrix.tested
            if not any(matrix.gates.withheld(block, label) for block in blocks)
            and (cells := share_cells(matrix, blocks, label, measure)) is not None
        ]
        if rows:
            columns = ["row", "metric", "placebo", "own labels", "ceiling", "gap", "recovered"]
            yield table(
                f"Share of the placebo-to-ceiling gap recovered: {trio.own} from base {trio.base}",
                columns,
                rows,
                f"Each row on the same pairs under three sets of labels: permuted ({trio.placebo}),"
                f" its own noisy ones ({trio.own}), the truth's ({trio.ceiling}). Gap: ceiling "
                "minus placebo, paired by (seed, prompt), positive where the truth's labels are "
                "better. Recovered: the share of it that noisy labels reach, with Fieller's 95 % "
                "interval; none is given where the gap itself is not told from 0. Exploratory: "
                "not corrected.",
                name=f"recovered_{slug(trio.base)}_{slug(trio.own)}",
            )


def share_cells(
    matrix: Matrix, blocks: list[Block], label: str, measure: Measure
) -> list[Cell] | None:
    """Return one row's three values, gap and share; None where one of the three is a hole."""
    metric = matrix.metrics[measure.suite, measure.metric]
    known = [matrix.measured(block, label, measure) for block in blocks]
    values = [one.estimate(is_rate=metric.is_rate) for one in known if one is not None]
    gains = [combined([(metric.gain(1.0), one)]) for one in known]
    placebo, own, ceiling = gains
    gap = combined([(1, ceiling), (-1, placebo)])
    if placebo is None or own is None or ceiling is None or gap is None:
        return None
    found = share(own, placebo, ceiling)
    return [
        *(Cell("") if one is None else measured(one) for one in values),
        measured(summary(gap.values, gap.clusters), sign=True),
        Cell("no gap to share") if found is None else share_cell(found),
    ]


def share_cell(found: Estimate) -> Cell:
    """Return a share in per cent, with its interval in the text and what it rests on behind."""
    text = f"{found.value:.0%} ({found.low:.0%} to {found.high:.0%})".replace("-", "−")
    return replace(measured(found), text=text)
