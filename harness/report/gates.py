"""Gates: who may decide a comparison. A judge or labeller that fails leaves mechanics only.

A row that did not hold equal what must be is no comparison either, where the study says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.judge_card import ENOUGH, JudgeCard
from harness.judge_cards import judge_cards
from harness.parity import Breach, breaches
from harness.results import CELLS, read_csv

WITHHELD = "mechanics only"
NOT_COMPARED = "not compared"
LEARNT = (
    "Mechanics only: {rows} learnt from a labeller that fails its gate ({problem}), so their "
    "differences are no evidence about methods and are not printed."
)
UNEQUAL = (
    "Not compared: {row} on {base}/{dataset} did not hold equal what the study demands ({items}), "
    "so its differences there are not printed."
)


@dataclass(frozen=True)
class Gates:
    """Judges whose grades are not printed, rows whose differences are not, and why for each row.

    `rows` learnt from a labeller that fails, wherever they stand; `unequal` are rows of one block
    alone, by base, dataset and label. `cards` are what judges are known by.
    """

    cards: tuple[JudgeCard, ...] = ()
    judges: frozenset[str] = frozenset()
    rows: frozenset[str] = frozenset()
    unequal: frozenset[tuple[str, str, str]] = frozenset()
    sentences: tuple[str, ...] = ()

    def withheld(self, block: tuple[str, str], *labels: str) -> str:
        """Return the word for why differences of some rows of a block are not printed, or ""."""
        if self.rows.intersection(labels):
            return WITHHELD
        return NOT_COMPARED if any((*block, x) in self.unequal for x in labels) else ""


@dataclass(frozen=True)
class Pooled:
    """A share over all pairs of several sets that had an answer to it; `of` counts these pairs.

    Where a set kept no count of its own, `of` is the most that it can be: all pairs that it kept.
    """

    value: float
    of: int
    is_counted: bool

    @property
    def size(self) -> str:
        """How many pairs the share is of, in words."""
        return f"{self.of:,}" if self.is_counted else f"at most {self.of:,}"


def gates_of(folder: Path, facts: Mapping[str, Any]) -> Gates:
    """Return what fails in a results folder.

    A judge fails by its card. A labeller fails where it agrees with the earlier labels of the pairs
    that it labelled anew no more often than chance, or where most verdicts turn with the order of
    the answers; its rows are those that were trained on its labels. Rows that break parity fail
    where the study refuses them.
    """
    cards = tuple(judge_cards(folder))
    failed = [card.judge for card in cards if card.problems]
    reasons = dict(labeller_problems(facts.get("labelling", ())))
    by_problem: dict[str, list[str]] = {}
    for label, problem in reasons.items():
        by_problem.setdefault(problem, []).append(label)
    sentences = tuple(
        LEARNT.format(rows=", ".join(rows), problem=problem) for problem, rows in by_problem.items()
    )
    unequal = refused(facts, read_csv(folder / CELLS))
    sentences = (
        *sentences,
        *(
            UNEQUAL.format(base=base, dataset=dataset, row=row, items=items(found))
            for (base, dataset, row), found in unequal.items()
        ),
    )
    return Gates(cards, frozenset(failed), frozenset(reasons), frozenset(unequal), sentences)


def refused(
    facts: Mapping[str, Any], cells: Sequence[Mapping[str, str]]
) -> dict[tuple[str, str, str], list[Breach]]:
    """Return the breaches that forbid a comparison, by base, dataset and label.

    None where a badge is enough for the study.
    """
    found: dict[tuple[str, str, str], list[Breach]] = {}
    if facts.get("parity") == "refuse":
        for base, dataset in dict.fromkeys((c["base"], c["dataset"]) for c in cells):
            for one in breaches(facts, cells, base, dataset):
                found.setdefault((base, dataset, one.label), []).append(one)
    return found


def items(found: Sequence[Breach]) -> str:
    """Return the names of what was not held equal, each once."""
    return "; ".join(dict.fromkeys(one.item for one in found))


def labeller_problems(labelled: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield each row whose labels, over all its seeds and sets, fail the gate, and why."""
    rows = dict.fromkeys(row for one in labelled for row in one["rows"])
    for row in rows:
        mine = [one for one in labelled if row in one["rows"]]
        agreed = pooled(mine, "agreement_with_earlier_labels")
        if agreed.of >= ENOUGH and agreed.value <= 0.5:
            said = f"{agreed.value:.1%} of {agreed.size} pairs"
            yield row, f"it agrees with people on {said}, and chance on 50.0%"
            continue
        turned = pooled(mine, "same_place_preferred")
        if turned.of >= ENOUGH and turned.value >= 0.5:
            said = f"{turned.value:.1%} of its verdicts on {turned.size} pairs"
            yield row, f"{said} turn with the order"


def pooled(labelled: Sequence[Mapping[str, Any]], share: str) -> Pooled:
    """Return a share over all pairs of the sets that know it, each set by its own count."""
    known = [one for one in labelled if share in one]
    sizes = [one.get("decided", {}).get(share, one["pairs"]) for one in known]
    total = sum(sizes)
    agreed = sum(one[share] * size for one, size in zip(known, sizes, strict=True))
    is_counted = all(share in one.get("decided", {}) for one in known)
    return Pooled(agreed / total if total else 0.0, total, is_counted)
