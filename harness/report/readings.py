"""The protocol's readings: tables and figures that a study has only where it was made for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.report.budgets import budget_picture, budget_table
from harness.report.climb import climb_picture, climb_table
from harness.report.factors import factor_table
from harness.report.figures import Picture
from harness.report.grid import Table
from harness.report.headline import named
from harness.report.over_bases import bases_tables
from harness.report.panel import panel_picture, panel_table
from harness.report.people import people_table
from harness.report.plane import frontier_table
from harness.report.recovered import recovered_tables
from harness.report.regraded import regraded_tables
from harness.report.tables import Block, Matrix
from harness.report.tuning import tuning_table


@dataclass(frozen=True)
class Readings:
    """What is read beyond the comparison of rows; both are empty where nothing can be."""

    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


def block_readings(matrix: Matrix, block: Block, folder: Path) -> Readings:
    """Return the readings of one block: grid, over-optimisation, people, other weights, tuning."""
    tables = (
        factor_table(matrix, block),
        climb_table(matrix, block),
        people_table(matrix, block, folder, named("populations", block)),
        frontier_table(matrix, block, named("frontier", block)),
        *regraded_tables(matrix, block, folder, named("other_weights", block)),
        tuning_table(matrix, block, folder, named("tuning", block)),
    )
    picture = climb_picture(matrix, block, folder / "figures")
    return Readings([t for t in tables if t is not None], [picture] if picture else [])


def study_readings(matrix: Matrix, folder: Path) -> Readings:
    """Return the readings across blocks: over bases, what labels bought, all sets together."""
    others = (budget_table(matrix), panel_table(matrix))
    figures = folder / "figures"
    pictures = (budget_picture(matrix, figures), panel_picture(matrix, figures))
    return Readings(
        [*bases_tables(matrix), *recovered_tables(matrix), *(t for t in others if t is not None)],
        [picture for picture in pictures if picture is not None],
    )
