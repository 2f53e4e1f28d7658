"""Bradley-Terry ratings of what people preferred, where every two rows were compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from harness.rating_judges import Table
from harness.ratings import Judgement
from harness.win_rates import Battle, Ladder, bradley_terry

SEED = 0  # of the bootstrap, so that equal ratings make equal bytes
COLUMNS = ["base", "dataset", "question", "row", "rating", "low", "high", "place", "misfit"]


def ladder_table(judgements: Sequence[Judgement]) -> Table | None:
    """Return ratings with intervals and places; None where some two rows never met.

    A row that won or lost everything has no finite rating, and its block is left out.
    """
    rows = []
    for (base, dataset, axis), ladder in ladders(judgements):
        rows += [
            [
                base, dataset, axis, one.name, f"{one.rating:.0f}", f"{one.low:.0f}",
                f"{one.high:.0f}", "{} to {}".format(*one.ranks), f"{100 * ladder.misfit:.1f}",
            ]
            for one in ladder.ratings
        ]  # fmt: skip
    if not rows:
        return None
    return Table(
        "Bradley-Terry ratings",
        COLUMNS,
        rows,
        "In points, the first row at 1000: 100 points are a win rate of 64 %. Low and high bound "
        "the 95 % interval over resampled prompt clusters; places are those that a row may have, "
        "all pairs at once. Misfit: the farthest a pair's win rate lies from what the ratings say, "
        "in points of 100. With one row for all to beat, its win rates say more.",
    )


def ladders(
    judgements: Sequence[Judgement],
) -> Iterator[tuple[tuple[str, str, str], Ladder]]:
    """Yield the ratings of each base, dataset and question whose rows all met."""
    blocks: dict[tuple[str, str, str], list[Judgement]] = {}
    for one in judgements:
        blocks.setdefault((one.base, one.dataset, one.axis), []).append(one)
    for block, mine in blocks.items():
        names = sorted({x.label for x in mine} | {x.opponent for x in mine})
        met = {frozenset((x.label, x.opponent)) for x in mine}
        if len(names) < 3 or any(frozenset(pair) not in met for pair in combinations(names, 2)):
            continue
        battles = [
            Battle(x.label, x.opponent, (1 + np.sign(x.preference)) / 2, x.cluster) for x in mine
        ]
        try:
            generator = np.random.default_rng(SEED)
            yield block, bradley_terry(battles, anchor=names[0], generator=generator)
        except ValueError:  # a row that won or lost everything: its win rates show it
            continue
