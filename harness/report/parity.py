"""Parity in a report: which rows did not hold equal what must be, in a table and as a badge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.parity import Breach, breaches, unknown
from harness.report.gates import items
from harness.report.grid import Cell, Table, table

if TYPE_CHECKING:
    from harness.report.tables import Block, Matrix

NOTE = (
    "What a row did not hold equal, against the value that most rows have, seed by seed. What a "
    "row does not use breaks nothing: feedback is priced, not equal. A judge that labelled or "
    "rewarded what a row learnt from breaks parity too."
)


def parity_table(matrix: Matrix, block: Block, name: str) -> Table | None:
    """Return every breach of a block, a line each; None where all rows hold all items equal."""
    rows = [[one.label, one.item, one.own, one.usual] for one in broken(matrix, block)]
    columns = ("row", "not held equal", "its value", "most rows")
    return table("Parity", columns, rows, NOTE, name=name, is_text=True) if rows else None


def badge(matrix: Matrix, block: Block, label: str) -> Cell:
    """Return a row's badge: held equal, the items that were not, or that some are not known.

    Items and values are told on hovering.
    """
    mine = [one for one in broken(matrix, block) if one.label == label]
    missing = unknown(matrix.facts, *block, label)
    if not mine and missing:
        return Cell("unknown", f"not known: {'; '.join(missing)}", kind="unknown")
    if not mine:
        return Cell("yes")
    return Cell(f"no: {items(mine)}", "; ".join(one.said for one in mine), kind="differs")


def broken(matrix: Matrix, block: Block) -> list[Breach]:
    """Return the breaches of one block."""
    return breaches(matrix.facts, matrix.cells, *block)
