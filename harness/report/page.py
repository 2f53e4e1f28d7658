"""The report as a page and as Markdown: the same sections, rendered twice."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.plain_text import clean, one_line
from harness.report import ledgers
from harness.report.figures import Picture, draw
from harness.report.tables import Block, Entry, Matrix, Metric
from harness.report.words import answer, lead, warnings, with_interval
from harness.results import write
from harness.statistics import METHOD_SEEDS

PAGE, MARKDOWN = "report.html", "report.md"
TEMPLATES = Path(__file__).parent / "templates"
WIDTH = 100  # columns of the Markdown's paragraphs
# Markup in running text; `a < b`, `snake_case` and a lone asterisk have no meaning to Markdown.
MARKUP = re.compile(r"([\\`|]|\](?=[(\[:])|<(?=\S)|(?<=\S)>|\*(?=\S)|(?<=\S)\*|(?<!\w)_|_(?!\w))")


@dataclass(frozen=True)
class Table:
    """A table as text: one title, column names, rows of cells, and what to know to read it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    anchor: str = ""


@dataclass(frozen=True)
class Comparison:
    """What is said of one block: the answer, warnings, the figure, tables and ledgers."""

    name: str
    answer: Sequence[str]
    warnings: Sequence[str]
    picture: Picture | None
    headline: Sequence[Table]
    control: Table
    cost: Table
    rest: Sequence[Table]


@dataclass(frozen=True)
class Report:
    """The whole report, before it is rendered."""

    study: str
    note: str
    lead: Sequence[str]
    methods: Table
    comparisons: Sequence[Comparison]
    completeness: Table
    examples: Sequence[dict[str, Any]] = field(default=())
    provenance: Sequence[Table] = field(default=())

    def write(self, folder: Path) -> None:
        """Render both forms into a folder, each whole or not at all."""
        write(folder / PAGE, render("report.html.j2", self, autoescape=True))
        markdown = render("report.md.j2", self, autoescape=False)
        write(folder / MARKDOWN, re.sub(r"\n{3,}", "\n\n", markdown).strip() + "\n")


def build(matrix: Matrix, figures: Path) -> Report:
    """Return the report of a results folder; its figures are written into `figures`."""
    facts = matrix.facts
    return Report(
        study=facts["study"],
        note=one_line(facts["note"], longest=2000),
        lead=list(lead(matrix)),
        methods=Table("Rows", *ledgers.methods(matrix)),
        comparisons=[compare(matrix, block, figures) for block in matrix.blocks],
        completeness=Table("Completeness", *ledgers.completeness(matrix)),
        examples=[in_order(example, matrix.labels) for example in facts["examples"]],
        provenance=[Table(*parts) for parts in ledgers.provenance(matrix)],
    )


def in_order(example: dict[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """Return an example with its answers in the order of the rows."""
    answers = example["answers"]
    return {**example, "answers": {label: answers[label] for label in labels if label in answers}}


def compare(matrix: Matrix, block: Block, figures: Path) -> Comparison:
    """Return everything about one block."""
    first = headline_metrics(matrix)
    rest = [metric for metric in matrix.metrics.values() if metric not in first]
    return Comparison(
        name=f"base {block.base}, dataset {block.dataset}",
        answer=answer(matrix, block),
        warnings=list(warnings(matrix, block)),
        picture=draw(matrix, block, figures),
        headline=[metric_table(matrix, block, metric) for metric in first],
        control=Table("Control ledger", *ledgers.control_table(matrix, block)),
        cost=Table("Cost ledger", *ledgers.cost(matrix, block)),
        rest=[metric_table(matrix, block, metric) for metric in rest],
    )


def headline_metrics(matrix: Matrix) -> list[Metric]:
    """Return the co-primary metrics, then every other suite's primary one."""
    first = matrix.co_primary()
    others = [m for m in matrix.metrics.values() if m.primary and m not in first]
    return [*first, *others]


def metric_table(matrix: Matrix, block: Block, metric: Metric) -> Table:
    """Return one metric of all rows: each decoding's value and paired difference to SFT, and n."""
    measures = matrix.measures(block, metric)
    named = [m.population for m in measures]
    columns = ["row"]
    for measure in measures:
        shown = measure.decoding + (f", {measure.population}" if any(named) else "")
        columns += [shown, f"minus {matrix.reference}"] if matrix.reference else [shown]
    rows = []
    for label in matrix.labels:
        entries = [matrix.entries[block, label, measure] for measure in measures]
        cells = [label]
        for entry in entries:
            cells += entry_cells(matrix, block, entry)
        rows.append([*cells, sizes(matrix, entries)])
    better = "higher is better" if metric.higher_is_better else "lower is better"
    judges = sorted({measure.judge for measure in measures if measure.judge})
    by = f"; graded by {', '.join(judges)}" if judges else ""
    return Table(
        title=f"{metric.name} ({metric.axis})",
        columns=[*columns, "n"],
        rows=rows if measures else [],
        note=f"{metric.description}; {better}{by}." if measures else "Not measured yet.",
        anchor=metric.name,
    )


def entry_cells(matrix: Matrix, block: Block, entry: Entry) -> list[str]:
    """Return value and difference of one entry as text; a hole says why it is one."""
    if entry.value is None:
        state = matrix.state_of(block, entry.label)
        value = "no item" if state == "done" else f"hole: {state}"
    else:
        value = with_interval(entry.value)
    if matrix.reference is None:
        return [value]
    if entry.difference is None:
        return [value, "" if entry.label == matrix.reference else "n/a"]
    star = " *" if entry.significant else ""
    return [value, with_interval(entry.difference, sign=True) + star]


def sizes(matrix: Matrix, entries: Sequence[Entry]) -> str:
    """Return how many prompts a row's values rest on, with its clusters and seeds.

    A row that lost so many seeds that it claims less than the study's others says so.
    """
    expected = "method" if len(matrix.facts["seeds"]) >= METHOD_SEEDS else "checkpoint"
    shown = []
    for entry in entries:
        found = entry.value
        if found is not None:
            seeds = f", {found.seeds} seeds" if found.seeds > 1 else ""
            clusters = f" in {found.clusters} clusters" if 1 < found.clusters < found.n else ""
            clusters = clusters or (" in 1 cluster" if found.clusters < found.n else "")
            less = "" if found.claim == expected else ", checkpoint-level only"
            shown.append(f"{found.n}{clusters}{seeds}{less}")
    return "; ".join(dict.fromkeys(shown))


def render(template: str, report: Report, *, autoescape: bool) -> str:
    """Return a report through one of our templates; on the page, text can never be markup."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=autoescape,  # noqa: S701  (the Markdown escapes through its own filters)
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "clean": clean,
        "paragraph": paragraph,
        "markdown_table": markdown_table,
        "quoted": quoted,
        "svg": lambda picture: Markup(picture.svg),  # noqa: S704  (drawn by us, from escaped text)
    }
    return environment.get_template(template).render(report=report)


def paragraph(text: str) -> str:
    """Return text as a paragraph of Markdown, wrapped, with its markup disarmed."""
    return textwrap.fill(disarm(clean(text)), WIDTH, break_long_words=False, break_on_hyphens=False)


def disarm(text: str) -> str:
    """Return text in which Markdown and HTML see no markup."""
    return MARKUP.sub(r"\\\1", text)


def quoted(text: str, indent: int = 4) -> str:
    """Return text as a Markdown code block by indentation, which no content can leave."""
    return textwrap.indent(clean(text) or "(empty)", " " * indent, lambda line: True)


def markdown_table(table: Table) -> str:
    """Return a Markdown table whose columns line up in a terminal too."""
    lines = [[disarm(one_line(cell, longest=400)) for cell in row] for row in table.rows]
    head = [disarm(name) for name in table.columns]
    widths = [max(len(row[i]) for row in [head, *lines]) for i in range(len(head))]
    rule = ["-" * max(width, 3) for width in widths]
    padded = [
        " | ".join(cell.ljust(max(width, 3)) for cell, width in zip(row, widths, strict=True))
        for row in [head, rule, *lines]
    ]
    return "\n".join(f"| {line} |" for line in padded)
