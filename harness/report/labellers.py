"""How the labellers of AI feedback did on the pairs they labelled: the other half of the gate."""

from __future__ import annotations

from harness.report.gates import labeller_problems, pooled
from harness.report.grid import Cell, Table, counted, table
from harness.report.tables import Matrix

NOTE = (
    "Over all pairs that a judge labelled for these rows, seeds together. Agreement is with the "
    "earlier, noisy labels of the same pairs, ties of either side left out; empty where nobody had "
    "labelled them. Order: the share of verdicts that go to one place in both orders. Each share "
    "stands with the number of pairs that it is of. A labeller fails that agrees no more often "
    "than chance, or most of whose verdicts turn with the order."
)


def labeller_table(matrix: Matrix) -> Table | None:
    """Return agreement and order of the labeller behind each row; None without AI feedback."""
    labelled = matrix.facts.get("labelling", [])
    failed = dict(labeller_problems(labelled))
    rows: list[list[Cell | str]] = []
    for label in matrix.labels:
        mine = [one for one in labelled if label in one["rows"]]
        if mine:
            pairs = sum(one["pairs"] for one in mine)
            shares = [
                pooled(mine, name)
                for name in ("agreement_with_earlier_labels", "same_place_preferred")
            ]
            cells = [
                Cell(f"{one.value:.1%} of {one.size}", order=one.value) if one.of else Cell("")
                for one in shares
            ]
            gate = (
                Cell("failed", failed[label], kind="hole")
                if label in failed
                else Cell("not failed")
            )
            rows.append([label, counted(pairs, f"{pairs:,}"), *cells, gate])
    columns = ("row", "pairs labelled", "agrees with people", "turns with the order", "gate")
    return (
        table("Labellers of AI feedback", columns, rows, NOTE, name="t7_labellers")
        if rows
        else None
    )
