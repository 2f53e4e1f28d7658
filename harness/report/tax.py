"""T5, the alignment tax: what each method lost or won on each task, against SFT and against base.

The average is over tasks, not items: tasks are fixed and equally heavy, items within them random.
A task on which the base is at chance says nothing about skill and leaves the average.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from harness.multiplicity import Contrast, equivalence_p, equivalent, family, tax
from harness.report.grid import Cell, Table, detectable, measured, table
from harness.report.tables import Block, Matrix, Measure, Metric, at_chance
from harness.report.words import margin, number, p_value
from harness.statistics import Estimate, Key, summary

K = TypeVar("K")
Pairs = tuple[Mapping[Key, float], Mapping[str, str]]  # differences, so that higher is better


def tax_tables(matrix: Matrix, block: Block, name: str) -> list[Table]:
    """Return the average over tasks of every row against SFT and base, then every single task.

    One task alone has no average; without tasks there is no table.
    """
    tasks = [(m, measure) for m in skills(matrix) for measure in matrix.measures(block, m)]
    against = [x for x in (matrix.reference, matrix.bare) if x is not None]
    if not tasks or not against:
        return []
    means: list[list[Cell | str]] = []
    rows: list[list[Cell | str]] = []
    counted = informative(matrix, block)
    chance = at_chance(matrix, block)
    columns = ["row", "task", *(c for other in against for c in (f"minus {other}", "MDE", "tax"))]
    average = {other: judged(averages(matrix, block, other), matrix) for other in against}
    single = {other: task_column(matrix, block, other) for other in against}
    for label in matrix.labels:
        if len(counted) > 1:
            parts = [part for other in against for part in average[other].get(label, BLANK)]
            means.append([label, Cell(f"average of {len(counted)} tasks", kind="average"), *parts])
    for label in matrix.labels:
        for metric, measure in tasks:
            said = metric.name + (" (base at chance)" if metric.name in chance else "")
            parts = [p for other in against for p in single[other].get((label, measure), BLANK)]
            rows.append([label, said, *parts])
    said = note(matrix, block, chance)
    if not means:
        return [table("Alignment tax", columns, rows, said, name=name)]
    return [
        table("Alignment tax", columns, means, said, name=name),
        table("Alignment tax, task by task", columns, rows, said, name=f"{name}_tasks"),
    ]


SAME = "the same on every item"
BLANK: tuple[Cell, Cell, Cell] = (Cell(""), Cell(""), Cell(""))


def note(matrix: Matrix, block: Block, chance: Mapping[str, float]) -> str:
    """Return how to read the tax."""
    wide = number(margin(matrix))
    said = (
        f"Differences so that higher is better, paired by item. No loss: the 90 % interval lies "
        f"within ±{wide}, the study's margin (two one-sided tests of that row alone, whose larger "
        "p is given). "
        "Loss or gain: Holm's p over the rows (and tasks) is at most .05. Undecided: "
        "neither. The same on every item: as with equal weights, which likelihoods are read from. "
        "Averages are over tasks."
    )
    names = [m.name for m, _ in informative(matrix, block)]
    if len(names) > 1:
        said += f" In the average: {', '.join(names)}."
    if chance:
        said += f" Left out, since the base is at chance on them: {', '.join(chance)}."
    elif matrix.bare is None:
        said += " The study has no base row, so nobody knows on which tasks the base is at chance."
    return said


def skills(matrix: Matrix) -> list[Metric]:
    """Return the metrics of capability, in the order declared."""
    return [metric for metric in matrix.metrics.values() if metric.axis == "capability"]


def informative(matrix: Matrix, block: Block) -> list[tuple[Metric, Measure]]:
    """Return the tasks of the average: shares, above chance for the base, none a pool of others."""
    found = [
        (metric, measure, prompts_of(matrix, block, measure))
        for metric in skills(matrix)
        if metric.is_rate and metric.name not in at_chance(matrix, block)
        for measure in matrix.measures(block, metric)
    ]
    every = [
        prompts_of(matrix, block, measure)
        for metric in skills(matrix)
        for measure in matrix.measures(block, metric)
    ]
    return [(m, measure) for m, measure, mine in found if not any(x < mine for x in every if x)]


def prompts_of(matrix: Matrix, block: Block, measure: Measure) -> frozenset[str]:
    """Return the items of a task, whoever answered them."""
    found = [matrix.measured(block, label, measure) for label in matrix.labels]
    return frozenset(prompt for each in found if each is not None for _, prompt in each.values)


def gains(
    matrix: Matrix, block: Block, label: str, other: str, metric: Metric, measure: Measure
) -> Pairs | None:
    """Return a row's item-wise gains over another, None where they share no item."""
    ours, theirs = (matrix.measured(block, x, measure) for x in (label, other))
    if matrix.gates.withheld(block, label, other):
        return None
    if label == other or ours is None or theirs is None:
        return None
    found = {
        key: metric.gain(value - theirs.values[key])
        for key, value in ours.values.items()
        if key in theirs.values
    }
    return (found, {**theirs.clusters, **ours.clusters}) if found else None


def macro(tasks: Sequence[Pairs]) -> Estimate | None:
    """Return the mean over tasks of their mean differences, with tasks fixed and items random.

    Each item's deviation from its task's mean is weighted by N / (T n_t), so that the mean over all
    N items is the mean over the T tasks, and the usual variance of seeds and clusters holds.
    """
    seeds = set.intersection(*({seed for seed, _ in values} for values, _ in tasks))
    kept: list[tuple[int, dict[Key, float], Mapping[str, str]]] = []
    for i, (values, clusters) in enumerate(tasks):
        prompts = {prompt for _, prompt in values}
        whole = {p for p in prompts if all((s, p) in values for s in seeds)}
        kept.append((i, {(s, p): values[s, p] for s in seeds for p in whole}, clusters))
    if not seeds or not all(values for _, values, _ in kept):
        return None
    means = [sum(values.values()) / len(values) for _, values, _ in kept]
    centre, total = sum(means) / len(means), sum(len(values) for _, values, _ in kept)
    joined: dict[Key, float] = {}
    groups: dict[str, str] = {}
    for (i, values, clusters), mean in zip(kept, means, strict=True):
        weight = total / (len(kept) * len(values))
        for (seed, prompt), value in values.items():
            joined[seed, f"{i}/{prompt}"] = centre + weight * (value - mean)
            groups[f"{i}/{prompt}"] = f"{i}/{clusters[prompt]}"
    return summary(joined, groups)


def averages(matrix: Matrix, block: Block, other: str) -> dict[str, Estimate]:
    """Return each row's average change over the informative tasks against another row."""
    found, tasks = {}, informative(matrix, block)
    for label in matrix.labels:
        parts = [gains(matrix, block, label, other, *task) for task in tasks]
        whole = [part for part in parts if part is not None]
        if whole and len(whole) == len(parts) and (one := macro(whole)) is not None:
            found[label] = one
    return found


def task_column(
    matrix: Matrix, block: Block, other: str
) -> dict[tuple[str, Measure], tuple[Cell, Cell, Cell]]:
    """Return difference, MDE and verdict of each row and task."""
    found = {}
    for metric in skills(matrix):
        for measure in matrix.measures(block, metric):
            for label in matrix.labels:
                pairs = gains(matrix, block, label, other, metric, measure)
                if pairs is not None:
                    found[label, measure] = summary(*pairs)
    return judged(found, matrix)


def average_verdicts(matrix: Matrix, block: Block) -> dict[str, str]:
    """Return the verdict on each row's average change over the tasks against SFT."""
    if matrix.reference is None or len(informative(matrix, block)) < 2:
        return {}
    found = averages(matrix, block, matrix.reference)
    wide = margin(matrix)
    contrasts = zip(found, family(list(found.values())), strict=True)
    return {label: tax_said(contrast, wide) for label, contrast in contrasts}


def tax_said(contrast: Contrast, wide: float) -> str:
    """Return the verdict; a row that answers every item alike has paid nothing to be tested."""
    is_same = contrast.gain.value == 0 and contrast.gain.stderr == 0
    return SAME if is_same else tax(contrast, wide)


def judged(found: Mapping[K, Estimate], matrix: Matrix) -> dict[K, tuple[Cell, Cell, Cell]]:
    """Return the cells of a family of differences, Holm-adjusted over the family."""
    contrasts = zip(found.items(), family(list(found.values())), strict=True)
    return {
        key: (measured(e, sign=True), detectable(e), verdict_cell(contrast, margin(matrix)))
        for (key, e), contrast in contrasts
    }


def verdict_cell(contrast: Contrast, wide: float) -> Cell:
    """Return the verdict; where it says that a row lies within the margin, with that test's p."""
    said = tax_said(contrast, wide)
    if said == SAME or not equivalent(contrast.gain, wide):
        return Cell(said)
    return Cell(f"{said} (p {p_value(equivalence_p(contrast.gain, wide))})")
