"""What each data set read: rows by split, rows left out by reason, and the digest of each split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.report.grid import Cell, Table, counted, table
from harness.report.tables import Matrix

NAMED = 3  # rows that a cell names; more are counted


def read_table(matrix: Matrix) -> Table | None:
    """Return rows used and left out of each data set; None where no stage read rows of others."""
    rows: list[list[Cell | str]] = []
    for dataset, id, noted in noted_rows(matrix):
        kept: Mapping[str, int] = noted.get("rows", {})
        dropped: Mapping[str, int] = noted.get("dropped", {})
        out = sum(dropped.values())
        rows.append(
            [
                dataset,
                counted(noted.get("read", 0), f"{noted.get('read', 0):,}"),
                ", ".join(f"{split} {n:,}" for split, n in kept.items()),
                counted(out, f"{out:,}"),
                ", ".join(f"{reason} {n:,}" for reason, n in dropped.items() if n) or "none",
                id,
            ]
        )
    if not rows:
        return None
    columns = (
        "dataset",
        "rows read",
        "used, by split",
        "left out",
        "left out, by reason",
        "artifact",
    )
    note = "As the stages that read them noted. What is left out is left out for every row alike."
    return table("Rows read and left out", columns, rows, note, name="t6_rows", is_text=True)


def paired_table(matrix: Matrix) -> Table | None:
    """Return pairs and rankings made of drawn answers, by row; None where none were."""
    rows: list[list[Cell | str]] = [
        [
            dataset,
            ", ".join(one["rows"]) if len(one["rows"]) <= NAMED else f"{len(one['rows'])} rows",
            one["stage"],
            counted(one["sets"], f"{one['sets']:,}"),
            counted(one["kept"], f"{one['kept']:,}"),
            ", ".join(f"{reason} {n:,}" for reason, n in one["dropped"].items() if n) or "none",
        ]
        for dataset, facts in matrix.facts.get("datasets", {}).items()
        for one in facts.get("paired", ())
    ]
    columns = ("dataset", "row", "made by", "sets", "pairs or rankings", "left out, by reason")
    note = (
        "Sums over seeds and rounds. Unfinished answers ran into max_new_tokens: nothing is learnt "
        "from a comparison with them, since they have no end."
    )
    return table("Pairs of drawn answers", columns, rows, note, name="t6_pairs") if rows else None


def digest_table(matrix: Matrix) -> Table | None:
    """Return the digest of each split's rows; None where no stage noted any."""
    rows = [
        [dataset, split, digest, id]
        for dataset, id, noted in noted_rows(matrix)
        for split, digest in noted.get("digests", {}).items()
    ]
    columns = ("dataset", "split", "digest of its rows", "artifact")
    return table("Rows of data", columns, rows, name="t9_rows", is_text=True) if rows else None


def noted_rows(matrix: Matrix) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield data set, artifact and what it noted of the rows it read."""
    for dataset, facts in matrix.facts.get("datasets", {}).items():
        for id, noted in facts["notes"].items():
            yield dataset, id, noted
