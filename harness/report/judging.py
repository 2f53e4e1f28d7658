"""T7, the judge card: what a judge's verdicts agree with, and what else moves them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.judge_card import JudgeCard
from harness.judge_cards import judge_cards
from harness.report.grid import Cell, Table, measured, table
from harness.report.words import number
from harness.statistics import Estimate

FAILED = (
    "Mechanics only: the judge {judge} fails its gate ({problems}), so what it prefers is no "
    "evidence about methods."
)
NOTE = (
    "Agreement leaves ties of either side out. Picking the longer answer would agree as often as "
    "the reference prefers it; a judge must beat that. Consistent: both orders prefer the same "
    "answer; of the others, the share that goes to the first place. Length coefficient: of "
    "tanh(dl / std(dl)) in the log-odds of a win, 0 for a judge that is blind to length. "
    "Self-preference: what the rows made from the judge's own model gain by it beyond what the "
    "reference grants, against other rows on the same prompts. Calibration error: how far the "
    "judge's certainty of its choice is from how often the reference agrees. Intervals are "
    "clustered by prompt family."
)


def judge_table(folder: Path, *, name: str = "t7_judges") -> Table | None:
    """Return the cards of a results folder side by side; None where no judge compared answers."""
    cards = judge_cards(folder)
    if not cards:
        return None
    heads = ["", *(f"{card.judge}, beside {card.reference}" for card in cards)]
    by_card = [list(lines(card)) for card in cards]
    rows = [[line[0][0], *(cell for _, cell in line)] for line in zip(*by_card, strict=True)]
    return table("Judges", heads, rows, NOTE, name=name)


def judge_warnings(folder: Path) -> list[str]:
    """Return a sentence for every judge that fails its gate, for the top of a report."""
    cards = {card.judge: card for card in reversed(judge_cards(folder)) if card.problems}
    return [
        FAILED.format(judge=judge, problems="; ".join(card.problems))
        for judge, card in sorted(cards.items())
    ]


def lines(card: JudgeCard) -> Iterator[tuple[str, Cell]]:
    """Yield what a card says, line by line; every card has the same lines."""
    shares: Sequence[tuple[str, Estimate | None]] = (
        ("agreement with the reference", card.agreement),
        ("reference prefers the longer", card.reference_prefers_longer),
        ("judge prefers the longer", card.prefers_longer),
        ("consistent in both orders", card.swap_consistency),
        ("first place wins, of the inconsistent", card.first_place),
        ("ties", card.ties),
        ("invalid", card.invalid),
        ("length coefficient", card.length_coefficient),
        ("self-preference", card.self_preference),
    )
    yield "gate", Cell(card.gate, "; ".join(card.problems))
    yield "pairs", Cell(f"{card.pairs:,}", order=card.pairs)
    for name, found in shares:
        yield name, measured(found) if found is not None else Cell("")
    for name, value in (
        ("kappa with the reference", card.kappa),
        ("calibration error (ECE)", card.calibration),
    ):
        yield name, Cell("") if value is None else Cell(number(value), order=value)
