"""What people prefer, as files: win rates, raters, agreement, and rows that statistics can read.

Written into `ratings/` of a results folder, from the key, the ratings and `items.parquet` alone.
`items.parquet` and `scores.csv` there have the columns of the study's own, with "people" as judge.
Answers to test prompts are behind every judgement, so none is offered as a preference to train on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from harness.goals import AXES
from harness.plain_text import csv_text, one_line
from harness.rating_correction import corrected
from harness.rating_files import QUESTIONS, read_ratings
from harness.rating_folder import RATINGS, read_key
from harness.rating_judges import Table, against_judges, among_raters
from harness.rating_kit import ALL
from harness.rating_ladder import ladder_table
from harness.ratings import (
    JUDGE,
    PASS,
    Judgement,
    Rater,
    WinRate,
    consistency,
    p_against_half,
    raters_of,
    require_known,
    unblind,
    win_rates,
)
from harness.report.page import disarm
from harness.results import ITEM_COLUMNS, ITEMS, SCORE_COLUMNS, SCORES, TEXTS, WHOLE, replacing
from harness.results import write as write_text
from harness.statistics import holm
from harness.study import Study
from harness.study_file import InputError

REPORT = "report.md"
SUITE = "people"
AXIS = {"helpful": "helpfulness", "safe": "safety"}
SHORT = 12  # characters of a file's digest
JUDGEMENTS = (
    "base", "dataset", "seed", "label", "opponent", "prompt_id", "cluster", "tag", "axis", "rater",
    "population", "preference", "ours", "repeat",
)  # fmt: skip


@dataclass(frozen=True)
class People:
    """Everything an import found: who rated, what they chose, and what follows from it."""

    key: Mapping[str, Any]
    files: Sequence[Path]
    raters: Sequence[Rater]
    judgements: Sequence[Judgement]
    rates: Sequence[WinRate]
    methods: Mapping[str, str]  # the method behind each label
    redrawn: Sequence[str]  # cells whose answers are others now than the kit showed

    @property
    def kept(self) -> list[Rater]:
        """The raters that count."""
        return [rater for rater in self.raters if rater.kept]


def import_ratings(study: Study, results: Path, files: Sequence[Path]) -> str:
    """Read ratings, write what people prefer beside their kit, and return what they said.

    The result is that of these files alone: every import starts anew. Raises InputError for ratings
    that are not of the kit, and where no rater passed the attention checks.
    """
    if not files:
        raise InputError("--import reads files: run_matrix.py rate STUDY --import FILE [FILE ...]")
    folder = results / RATINGS
    key = read_key(folder)
    ratings = require_known(read_ratings(files), key)
    raters = raters_of(ratings, key)
    judgements = unblind(ratings, raters, key)
    if not judgements:
        reasons = [f"  {rater.name}: {rater.reason or 'chose nothing'}" for rater in raters]
        raise InputError("\n".join(["no rating counts, so nothing was written:", *reasons]))
    now = {c.name: c.samples.get(key["decoding"]) for c in study.cells()}
    redrawn = [n for n, id in key["arms"].items() if n in now and getattr(now[n], "id", "") != id]
    people = People(
        key=key,
        files=files,
        raters=raters,
        judgements=judgements,
        rates=win_rates(judgements),
        methods={cell.label: cell.method for cell in study.cells()},
        redrawn=redrawn,
    )
    write_people(people, results)
    return summary(people, folder / REPORT)


def summary(people: People, page: Path) -> str:
    """Return an import in a few lines: who counts, every win rate, where the rest stands."""
    rates = [
        f"{found.label} against {found.opponent}, {found.axis}: {percent(found.estimate.value)} "
        f"({percent(found.estimate.low)} to {percent(found.estimate.high)}), "
        f"{found.estimate.n} prompts"
        for found in people.rates
        if found.among == ALL
    ]
    counted = len(people.kept), len(people.raters) - len(people.kept), len(people.judgements)
    said = "raters that count: {}, left out: {}; judgements: {:,}".format(*counted)
    return "\n".join([said, *rates, str(page)])


def write_people(people: People, results: Path) -> None:
    """Write every file of an import; equal ratings make equal bytes."""
    folder = results / RATINGS
    with replacing(folder / ITEMS) as temporary:
        write_items(temporary, people)
    write_text(folder / SCORES, csv_text(SCORE_COLUMNS, score_rows(people)))
    rows = [[getattr(j, name) for name in JUDGEMENTS] for j in people.judgements]
    write_text(folder / "judgements.csv", csv_text(JUDGEMENTS, rows))
    tables = {
        "win_rates": rates_table(people),
        "raters": raters_table(people),
        "agreement": among_raters(people.judgements),
        "judges": against_judges(people.judgements, results, people.key, people.redrawn),
        "corrected": corrected(people.judgements, results, people.key, people.redrawn),
    }
    if (ladder := ladder_table(people.judgements)) is not None:
        tables["ladder"] = ladder
    for name, table in tables.items():
        write_text(folder / f"{name}.csv", csv_text(table.columns, table.rows))
    write_text(folder / REPORT, report(people, list(tables.values())))


def write_items(file: Path, people: People) -> None:
    """Write one item a judgement, in the columns of the study's items; repeats are none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types: dict[str, Any] = dict.fromkeys(TEXTS, pa.string())
    types |= dict.fromkeys(WHOLE, pa.int64()) | {"value": pa.float64()}
    schema = pa.schema([(name, types[name]) for name in ITEM_COLUMNS])
    rows = [item_row(people.key, j) for j in people.judgements if not j.repeat]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), file, compression="zstd")


def item_row(key: Mapping[str, Any], judgement: Judgement) -> dict[str, Any]:
    """Return one judgement as an item of the suite `people`; its order is the side it stood on."""
    return {
        "study": key["study"],
        "base": judgement.base,
        "dataset": judgement.dataset,
        "label": judgement.label,
        "seed": judgement.seed,
        "suite": SUITE,
        "metric": metric_name(judgement.axis, judgement.opponent),
        "decoding": key["decoding"],
        "prompt_id": judgement.prompt_id,
        "cluster": judgement.cluster,
        "sample": 0,
        "order": judgement.ours,
        "judge": JUDGE,
        "population": judgement.population,
        "value": judgement.value,
        "class": "tie" if judgement.preference == 0 else "valid",
        "length": judgement.lengths[0],
        "opponent_length": judgement.lengths[1],
        "findings": json.dumps(
            [["rater", judgement.rater], ["preference", judgement.preference]],
            ensure_ascii=False,
            separators=(",", ":"),
        ),
        "numerics": "",
    }


def metric_name(axis: str, opponent: str) -> str:
    """Return the metric of an axis against a row, such as `helpful_win_rate_against_sft`."""
    return f"{axis}_win_rate_against_{opponent}"


def score_rows(people: People) -> Iterator[list[object]]:
    """Yield the win rates over all raters in the columns of `scores.csv`."""
    key = people.key
    for found in people.rates:
        if found.among != ALL:
            continue
        estimate = found.estimate
        where = (found.base, found.dataset, found.label)
        rated = [j for j in people.judgements if (j.base, j.dataset, j.label) == where]
        seeds = sorted({j.seed for j in rated})
        yield [
            key["study"], found.base, found.dataset, people.methods.get(found.label, ""),
            found.label, "all" if len(seeds) > 1 else seeds[0], SUITE, AXIS[found.axis],
            metric_name(found.axis, found.opponent), True, key["decoding"], JUDGE, "",
            estimate.claim, estimate.value, estimate.stderr, estimate.n, estimate.seeds, key["kit"],
        ]  # fmt: skip


def rates_table(people: People) -> Table:
    """Return the win rates with intervals; p is Holm's over all rows and both questions."""
    whole = [found for found in people.rates if found.among == ALL]
    adjusted = dict(
        zip(map(astuple, whole), holm([p_against_half(f.estimate) for f in whole]), strict=True)
    )
    rows = []
    for found in people.rates:
        estimate, p = found.estimate, adjusted.get(astuple(found))
        rows.append(
            [
                found.base, found.dataset, found.label, found.opponent, found.axis, found.among,
                percent(estimate.value), percent(estimate.low), percent(estimate.high),
                str(estimate.n), str(estimate.clusters), str(estimate.seeds), str(found.ratings),
                percent(found.ties), "" if p is None else f"{p:.3f}",
            ]
        )  # fmt: skip
    columns = [
        "base", "dataset", "row", "against", "question", "among", "win rate", "low", "high",
        "prompts", "clusters", "seeds", "ratings", "ties", "p (Holm)",
    ]  # fmt: skip
    return Table(
        "Win rates",
        columns,
        rows,
        "In points of 100; a tie is half a win. Low and high bound the 95 % interval, over "
        "clusters of prompts. p is of the rate being 50, adjusted by Holm over all rows and both "
        "questions; rows without one are exploratory.",
    )


def raters_table(people: People) -> Table:
    """Return who rated, who was left out and why."""
    rows = []
    for rater in people.raters:
        same, of = consistency(people.judgements, rater.name)
        rows.append(
            [
                rater.name,
                rater.population,
                str(rater.rated),
                str(rater.skipped),
                f"{rater.passed} of {rater.checks}",
                "" if rater.seconds is None else f"{rater.seconds:.1f}",
                "" if rater.left is None else percent(rater.left),
                f"{same} of {of}" if rater.kept else "",
                "yes" if rater.kept else f"no: {rater.reason}",
            ]
        )
    columns = [
        "rater", "group", "rated", "skipped", "checks passed", "median seconds", "left chosen",
        "same again", "counts",
    ]  # fmt: skip
    return Table(
        "Raters",
        columns,
        rows,
        f"A rater counts with {PASS:.0%} of the attention checks passed, settled before "
        "unblinding. Left chosen is the share of choices, ties aside, for the left answer, where "
        "each row stood in half of the pairs. Same again counts pairs that came back with their "
        "sides turned.",
    )


def percent(share: float) -> str:
    """Return a share in points of 100, "" for one that cannot be given."""
    return "" if share != share else f"{100 * share:.1f}"


def report(people: People, tables: Sequence[Table]) -> str:
    """Return the report as Markdown."""
    key, kept = people.key, people.kept
    one = key["against"]
    compared = "every pair of rows" if one == ALL else f"all rows against {one}"
    said = [
        f"{len(kept)} of {len(people.raters)} raters count; they gave {len(people.judgements):,} "
        f"judgements, blind, of answers drawn by {key['decoding']}: {compared}.",
        "Both questions were asked of every pair: " + " ".join(QUESTIONS[axis] for axis in AXES),
    ]
    if key["same"]:
        equal = len(key["same"])
        said.append(
            f"{equal} sampled pairs had equal texts: nobody was asked, no rate counts them."
        )
    if people.redrawn:
        listed = ", ".join(people.redrawn)
        said.append(f"These cells drew other answers since the kit was written: {listed}.")
    parts = [f"# What people prefer: {disarm(key['study'])}", *map(disarm, said)]
    for table in tables:
        parts += [f"## {table.title}"]
        parts += [markdown(table)] if table.rows else []
        parts += [disarm(table.note)] if table.note else []
    sources = [
        f"- {disarm(file.name)}: sha256 {hashlib.sha256(file.read_bytes()).hexdigest()[:SHORT]}"
        for file in people.files
    ]
    parts += ["## Sources", "\n".join([f"- kit {key['kit']}", *sources])]
    return "\n\n".join(parts) + "\n"


def markdown(table: Table) -> str:
    """Return a table as Markdown, its columns in line, its texts disarmed."""
    lines = [[disarm(one_line(text)) for text in row] for row in (table.columns, *table.rows)]
    widths = [max(3, *(len(row[i]) for row in lines)) for i in range(len(table.columns))]
    lines.insert(1, ["-" * width for width in widths])
    padded = [" | ".join(map(str.ljust, row, widths)) for row in lines]
    return "\n".join(f"| {line} |" for line in padded)
