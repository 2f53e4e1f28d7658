"""Ratings of people's preferences: planted strengths are recovered where all rows met."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from harness.rating_ladder import ladder_table
from harness.ratings import Judgement

POINTS = {"a": 1000, "b": 1100, "c": 1250}


def judged(pairs, n=600):
    draw = random.Random(1)
    return [
        Judgement(
            "hamlet", "hamlet", 0, one, other, f"p{i}", f"p{i}", "general", "helpful", "r", "",
            1 if draw.random() < 1 / (1 + 10 ** ((POINTS[other] - POINTS[one]) / 400)) else -1,
            "left", False, (5, 5),
        )
        for one, other in pairs
        for i in range(n)
    ]  # fmt: skip


def test_planted_strengths_lie_in_their_intervals_where_every_two_rows_met():
    table = ladder_table(judged([("a", "b"), ("b", "c"), ("c", "a")]))
    found = {row[3]: [float(x) for x in row[4:7]] for row in table.rows}
    assert found["a"] == [1000, 1000, 1000]
    for name in ("b", "c"):
        rating, low, high = found[name]
        assert low <= POINTS[name] <= high
        assert math.isclose(rating, POINTS[name], abs_tol=40)
    assert [row[7] for row in table.rows] == ["1 to 1", "2 to 2", "3 to 3"]


def test_rows_that_met_sft_alone_have_win_rates_and_no_ladder():
    assert ladder_table(judged([("a", "b"), ("c", "b")], n=20)) is None


def test_a_row_that_won_everything_has_no_finite_rating():
    every = judged([("a", "b"), ("b", "c"), ("c", "a")], n=30)
    won = {("b", "c"): -1, ("c", "a"): 1}
    sure = [replace(x, preference=won.get((x.label, x.opponent), x.preference)) for x in every]
    assert ladder_table(every) is not None
    assert ladder_table(sure) is None
