"""Gates: who may decide a comparison. A judge or labeller that fails leaves mechanics only.

A row that did not hold equal what must be is no comparison either, where the study says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.judge_card import ENOUGH
from harness.judge_cards import judge_cards
from harness.parity import Breach, breaches
from harness.results import CELLS, read_csv

WITHHELD = "mechanics only"
LEARNT = (
    "Mechanics only: {rows} learnt from a labeller that fails its gate ({problem}), so their "
    "differences are no evidence about methods and are not printed."
)
UNEQUAL = (
    "Not compared: {row} did not hold equal what the study demands ({items}), so its differences "
    "are not printed."
)


@dataclass(frozen=True)
class Gates:
    """Judges whose grades are not printed, rows whose differences are not, and why for each row."""

    judges: frozenset[str] = frozenset()
    rows: frozenset[str] = frozenset()
    sentences: tuple[str, ...] = ()


def gates_of(folder: Path, facts: Mapping[str, Any]) -> Gates:
    """Return what fails in a results folder.

    A judge fails by its card. A labeller fails where it agrees with the earlier labels of the pairs
    that it labelled anew no more often than chance, or where most verdicts turn with the order of
    the answers; its rows are those that were trained on its labels. Rows that break parity fail
    where the study refuses them.
    """
    failed = [card.judge for card in judge_cards(folder) if card.problems]
    reasons = dict(labeller_problems(facts.get("labelling", ())))
    by_problem: dict[str, list[str]] = {}
    for label, problem in reasons.items():
        by_problem.setdefault(problem, []).append(label)
    sentences = tuple(
        LEARNT.format(rows=", ".join(rows), problem=problem) for problem, rows in by_problem.items()
    )
    unequal = list(refused(facts, read_csv(folder / CELLS)))
    sentences = (*sentences, *refusals(unequal))
    rows = frozenset(reasons) | {one.label for one in unequal}
    return Gates(frozenset(failed), rows, sentences)


def refused(facts: Mapping[str, Any], cells: Sequence[Mapping[str, str]]) -> Iterator[Breach]:
    """Yield the breaches that forbid a comparison: none where a badge is enough for the study."""
    if facts.get("parity") == "refuse":
        for base, dataset in dict.fromkeys((c["base"], c["dataset"]) for c in cells):
            yield from breaches(facts, cells, base, dataset)


def refusals(found: Sequence[Breach]) -> Iterator[str]:
    """Yield the sentence that says of each row why it is not compared."""
    for label in dict.fromkeys(one.label for one in found):
        yield UNEQUAL.format(row=label, items=items([x for x in found if x.label == label]))


def items(found: Sequence[Breach]) -> str:
    """Return the names of what was not held equal, each once."""
    return "; ".join(dict.fromkeys(one.item for one in found))


def labeller_problems(labelled: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield each row whose labels, over all its seeds and sets, fail the gate, and why."""
    rows = dict.fromkeys(row for one in labelled for row in one["rows"])
    for row in rows:
        mine = [one for one in labelled if row in one["rows"]]
        agreed, of = pooled(mine, "agreement_with_earlier_labels")
        if of >= ENOUGH and agreed <= 0.5:
            yield row, f"it agrees with people on {agreed:.1%} of {of:,} pairs, and chance on 50.0%"
            continue
        turned, of = pooled(mine, "same_place_preferred")
        if of >= ENOUGH and turned >= 0.5:
            yield row, f"{turned:.1%} of its verdicts on {of:,} pairs turn with the order"


def pooled(labelled: Sequence[Mapping[str, Any]], share: str) -> tuple[float, int]:
    """Return a share over all pairs of the sets that know it, and how many pairs these are."""
    known = [(one[share], one["pairs"]) for one in labelled if share in one]
    total = sum(pairs for _, pairs in known)
    return (sum(value * pairs for value, pairs in known) / total if total else 0.0), total
