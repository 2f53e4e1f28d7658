"""Orderings under other weights: the embedded world's grades are weighted sums, and arbitrary.

Every weight is multiplied by a factor between 1/2 and 2, drawn for each axis and kind of finding,
and all answers are graded again from the findings that were kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.hamlet.findings import WEIGHTS
from harness.report.grid import Cell, Table, table
from harness.report.tables import Block, Matrix
from harness.report.words import number
from harness.results import ITEMS, columnwise

Array: TypeAlias = NDArray[np.float64]
DRAWS = 1_000
FACTOR = 2.0  # a weight is at most this many times larger or smaller
GRADED = "gold_help"  # its items keep the findings of both axes
AXES = ("helpful", "safe")
ROWS_AT_ONCE = 2_000
SURE = 0.95  # an order that fewer weightings keep is greyed
KINDS = tuple(WEIGHTS)


def regraded_tables(matrix: Matrix, block: Block, folder: Path, name: str) -> list[Table]:
    """Return how often each order survives, against SFT and between all rows, an axis a table.

    None outside the embedded world, and where SFT or all other rows are holes.
    """
    decoding = next(iter(matrix.decodings), "")
    found = read_findings(folder, block, decoding) if matrix.facts["embedded_world"] else {}
    nothing = not any(answers.any() for answers, _ in found.values())
    if matrix.reference not in found or len(found) < 2 or nothing:
        return []
    weights = drawn_weights(np.random.default_rng(0))
    labels = [x for x in matrix.labels if x in found and not matrix.gates.withheld(block, x)]
    means = {label: regraded(*found[label], weights) for label in labels}
    first = against_sft(means, matrix.reference, decoding, name)
    if len(labels) < 3:
        return [first]
    return [first, *(between(means, axis, decoding, name) for axis in range(len(AXES)))]


def against_sft(means: Mapping[str, Array], sft: str, decoding: str, name: str) -> Table:
    """Return each row's difference to SFT and how often its sign survives."""
    rows: list[list[Cell | str]] = []
    for label in means:
        if label == sft:
            continue
        cells: list[Cell | str] = [label]
        for axis in range(len(AXES)):
            moved = means[label][axis] - means[sft][axis]
            cells += [
                Cell(number(moved[0], sign=True), order=float(moved[0])),
                share_cell(kept(moved)),
            ]
        rows.append(cells)
    whole = [kept_whole(np.stack([means[label][axis] for label in means])) for axis in (0, 1)]
    note = (
        f"At {decoding}, over {DRAWS:,} weightings in which every weight of the world's grade is "
        f"multiplied by a factor between 1/{FACTOR:g} and {FACTOR:g}: the share that keeps the "
        "sign of the difference, whether or not that is distinguishable from noise. The whole "
        f"order of rows is kept by {whole[0]:.0%} (helpful) and {whole[1]:.0%} (safe)."
    )
    columns = ["row", *(c for axis in AXES for c in (f"{axis}, minus {sft}", "sign kept"))]
    return table("Orderings under other weights", columns, rows, note, name=name)


def between(means: Mapping[str, Array], axis: int, decoding: str, name: str) -> Table:
    """Return the square of all pairs: the share of weightings that keep the order of the two."""
    labels = list(means)
    rows: list[list[Cell | str]] = []
    for one in labels:
        cells: list[Cell | str] = [one]
        for other in labels:
            if one == other:
                cells.append("")
                continue
            moved = means[one][axis] - means[other][axis]
            share = kept(moved)
            sign = ">" if moved[0] > 0 else "<" if moved[0] < 0 else "="
            faint = "faint" if share < SURE else ""
            cells.append(Cell(f"{sign} {share:.1%}", order=share, kind=faint))
        rows.append(cells)
    note = (
        f"At {decoding}: whether the row's mean grade is above (>) or below (<) the column's under "
        f"the world's own weights, and the share of {DRAWS:,} other weightings that keep it so. "
        f"Below {SURE:.0%} it is greyed: that order hangs on weights that nobody can justify."
    )
    return table(
        f"Orderings of all rows under other weights: {AXES[axis]}",
        ["row", *labels],
        rows,
        note,
        name=f"{name}_{AXES[axis]}",
    )


def read_findings(folder: Path, block: Block, decoding: str) -> dict[str, tuple[Array, Array]]:
    """Return each label's different answers as capped amounts of each kind, and their numbers.

    Amounts: (answers, kinds); numbers: (answers,). A kind that has no weight is left out.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    counted: dict[str, dict[str, int]] = {}
    columns = ["base", "dataset", "label", "metric", "decoding", "findings"]
    with pq.ParquetFile(folder / ITEMS) as file:
        for group in range(file.num_row_groups):
            items = file.read_row_group(group, columns=columns)
            wanted = {"base": block.base, "dataset": block.dataset, "metric": GRADED}
            for column, value in {**wanted, "decoding": decoding}.items():
                items = items.filter(pc.equal(items[column], value))
            sums = items.group_by(["label", "findings"], use_threads=False)
            sums = sums.aggregate([([], "count_all")])
            for label, findings, count in columnwise(sums, ["label", "findings", "count_all"]):
                mine = counted.setdefault(label, {})
                mine[findings] = mine.get(findings, 0) + count
    return {
        label: (np.array([amounts(f) for f in mine]), np.array(list(mine.values()), dtype=float))
        for label, mine in counted.items()
    }


def amounts(findings: str) -> list[float]:
    """Return how much there is of each kind, up to what counts."""
    total = dict.fromkeys(KINDS, 0.0)
    for kind, _, amount in json.loads(findings):
        if kind in total:
            total[kind] += float(amount)
    return [min(total[kind], WEIGHTS[kind].most) for kind in KINDS]


def drawn_weights(generator: np.random.Generator) -> Array:
    """Return weights (axes, 1 + draws, kinds): the world's own first, then drawn ones."""
    own = np.array([[getattr(WEIGHTS[kind], axis) for kind in KINDS] for axis in AXES])
    powers = generator.uniform(-1, 1, (len(AXES), DRAWS, len(KINDS)))
    return np.concatenate([own[:, None], own[:, None] * FACTOR**powers], axis=1)


def regraded(answers: Array, counts: Array, weights: Array) -> Array:
    """Return the mean grade (axes, 1 + draws) of answers (answers, kinds) that stand for counts."""
    total = np.zeros(weights.shape[:2])
    for start in range(0, len(answers), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        grades = np.clip(answers[part] @ weights.transpose(0, 2, 1), -1, 1)
        total += np.einsum("aij,i->aj", grades, counts[part])
    mean: Array = total / counts.sum()
    return mean


def kept(moved: Array) -> float:
    """Return the share of draws in which a difference has the sign that it has first."""
    return float(np.mean(np.sign(moved[1:]) == np.sign(moved[0])))


def kept_whole(means: Array) -> float:
    """Return the share of draws (columns) in which all rows stand in the order of the first."""
    order = np.argsort(means[:, 0], kind="stable")
    return float(np.mean(np.all(np.diff(means[order, 1:], axis=0) >= 0, axis=0)))


def share_cell(share: float) -> Cell:
    """Return a share as a percentage."""
    return Cell(f"{share:.1%}", order=share)
