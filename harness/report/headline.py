"""T1 and the tables of single metrics: what each row scored, and how it differs from SFT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.multiplicity import discoveries
from harness.report.costs import labels_of, seconds_of
from harness.report.gates import WITHHELD
from harness.report.grid import Cell, Table, counted, detectable, measured, sizes, slug, table
from harness.report.parity import badge
from harness.report.tables import Block, Entry, Matrix, Measure, Metric
from harness.report.tax import averages
from harness.statistics import ALPHA, METHOD_SEEDS

# Over-refusal always stands beside safety, and length beside a win rate.
BESIDE = (
    "win_rate", "judged_win_rate", "harmful_compliance", "over_refusal", "length", "kl_to_sft",
)  # fmt: skip
DAGGER = " †"
EXPLORED = (
    " Exploratory: † marks a difference that stands at a false discovery rate of 5 % within this "
    "table (Benjamini and Hochberg 1995)."
)


def headline(matrix: Matrix, block: Block) -> Table:
    """Return T1 under the study's first decoding: both primaries, what stands beside, and costs."""
    decoding = next(iter(matrix.decodings), "")
    tested = [m for metric in matrix.co_primary() for m in under(matrix, block, metric, decoding)]
    beside = [
        m
        for name in BESIDE
        for metric in first_named(matrix, name)
        for m in under(matrix, block, metric, decoding)
    ]
    columns = ["row"]
    for measure in tested:
        columns.append(measure.metric)
        columns += [f"minus {matrix.reference}", "MDE"] if matrix.reference else []
    columns += [measure.metric for measure in beside]
    columns += ["capability lost or won", "seconds in full", "labels: people", "labels: AI"]
    columns.append("held equal")
    average = averages(matrix, block, matrix.reference) if matrix.reference else {}
    rows = []
    for label in matrix.labels:
        cells: list[Cell | str] = [label]
        for measure in tested:
            cells += entry_cells(matrix, block, matrix.entries[block, label, measure])
        cells += [value_cell(matrix, block, matrix.entries[block, label, m]) for m in beside]
        cells.append(measured(average[label], sign=True) if label in average else "")
        seconds = seconds_of(matrix, block, label)
        cells.append(counted(seconds, f"{seconds:,.0f}"))
        cells += [labels_of(matrix, block, label, who) for who in ("people", "AI")]
        rows.append([*cells, badge(matrix, block, label)])
    note = (
        f"Answers drawn at {decoding}. Capability is the average change of the informative tasks "
        f"against {matrix.reference or 'SFT'}. MDE: the smallest difference found with 80 % power. "
        "Held equal: base, start, data, decoding, labels, judge, seeds and trials; what differs is "
        "listed under Parity. Rows stand in the order of the study, which is no order of merit."
    )
    return table("Headline", columns, rows if matrix.series else [], note, name=named("t1", block))


def named(start: str, block: Block) -> str:
    """Return the name of a block's table."""
    return f"{start}_{slug(block.base)}_{slug(block.dataset)}"


def first_named(matrix: Matrix, name: str) -> list[Metric]:
    """Return the first metric of a name, unless it is tested already: suites may share names."""
    tested = matrix.co_primary()
    found = [m for m in matrix.metrics.values() if m.name == name and m not in tested]
    return found[:1]


def under(matrix: Matrix, block: Block, metric: Metric, decoding: str) -> list[Measure]:
    """Return a metric's measures under one decoding, over the whole population."""
    found = [m for m in matrix.measures(block, metric) if m.decoding == decoding]
    return [m for m in found if not m.population] or found


def headline_metrics(matrix: Matrix) -> list[Metric]:
    """Return the co-primary metrics, then every other suite's primary one."""
    first = matrix.co_primary()
    others = [m for m in matrix.metrics.values() if m.primary and m not in first]
    return [*first, *others]


def metric_table(matrix: Matrix, block: Block, metric: Metric) -> Table:
    """Return one metric of all rows: value, paired difference to SFT with its MDE, and n."""
    measures = matrix.measures(block, metric)
    grouped = any(m.population for m in measures)
    judges = sorted({measure.judge for measure in measures if measure.judge})
    columns = ["row"]
    for measure in measures:
        shown = measure.decoding + (f", {measure.population or 'all'}" if grouped else "")
        shown += f" by {measure.judge}" if len(judges) > 1 else ""
        columns += [shown, *([f"minus {matrix.reference}", "MDE"] if matrix.reference else [])]
    found = explored(matrix, block, metric, measures)
    rows = []
    for label in matrix.labels:
        entries = [matrix.entries[block, label, measure] for measure in measures]
        cells: list[Cell | str] = [label]
        for entry in entries:
            cells += entry_cells(matrix, block, entry, mark=DAGGER * (entry in found))
        rows.append([*cells, row_sizes(matrix, entries)])
    better = "higher is better" if metric.higher_is_better else "lower is better"
    by = f"; graded by {', '.join(judges)}" if judges else ""
    return table(
        f"{metric.name} ({metric.axis})",
        [*columns, "n"],
        rows if measures else [],
        f"{metric.description}; {better}{by}.{EXPLORED * bool(found)}"
        if measures
        else "Not measured yet.",
        name=named(f"metric_{metric.suite}_{metric.name}", block),
    )


def explored(
    matrix: Matrix, block: Block, metric: Metric, measures: Sequence[Measure]
) -> list[Entry]:
    """Return the entries of an exploratory metric that stand at a false discovery rate of 5 %."""
    entries = [matrix.entries[block, x, measure] for x in matrix.tested for measure in measures]
    known = [entry for entry in entries if entry.difference is not None]
    if metric in matrix.co_primary():
        return []
    adjusted = discoveries([entry.difference.p for entry in known if entry.difference])
    return [entry for entry, p in zip(known, adjusted, strict=True) if p <= ALPHA]


def entry_cells(matrix: Matrix, block: Block, entry: Entry, *, mark: str = "") -> list[Cell | str]:
    """Return value, difference and MDE of one entry; `mark` is of an exploratory difference."""
    value = value_cell(matrix, block, entry)
    if matrix.reference is None:
        return [value]
    if entry.difference is None:
        missing = matrix.gates.withheld(block, entry.label, matrix.reference)
        if entry.measure.judge in matrix.gates.judges:
            missing = WITHHELD
        missing = missing or "n/a"
        return [value, "" if entry.label == matrix.reference else missing, ""]
    cell = measured(
        entry.difference,
        sign=True,
        mark=" *" if entry.significant else mark,
        source=matrix.source(block, entry.label, entry.measure.suite),
        anchor=anchor(block, entry.label),
    )
    return [value, cell, detectable(entry.difference)]


def value_cell(matrix: Matrix, block: Block, entry: Entry) -> Cell | str:
    """Return the value of one entry; a hole says why it is one."""
    if entry.value is None:
        if entry.measure.judge in matrix.gates.judges:
            return WITHHELD
        state = matrix.state_of(block, entry.label)
        return "no item" if state == "done" else f"hole: {state}"
    source = matrix.source(block, entry.label, entry.measure.suite)
    return measured(entry.value, source=source, anchor=anchor(block, entry.label))


def anchor(block: Block, label: str) -> str:
    """Return the id of the place that says where a row's numbers came from."""
    return f"from_{slug('/'.join((*block, label)))}"


def traced(matrix: Matrix, block: Block, found: Table, axis: str) -> Table:
    """Return a table whose estimates name the scores of an axis they are from, and lead there.

    Rows are known by their first cell; cells that lead somewhere already stay as they are.
    """
    suites = dict.fromkeys(m.suite for m in matrix.metrics.values() if m.axis == axis)
    rows = []
    for first, *rest in found.rows:
        label = first.text
        if label not in matrix.roles:
            rows.append([first, *rest])
            continue
        ids = ", ".join(filter(None, (matrix.source(block, label, suite) for suite in suites)))
        place = anchor(block, label)
        rows.append([first, *(leading(cell, place, ids) for cell in rest)])
    return replace(found, rows=rows)


def leading(cell: Cell, place: str, ids: str) -> Cell:
    """Return a cell that leads to where its estimate is from; others as they are."""
    if cell.estimate is None or cell.anchor:
        return cell
    return replace(cell, anchor=place, detail=f"{cell.detail}; from {ids}" if ids else cell.detail)


def row_sizes(matrix: Matrix, entries: Sequence[Entry]) -> str:
    """Return how many prompts a row's values rest on, with its clusters and seeds.

    A row that lost so many seeds that it claims less than the study's others says so.
    """
    expected = "method" if len(matrix.facts["seeds"]) >= METHOD_SEEDS else "checkpoint"
    shown = []
    for entry in entries:
        found = entry.value
        if found is not None:
            less = "" if found.claim == expected else ", checkpoint-level only"
            text = sizes(found).removeprefix("n = ")
            shown.append(text.removesuffix(", 1 seed") + less)
    return "; ".join(dict.fromkeys(shown))


__all__ = ["anchor", "headline", "headline_metrics", "metric_table", "named", "traced"]
