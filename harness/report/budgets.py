"""The label-budget curve: what more judgements bought, where only their number differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.report.contrasts import (
    alike_but,
    datasets_but,
    gains_along,
    method_of,
    primary_measures,
    row_settings,
)
from harness.report.curves import Curve, Panel, draw_curves
from harness.report.figures import Picture, arrow
from harness.report.grid import Cell, Table, counted, measured, table
from harness.report.tables import Block, Matrix, Measure, sums

BUDGET = "budget"


@dataclass(frozen=True)
class Step:
    """One point of a curve: the row and block it is read from, and the judgements it was given."""

    block: Block
    label: str
    labels: float


@dataclass(frozen=True)
class Ladder:
    """One method on growing budgets, all else equal; steps by rising numbers of judgements."""

    name: str
    steps: Sequence[Step]


def ladders(matrix: Matrix) -> list[Ladder]:
    """Return every method that the study trains on several budgets and nothing else that differs.

    Budgets differ between datasets, or between rows that have a setting of that name. A row whose
    judgements are not known, or that reads none, has no place on a curve.
    """
    found: list[Ladder] = []
    bases = list(dict.fromkeys(block.base for block in matrix.blocks))
    for base in bases:
        for group in datasets_but(matrix, BUDGET):
            for label in matrix.tested:
                places = [(Block(base, dataset), label) for dataset in group]
                name = label if len(bases) == 1 else f"{label} on {base}"
                found.append(Ladder(name, steps(matrix, places)))
    for block in matrix.blocks:
        for group in alike_but(row_settings(matrix), BUDGET, method_of(matrix)):
            name = " / ".join((method_of(matrix)[group[0]], *block))
            found.append(Ladder(name, steps(matrix, [(block, label) for label in group])))
    return [ladder for ladder in found if len({step.labels for step in ladder.steps}) > 1]


def steps(matrix: Matrix, places: Sequence[tuple[Block, str]]) -> list[Step]:
    """Return where a row stands on each budget: judgements are the mean over its seeds."""
    found = []
    for block, label in places:
        cells = [
            cell
            for cell in matrix.cells
            if (cell["base"], cell["dataset"], cell["label"]) == (*block, label)
            and cell["state"] == "done"
            and cell["labels_used"]
        ]
        used = sums(cells, "labels_used")
        if used and sum(used) > 0:
            found.append(Step(block, label, sum(used) / len(used)))
    return sorted(found, key=lambda step: step.labels)


def budget_table(matrix: Matrix) -> Table | None:
    """Return gains over SFT by the number of judgements; None where only one budget was tried."""
    known = ladders(matrix)
    measures = primary_measures(matrix, matrix.blocks)
    rows = []
    for ladder in known:
        for step in ladder.steps:
            cells: list[Cell | str] = [ladder.name, step.block.dataset]
            cells.append(counted(step.labels, f"{step.labels:,.0f}"))
            for measure in measures:
                entry = matrix.entries.get((step.block, step.label, measure))
                gain = entry.difference if entry else None
                cells.append("n/a" if gain is None else measured(gain, sign=True))
            rows.append(cells)
    if not rows:
        return None
    note = (
        "Gain over the SFT row of the same block with its 95 % interval, by judgements that "
        "training and selection read (mean over seeds). Within a row's lines only the budget "
        "differs. Exploratory: not corrected."
    )
    heads = ["row", "dataset", "judgements", *(f"{m.metric} at {m.decoding}" for m in measures)]
    return table("What more labels bought", heads, rows, note, name="label_budget")


def budget_picture(matrix: Matrix, folder: Path) -> Picture | None:
    """Return the curves of gains by judgements under the first decoding, a panel a metric."""
    known = ladders(matrix)
    first = next(iter(matrix.decodings), "")
    panels = []
    for measure in primary_measures(matrix, matrix.blocks):
        if measure.decoding == first:
            metric = matrix.metrics[measure.suite, measure.metric]
            curves = [curve(matrix, ladder, measure) for ladder in known]
            y_name = f"{measure.metric} minus {matrix.reference}{arrow(metric, '↑')}"
            shown = [c for c in curves if len(c.points) > 1]
            panels.append(Panel("judgements", y_name, shown, logarithmic=True))
    caption = f"Gain over SFT by judgements read, at {first}; bars are 95 % intervals."
    return draw_curves(matrix, folder, "label_budget", panels, caption)


def curve(matrix: Matrix, ladder: Ladder, measure: Measure) -> Curve:
    """Return one method's gains by judgements."""
    places = [(step.labels, step.block, step.label) for step in ladder.steps]
    return Curve(ladder.name, ladder.steps[0].label, gains_along(matrix, measure, places))
