"""T4, the budget: what each row was given and spent, its share of what rows share, and alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.label_budget import KINDS
from harness.ledger import ENDPOINT
from harness.report.grid import Cell, Table, counted, table
from harness.report.tables import Block, Matrix, sums

PEOPLE = ("human", "oracle", "permuted", "labeller")
MODELS = ("ai", "ai_principle", "ai_revision", "ai_rating")
TUNING = ("tuning trials", "labels: tuning", "tuning")
COUNTED = {
    "tokens_generated": "tokens generated",
    "tokens_trained": "tokens trained",
    "optimiser_steps": "steps",
    "judge_calls": "judge calls",
}


def budget(matrix: Matrix, block: Block, name: str) -> Table:
    """Return the budget as means over seeds, and what the whole study cost once."""
    kinds = [kind for kind in KINDS if any(sums(matrix.cells, f"labels_{kind}"))] or ["human"]
    tuned = matrix.facts.get("trials", {}).get(f"{block.base}/{block.dataset}", {})
    rows = []
    for label in matrix.labels:
        cells = cells_of(matrix, block, label)
        row: list[Cell | str] = [label]
        row += [amount_cell(cells, f"labels_{kind}") for kind in kinds]
        row += [amount_cell(cells, "labels_used")]
        row += [amount_cell(cells, column) for column in COUNTED]
        for column in ("seconds_own", "seconds_with_share", "seconds_in_full"):
            row.append(seconds_cell(cells, column))
        peak = max(sums(cells, "peak_memory"), default=0.0)
        row += [counted(peak, memory(peak)), seconds_cell(cells, "evaluation_seconds")]
        row.append(amount_cell(cells, "evaluation_tokens_generated"))
        row += tuning_cells(tuned.get(label, {})) if tuned else []
        rows.append(row)
    total = duration(sum(sums(matrix.cells, "seconds_with_share")))
    note = (
        "Mean over seeds. Labels are judgements that training read, by who made them; all adds "
        "those that chose a checkpoint. Labels that a model replaced before training do not count. "
        "A contest or ranking is paid whole. Ratings are the labeller's grades of single answers. "
        "Judge calls count reward models and labellers alike. Own: stages no other row needs. With "
        "share: a stage that k cells need counts 1/k in each. In full: the method alone; so are "
        "the counts. Best-of-n pays when it is sampled, so its price stands under evaluation. "
        f"All policies of the study: {total}."
    )
    note += served(matrix)
    if tuned:
        note += " Tuning stands apart, over all of its seeds: trials, failed ones included."
    columns = [
        "row", *(f"labels: {kind}" for kind in kinds), "labels: all", *COUNTED.values(),
        "time: own", "time: with share", "time: in full", "peak memory", "time: evaluation",
        "tokens drawn there",
        *(TUNING if tuned else ()),
    ]  # fmt: skip
    return table("Budget", columns, rows, note, name=name)


def served(matrix: Matrix) -> str:
    """Return what judges and labellers behind a server cost the whole study, "" for none."""
    found = matrix.facts.get("endpoint", {}).values()
    total = {name: sum(one[name] for one in found) for name in ENDPOINT}
    said = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in total.items())
    return f" Served judges and labellers: {said}." if found else ""


def tuning_cells(spent: Mapping[str, float]) -> list[Cell]:
    """Return how many trials tuned a row, the judgements that scored them, and their time."""
    trials, labels, seconds = (spent.get(name, 0.0) for name in ("trials", "labels", "seconds"))
    return [
        counted(trials, amount(trials)),
        counted(labels, amount(labels)),
        counted(seconds, duration(seconds)),
    ]


def cells_of(matrix: Matrix, block: Block, label: str) -> list[dict[str, str]]:
    """Return the cells of one row, a seed each."""
    key = (*block, label)
    return [c for c in matrix.cells if (c["base"], c["dataset"], c["label"]) == key]


def seconds_of(matrix: Matrix, block: Block, label: str) -> float:
    """Return what a row costs alone, in seconds, as the mean over its seeds."""
    return mean(sums(cells_of(matrix, block, label), "seconds_in_full"))


def labels_of(matrix: Matrix, block: Block, label: str, who: str) -> Cell:
    """Return the judgements a row was trained on, made by people (or in their place) or by AI."""
    cells = cells_of(matrix, block, label)
    kinds = PEOPLE if who == "people" else MODELS
    total = sum(mean(sums(cells, f"labels_{kind}")) for kind in kinds)
    return counted(total, amount(total))


def amount_cell(cells: Sequence[dict[str, str]], column: str) -> Cell:
    """Return the mean of a count."""
    value = mean(sums(cells, column))
    return counted(value, amount(value))


def seconds_cell(cells: Sequence[dict[str, str]], column: str) -> Cell:
    """Return the mean of a duration."""
    value = mean(sums(cells, column))
    return counted(value, duration(value))


def mean(values: Sequence[float]) -> float:
    """Return the mean, 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def duration(seconds: float) -> str:
    """Return seconds as a reader says them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def amount(count: float) -> str:
    """Return a count, shortened from a million on."""
    return f"{count / 1e6:.2f} M" if count >= 1e6 else f"{count:,.0f}"


def memory(size: float) -> str:
    """Return bytes as mebibytes or gibibytes, nothing for an unknown peak."""
    if not size:
        return ""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
