"""T7, the judge card: what a judge's verdicts agree with, and what else moves them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from harness.agreement import kendalls_w
from harness.judge_card import JudgeCard
from harness.report.grid import Cell, Table, measured, table
from harness.report.headline import named
from harness.report.tables import Block, Matrix, Measure
from harness.report.words import number
from harness.statistics import ALPHA, Estimate

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
ORDER_NOTE = (
    "Win rates against SFT by every judge that gave some, over the rows that all of them graded. "
    "Kendall's W is 1 where all judges order the rows alike and 0 where their orders cancel out. "
    "Turned: two judges put the pair in opposite orders; beyond doubt: with paired differences "
    "whose intervals, Bonferroni's over all pairs, exclude 0 on either side. Exploratory."
)


def judge_table(cards: Sequence[JudgeCard], *, name: str = "t7_judges") -> Table | None:
    """Return cards side by side; None where no judge compared answers."""
    if not cards:
        return None
    heads = ["", *(f"{card.judge}, beside {card.reference}" for card in cards)]
    by_card = [list(lines(card)) for card in cards]
    rows = [[line[0][0], *(cell for _, cell in line)] for line in zip(*by_card, strict=True)]
    return table("Judges", heads, rows, NOTE, name=name)


def judge_warnings(cards: Sequence[JudgeCard]) -> list[str]:
    """Return a sentence for every judge that fails its gate, for the top of a report."""
    failed = {card.judge: card for card in reversed(cards) if card.problems}
    return [
        FAILED.format(judge=judge, problems="; ".join(card.problems))
        for judge, card in sorted(failed.items())
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


def order_table(matrix: Matrix, block: Block) -> Table | None:
    """Return whether the order of rows survives another judge; None where one judged alone.

    Judges are compared on win rates against SFT under one decoding, over the rows that all graded.
    """
    rows: list[list[Cell | str]] = []
    for (decoding, population), measures in by_judges(matrix, block).items():
        judged = [values(matrix, block, measure) for measure in measures]
        shared = [x for x in matrix.labels if all(x in found for found in judged)]
        if len(measures) < 2 or len(shared) < 2:
            continue
        agreed = kendalls_w([[found[x] for x in shared] for found in judged])
        pairs = list(combinations(shared, 2))
        turned = [p for p in pairs if opposed([found[p[0]] - found[p[1]] for found in judged])]
        certain = [p for p in turned if surely_turned(matrix, block, measures, p, len(pairs))]
        rows.append(
            [
                f"{decoding}, {population}" if population else decoding,
                ", ".join(f"{measure.metric} by {measure.judge}" for measure in measures),
                str(len(shared)),
                Cell("") if agreed is None else Cell(number(agreed), order=agreed),
                Cell(f"{len(turned)} of {len(pairs)}", order=len(turned)),
                Cell(str(len(certain)), order=len(certain)),
            ]
        )
    columns = ("decoding", "judges", "rows", "Kendall's W", "pairs turned", "turned beyond doubt")
    title = "Does the order survive another judge"
    name = named("t7_order", block)
    return table(title, columns, rows, ORDER_NOTE, name=name, is_text=True) if rows else None


def by_judges(matrix: Matrix, block: Block) -> dict[tuple[str, str], list[Measure]]:
    """Return the win rates that judges gave, by decoding and population."""
    found: dict[tuple[str, str], list[Measure]] = {}
    for metric in matrix.metrics.values():
        if metric.name.endswith("win_rate"):
            for measure in matrix.measures(block, metric):
                found.setdefault((measure.decoding, measure.population), []).append(measure)
    return found


def values(matrix: Matrix, block: Block, measure: Measure) -> dict[str, float]:
    """Return the win rate of every row but SFT itself."""
    found = {x: matrix.entries[block, x, measure].value for x in matrix.labels}
    return {x: e.value for x, e in found.items() if e is not None and x != matrix.reference}


def opposed(gaps: Sequence[float]) -> bool:
    """Say whether some judge puts the first row above the second, and some below."""
    return min(gaps) < 0 < max(gaps)


def surely_turned(
    matrix: Matrix, block: Block, measures: Sequence[Measure], pair: tuple[str, str], pairs: int
) -> bool:
    """Say whether two judges tell a pair apart in opposite directions, for all pairs at once."""
    one, other = pair
    found = [matrix.difference(block, one, measure, other) for measure in measures]
    ends = [e.interval(1 - ALPHA / pairs) for e in found if e is not None]
    return any(low > 0 for low, _ in ends) and any(high < 0 for _, high in ends)
