"""Grades by population: where groups of people want different things, and whom a row serves.

On the embedded world two populations weigh the findings of requests with two readings differently,
and nowhere else; answers to those are graded again by each population's values.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from harness.hamlet.annotators import VALUES
from harness.hamlet.findings import WEIGHTS, Weight
from harness.report.contrasts import contrast
from harness.report.grid import Cell, Table, measured, table
from harness.report.regraded import AXES, GRADED, KINDS, Array, amounts
from harness.report.tables import Block, Matrix
from harness.results import ITEMS, Measured, columnwise

MARK = "two_readings"  # the finding that every answer to such a request has
POPULATIONS = tuple(VALUES)
Graded = dict[tuple[str, str, str], Measured]  # by label, population and axis


def as_array(values: Mapping[str, Weight]) -> Array:
    """Return a population's weights, (axes, kinds)."""
    weights = {**WEIGHTS, **values}
    return np.array([[getattr(weights[kind], axis) for kind in KINDS] for axis in AXES])


def read_graded(folder: Path, block: Block, decoding: str) -> Graded:
    """Return the grades of answers to requests with two readings, samples averaged."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    weights = {name: as_array(values) for name, values in VALUES.items()}
    sums: dict[tuple[str, str, str], dict[tuple[int, str], list[float]]] = {}
    clusters: dict[str, str] = {}
    names = ["base", "dataset", "label", "metric", "decoding", "seed", "prompt_id", "cluster"]
    wanted = {"base": block.base, "dataset": block.dataset, "metric": GRADED, "decoding": decoding}
    with pq.ParquetFile(folder / ITEMS) as file:
        for group in range(file.num_row_groups):
            items = file.read_row_group(group, columns=[*names, "findings"])
            for name, value in wanted.items():
                items = items.filter(pc.equal(items[name], value))
            items = items.filter(pc.match_substring(items["findings"], f'"{MARK}"'))
            for label, seed, prompt, cluster, findings in columnwise(
                items, ["label", "seed", "prompt_id", "cluster", "findings"]
            ):
                clusters[prompt] = cluster
                found = np.array(amounts(findings))
                for name, matrix in weights.items():
                    grades = np.clip(matrix @ found, -1, 1)
                    for axis, grade in zip(AXES, grades, strict=True):
                        mine = sums.setdefault((label, name, axis), {})
                        mine.setdefault((seed, prompt), []).append(float(grade))
    return {
        key: Measured({k: sum(v) / len(v) for k, v in found.items()}, clusters)
        for key, found in sums.items()
    }


def people_table(matrix: Matrix, block: Block, folder: Path, name: str) -> Table | None:
    """Return each population's grades and what a row moved them; None outside the embedded world.

    None too where no request has two readings, or SFT is a hole.
    """
    decoding = next(iter(matrix.decodings), "")
    found = read_graded(folder, block, decoding) if matrix.facts["embedded_world"] else {}
    sft = matrix.reference
    if sft is None or not any(label == sft for label, _, _ in found):
        return None
    rows: list[list[Cell | str]] = []
    for label in matrix.labels:
        if matrix.gates.withheld(block, label) or not any(x == label for x, _, _ in found):
            continue
        cells: list[Cell | str] = [label]
        for axis in AXES:
            for who in POPULATIONS:
                mean = found[label, who, axis].estimate(is_rate=False)
                cells.append("" if mean is None else measured(mean))
            cells.append(parted(found, label, sft, axis))
        rows.append(cells)
    one, other = POPULATIONS
    note = (
        f"Requests with two readings alone, at {decoding}: there the populations {one} and {other} "
        "weigh caveats, refusals and unguarded answers differently. Parted: what the row gained "
        f"over {sft} in the eyes of {other} minus the same in the eyes of {one}, paired; above 0 "
        f"it moved towards {other}. Exploratory: not corrected."
    )
    heads = [
        head
        for axis in AXES
        for head in (*(f"{axis}: {who}" for who in POPULATIONS), f"{axis}: parted")
    ]
    return table("Grades by population", ["row", *heads], rows, note, name=name)


def parted(found: Graded, label: str, sft: str, axis: str) -> Cell | str:
    """Return how differently two populations see what a row changed."""
    if label == sft:
        return ""
    one, other = POPULATIONS
    difference = contrast(
        [
            (1, found[label, other, axis]),
            (-1, found[sft, other, axis]),
            (-1, found[label, one, axis]),
            (1, found[sft, one, axis]),
        ]
    )
    return "" if difference is None else measured(difference, sign=True)
