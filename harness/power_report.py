"""What a study can see, as text: each metric's smallest difference, and what more would buy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.plain_text import one_line
from harness.power import (
    Planned,
    Variances,
    assumed,
    plan,
    pooled,
    prompts_against_half,
    prompts_needed,
    variances,
)
from harness.results import ITEMS, LEDGER, Measured, Series, read_items, read_ledger
from harness.statistics import METHOD_SEEDS
from harness.study import Study
from harness.study_file import InputError

POINT = 0.01  # of a metric's unit, as a study's margin counts
WIDEST = 2.0  # range of a metric on which a spread in points makes sense
SEEDS = (3, 5, 10)
TIMES = (1, 2, 4)
SHARES = (0.55, 0.6, 0.65)
LAST = "Where more prompts no longer help, what remains is the spread over seeds: add seeds."


@dataclass(frozen=True)
class Seen:
    """One metric under one decoding: its variances, prompts, and how many rows they pool."""

    name: str
    primary: bool
    variances: Variances
    prompts: int
    rows: int


@dataclass(frozen=True)
class Question:
    """What is planned for: seeds, prompts (None: as measured), the family's size, the margin.

    `seed_sd` is what is assumed where no run shows it: one method's spread over seeds. `margin` and
    `seed_sd` are in units of a metric.
    """

    seeds: int
    prompts: int | None
    tests: int
    margin: float
    seed_sd: float


def power_text(
    study: Study, results: Path, *, seeds: int | None, prompts: int | None, seed_sd: float
) -> str:
    """Return what a study can see, from its own results or, without any, from stated assumptions.

    seed_sd: points. Raises InputError for numbers that cannot be planned with, and where there are
    neither results nor a number of prompts.
    """
    declared = study.declared
    if (seeds is not None and seeds < 1) or (prompts is not None and prompts < 2) or seed_sd < 0:
        raise InputError("give --seeds of 1 or more, --prompts of 2 or more, --seed-sd >= 0")
    kinds = [settings.get("method", label) for label, settings in declared.methods.items()]
    methods = [kind for kind in kinds if kind not in ("base", "sft")]
    axes = len(declared.evaluation.co_primary) or 2
    question = Question(
        seeds or len(declared.seeds),
        prompts,
        max(axes * len(methods), 1),
        declared.evaluation.margin * POINT,
        seed_sd * POINT,
    )
    found = measured(results, question.seed_sd)
    if found:
        source = f"Variances from {results}, "
        least = min(x.variances.seeds_seen for x in found)
        source += f"{least} seed{'s' * (least > 1)}, as the mean over the rows compared with SFT."
        if least < METHOD_SEEDS:
            source += spread_note(seed_sd)
    elif prompts is None:
        raise InputError(
            f"{results} has no results to take variances from; run the study first, or give "
            "--prompts to plan from assumptions"
        )
    else:
        found = [Seen("an accuracy of 50 %", True, assumed(seed_sd=question.seed_sd), prompts, 0)]
        source = (
            "No results yet, so all is assumed: accuracies of 50 %, correlated by .5 over prompts, "
            f"which are independent.{spread_note(seed_sd)}"
        )
    lines = [*heading(study.name, question, source), "", *body(found, question), "", LAST]
    return "\n".join([*lines, against_half()])


def against_half() -> str:
    """Return how many prompts tell a win rate of people or of a judge from one half."""
    said = ", ".join(f"{share:.0%} needs {prompts_against_half(share):,}" for share in SHARES)
    return (
        f"A win rate against one half, such as raters give, in prompts judged once: {said} (one "
        "test, independent prompts; more raters of a prompt are not more prompts)."
    )


def spread_note(seed_sd: float) -> str:
    """Return the sentence that says what is assumed of seeds."""
    return (
        f" The spread over seeds is assumed: {seed_sd:g} points of sd for each method "
        "(--seed-sd); three seeds or more would show it."
    )


def measured(results: Path, seed_sd: float) -> list[Seen]:
    """Return what a results folder shows of each metric; empty where there is no such folder.

    Metrics of a wider range than [-1, 1] are left out while the spread over seeds is an assumption.
    """
    if not (results / ITEMS).is_file() or not (results / LEDGER).is_file():
        return []
    ledger = read_ledger(results)
    roles = {row["label"]: row["role"] for row in ledger["methods"]}
    reference = next((label for label, role in roles.items() if role == "sft"), None)
    declared = {(s["suite"], m["name"]): m for s in ledger["suites"] for m in s["metrics"]}
    series = read_items(results)
    groups: dict[Series, list[Series]] = {}
    for one in series:
        against = replace(one, label=reference or "")
        if roles.get(one.label) == "method" and against in series:
            groups.setdefault(against, []).append(one)
    found = []
    for against, rows in groups.items():
        metric = declared[against.suite, against.metric]
        pairs = [differences(series[one], series[against]) for one in rows]
        each = [
            variances(paired, series[against].clusters, seed_variance=2 * seed_sd**2)
            for paired in pairs
            if len({series[against].clusters[prompt] for _, prompt in paired}) > 1
        ]
        low, high = metric["range"]
        guessed = any(x.seeds_seen < METHOD_SEEDS for x in each)
        if not each or (guessed and high - low > WIDEST):
            continue
        prompts = min(len({prompt for _, prompt in paired}) for paired in pairs)
        primary = metric["primary"] or against.metric in ledger["co_primary"]
        found.append(Seen(named(against, groups), primary, pooled(each), prompts, len(each)))
    return sorted(found, key=lambda x: not x.primary)


def differences(ours: Measured, theirs: Measured) -> dict[tuple[int, str], float]:
    """Return ours minus theirs by (seed, prompt), on what both sides have."""
    return {
        key: value - theirs.values[key]
        for key, value in ours.values.items()
        if key in theirs.values
    }


def named(series: Series, others: Mapping[Series, Any]) -> str:
    """Return what a metric is called where others must be told from it."""
    parts = [series.metric, series.decoding]
    for field in ("base", "dataset", "judge", "population"):
        if len({getattr(other, field) for other in others}) > 1 and getattr(series, field):
            parts.append(str(getattr(series, field)))
    return one_line(" ".join(parts))


def heading(name: str, question: Question, source: str) -> list[str]:
    """Return what the numbers are, before them."""
    prompts = (
        "the prompts measured" if question.prompts is None else f"{question.prompts:,} prompts"
    )
    return [
        f"{name}: the smallest differences to SFT that {question.seeds} "
        f"seed{'s' * (question.seeds > 1)} and {prompts} show with 80 % power",
        source,
        f"alone: one test at 5 %. of {question.tests}: as the first of Holm's family of that many "
        "(methods x primary metrics). margin: the smallest that two equal rows pass; the study's "
        f"is {question.margin:g}. All are in units of the metric.",
    ]


def body(found: Sequence[Seen], question: Question) -> list[str]:
    """Return a table of all metrics, then for each primary one what more would buy."""
    rows = [["metric", "claim", "prompts", "alone", f"of {question.tests}", "margin", "testable"]]
    for one in found:
        prompts = question.prompts or one.prompts
        spread = one.variances.cluster + one.variances.rest
        if round(prompts / one.variances.per_cluster) < 2 or not spread:
            why = "too few prompts" if spread else "no spread seen"
            rows.append([one.name, why, f"{prompts:,}", "", "", "", ""])
            continue
        seen = plan(one.variances, seeds=question.seeds, prompts=prompts)
        rows.append(line(one, seen, question))
    lines = aligned(rows)
    for one in found:
        if one.primary and (bought := more(one, question)):
            lines += ["", *bought]
    return lines


def line(one: Seen, seen: Planned, question: Question) -> list[str]:
    """Return one metric's row of the table."""
    return [
        one.name,
        seen.claim,
        f"{seen.prompts:,}",
        f"{seen.difference():.3f}",
        f"{seen.difference(question.tests):.3f}",
        f"{seen.margin:.3f}",
        "yes" if seen.margin <= question.margin else "no",
    ]


def more(one: Seen, question: Question) -> list[str]:
    """Return the difference alone that more seeds and prompts show, and prompts for the margin.

    Empty where too few clusters are left, or nothing varied.
    """
    prompts = question.prompts or one.prompts
    spread = one.variances.cluster + one.variances.rest
    if not spread or round(prompts / one.variances.per_cluster) < 2:
        return []
    wide = [prompts * times for times in TIMES]
    rows = [[f"{one.name}, seeds", *(f"{n:,} prompts" for n in wide), "prompts for the margin"]]
    for seeds in sorted({*SEEDS, question.seeds}):
        needed = prompts_needed(one.variances, seeds=seeds, difference=question.margin)
        rows.append(
            [
                f"{seeds}{'' if seeds >= METHOD_SEEDS else ' (checkpoint)'}",
                *(f"{plan(one.variances, seeds=seeds, prompts=n).difference():.3f}" for n in wide),
                "none: seeds hide it" if needed is None else f"{needed:,}",
            ]
        )
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines of a table, names to the left and numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    numeric = re.compile(r"[\d.,]+")
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width)
            if i and (numeric.fullmatch(cell) or row is rows[0])
            else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
