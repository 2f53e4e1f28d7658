"""The report as a page and as Markdown: the same sections, rendered twice."""

from __future__ import annotations

import base64
import hashlib
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.plain_text import clean, one_line
from harness.rating_folder import RATINGS
from harness.report import ledgers
from harness.report.answers import browser_data, hex_of, json_block, lines_of
from harness.report.costs import budget
from harness.report.figures import Picture, draw_all, palette
from harness.report.grid import Table
from harness.report.headline import headline, headline_metrics, metric_table, named, traced
from harness.report.judging import judge_table, judge_warnings, order_table
from harness.report.labellers import labeller_table
from harness.report.lengths import dumbbell, rates_of, win_table
from harness.report.paired import matrix_table
from harness.report.parity import parity_table
from harness.report.readings import Readings, block_readings, study_readings
from harness.report.reward_models import reward_table
from harness.report.rows_read import digest_table, paired_table, read_table
from harness.report.split import split_table
from harness.report.summary import summary
from harness.report.table_files import write_tables
from harness.report.tables import Block, Matrix
from harness.report.tax import tax_tables
from harness.report.words import answer, lead, warnings
from harness.results import write

REPORT = "report.md"  # of the ratings, in their folder
PAGE, MARKDOWN, SCRIPT = "report.html", "report.md", "report.js"
TEMPLATES = Path(__file__).parent / "templates"
WIDTH = 100  # columns of the Markdown's paragraphs
# Markup in running text; `a < b`, `snake_case` and a lone asterisk have no meaning to Markdown.
MARKUP = re.compile(r"([\\`|]|\](?=[(\[:])|<(?=\S)|(?<=\S)>|\*(?=\S)|(?<=\S)\*|(?<!\w)_|_(?!\w))")


@dataclass(frozen=True)
class Comparison:
    """What is said of one block: the answer, warnings, figures, tables and ledgers."""

    name: str
    summary: Sequence[str]
    answer: Sequence[str]
    warnings: Sequence[str]
    pictures: Sequence[Picture]
    first: Table
    headline: Sequence[Table]
    paired: Sequence[Table]
    tax: Sequence[Table]
    split: Table | None
    wins: Table | None
    orders: Table | None
    readings: Readings
    control: Table
    parity: Table | None
    budget: Table
    rest: Sequence[Table]

    @property
    def more(self) -> list[Table]:
        """What follows the comparison with SFT: all pairs, tax, safety, win rates."""
        beside = [self.split, self.wins, self.orders]
        some = [*self.paired, *self.tax, *beside, *self.readings.tables]
        return [t for t in some if t is not None]

    @property
    def tables(self) -> list[Table]:
        """All tables, in the order of the page."""
        return [
            *(self.first, *self.headline, *self.more, self.control),
            *filter(None, [self.parity]),
            self.budget,
            *self.rest,
        ]


@dataclass(frozen=True)
class Report:
    """The whole report, before it is rendered."""

    study: str
    note: str
    lead: Sequence[str]
    methods: Table
    comparisons: Sequence[Comparison]
    completeness: Table
    rows_read: Table | None = None
    pairs_made: Table | None = None
    labellers: Table | None = None
    reward_models: Table | None = None
    ratings: str = ""
    readings: Readings = field(default_factory=Readings)
    judges: Table | None = None
    examples: Sequence[dict[str, Any]] = field(default=())
    provenance: Sequence[Table] = field(default=())
    browser: dict[str, Any] | None = None
    colours: Mapping[str, str] = field(default_factory=dict)

    @property
    def tables(self) -> list[Table]:
        """All tables, in the order of the page."""
        compared = [table for block in self.comparisons for table in block.tables]
        judges = filter(None, [self.judges, self.labellers, self.reward_models])
        compared += self.readings.tables
        read = filter(None, [self.rows_read, self.pairs_made])
        whole = [self.completeness, *read, self.methods]
        return [*compared, *judges, *whole, *self.provenance]

    @property
    def browser_note(self) -> str:
        """What the sample browser shows and leaves out."""
        return " ".join(lines_of(self.browser)) if self.browser else ""

    def write(self, folder: Path) -> None:
        """Render both forms and the tables into a folder, each whole or not at all."""
        write_tables(folder, self.tables)
        write(folder / PAGE, render("report.html.j2", self, autoescape=True))
        markdown = render("report.md.j2", self, autoescape=False)
        write(folder / MARKDOWN, re.sub(r"\n{3,}", "\n\n", markdown).strip() + "\n")


def build(matrix: Matrix, folder: Path) -> Report:
    """Return the report of a results folder; its figures are written into `figures` there."""
    facts = matrix.facts
    colours = [hex_of(colour) for colour in palette(len(matrix.labels))]
    return Report(
        study=facts["study"],
        note=one_line(facts["note"], longest=2000),
        lead=[*judge_warnings(matrix.gates.cards), *matrix.gates.sentences, *lead(matrix)],
        methods=ledgers.methods(matrix),
        comparisons=[compare(matrix, block, folder) for block in matrix.blocks],
        completeness=ledgers.completeness(matrix),
        rows_read=read_table(matrix),
        pairs_made=paired_table(matrix),
        labellers=labeller_table(matrix),
        reward_models=reward_table(matrix),
        ratings=f"{RATINGS}/{REPORT}" if (folder / RATINGS / REPORT).is_file() else "",
        readings=study_readings(matrix, folder),
        judges=judge_table(matrix.gates.cards),
        examples=[in_order(example, matrix.labels) for example in facts["examples"]],
        provenance=[*ledgers.provenance(matrix), *filter(None, [digest_table(matrix)])],
        browser=browser_data(matrix, folder),
        colours=dict(zip(matrix.labels, colours, strict=True)),
    )


def in_order(example: dict[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """Return an example with its answers in the order of the rows."""
    answers = example["answers"]
    return {**example, "answers": {label: answers[label] for label in labels if label in answers}}


def compare(matrix: Matrix, block: Block, folder: Path) -> Comparison:
    """Return everything about one block."""
    first = headline_metrics(matrix)
    rest = [metric for metric in matrix.metrics.values() if metric not in first]
    readings = block_readings(matrix, block, folder)
    rates = rates_of(matrix, block, folder)
    split = split_table(matrix, block, named("t8_safety", block))
    wins = win_table(rates, named("win_rates", block))
    by_length = filter(None, [dumbbell(matrix, block, rates, folder / "figures")])
    return Comparison(
        name=f"base {block.base}, dataset {block.dataset}",
        summary=list(summary(matrix, block)),
        answer=answer(matrix, block),
        warnings=list(warnings(matrix, block)),
        pictures=[*draw_all(matrix, block, folder / "figures"), *by_length, *readings.pictures],
        first=headline(matrix, block),
        headline=[metric_table(matrix, block, metric) for metric in first],
        paired=list(paired_tables(matrix, block)),
        tax=[
            traced(matrix, block, one, "capability")
            for one in tax_tables(matrix, block, named("t5_tax", block))
        ],
        split=traced(matrix, block, split, "safety") if split else None,
        wins=traced(matrix, block, wins, "helpfulness") if wins else None,
        orders=order_table(matrix, block),
        readings=readings,
        control=ledgers.control_table(matrix, block, named("t3_control", block)),
        parity=parity_table(matrix, block, named("t3_parity", block)),
        budget=budget(matrix, block, named("t4_budget", block)),
        rest=[metric_table(matrix, block, metric) for metric in rest],
    )


def paired_tables(matrix: Matrix, block: Block) -> Iterator[Table]:
    """Yield T2 for each primary metric and decoding."""
    for metric in matrix.co_primary():
        for measure in matrix.measures(block, metric):
            found = matrix_table(matrix, block, metric, measure)
            if found is not None:
                yield traced(matrix, block, found, metric.axis)


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
        "json_block": lambda data: Markup(json_block(data)),  # noqa: S704  (cannot close its tag)
    }
    script = (TEMPLATES / SCRIPT).read_text(encoding="utf-8")
    return environment.get_template(template).render(
        report=report,
        colours=report.colours,
        script=Markup(script),  # noqa: S704  (a file of ours)
        script_digest=policy_digest(script),
    )


def policy_digest(script: str) -> str:
    """Return a script as a content security policy names it."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


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
    texts = [[cell.brief or cell.text for cell in row] for row in table.rows]
    lines = [[disarm(one_line(text, longest=400)) for text in row] for row in texts]
    head = [disarm(name) for name in table.columns]
    widths = [max(len(row[i]) for row in [head, *lines]) for i in range(len(head))]
    rule = ["-" * max(width, 3) for width in widths]
    padded = [
        " | ".join(cell.ljust(max(width, 3)) for cell, width in zip(row, widths, strict=True))
        for row in [head, rule, *lines]
    ]
    return "\n".join(f"| {line} |" for line in padded)
