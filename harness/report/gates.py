"""Gates: who may decide a comparison. A judge or labeller that fails leaves mechanics only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.judge_card import ENOUGH
from harness.judge_cards import judge_cards

WITHHELD = "mechanics only"
LEARNT = (
    "Mechanics only: {rows} learnt from a labeller that fails its gate ({problem}), so their "
    "differences are no evidence about methods and are not printed."
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
    the answers; its rows are those that were trained on its labels.
    """
    failed = [card.judge for card in judge_cards(folder) if card.problems]
    reasons = dict(labeller_problems(facts.get("labelling", ())))
    by_problem: dict[str, list[str]] = {}
    for label, problem in reasons.items():
        by_problem.setdefault(problem, []).append(label)
    sentences = tuple(
        LEARNT.format(rows=", ".join(rows), problem=problem) for problem, rows in by_problem.items()
    )
    return Gates(frozenset(failed), frozenset(reasons), sentences)


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
