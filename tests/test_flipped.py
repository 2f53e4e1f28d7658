"""A labeller some of whose verdicts are turned round, and pairs of one axis alone."""

from __future__ import annotations

import math

import pytest

from harness import registry
from harness.judge import Answer, Contains, Flipped, Judge, Prompted, Verdict, turned
from harness.tiny import tiny_data, tiny_shared

PAIRS = [(Answer(f"p{i}", [], f"good {i}"), Answer(f"p{i}", [], f"bad {i}")) for i in range(400)]
OURS, THEIRS = map(list, zip(*PAIRS, strict=True))
KNOWS = Contains("good")


def test_no_verdict_is_turned_at_0_all_at_1_and_the_share_between():
    plain = KNOWS.prefer(OURS, THEIRS)
    assert Flipped(KNOWS, 0.0).prefer(OURS, THEIRS) == plain
    assert Flipped(KNOWS, 1.0).prefer(OURS, THEIRS) == pytest.approx([1 - p for p in plain])
    turned_round = sum(p < 0.5 for p in Flipped(KNOWS, 0.4).prefer(OURS, THEIRS))
    assert abs(turned_round - 160) < 4 * math.sqrt(400 * 0.4 * 0.6)  # four deviations


def test_which_pairs_are_turned_does_not_depend_on_who_stands_first():
    judge = Flipped(KNOWS, 0.4)
    there, back = judge.prefer(OURS, THEIRS), judge.prefer(THEIRS, OURS)
    assert there == pytest.approx([1 - p for p in back])


def test_a_turned_verdict_prefers_the_other_answer_in_both_orders_and_stays_unanswered():
    assert turned(Verdict(0.75, 1.0, 0.5, 0.9)) == Verdict(0.25, 0.0, 0.5, 0.9)
    assert not turned(Verdict(math.nan)).valid


def test_the_labeller_is_plain_without_flips_and_asked_by_axis_with_them():
    registry.discover()
    data = tiny_data()
    make = registry.get("judge", "labeller")
    assert isinstance(make(data), Prompted)
    noisy = make(data, flips=0.4)
    assert noisy == Flipped(make(data), 0.4)
    assert isinstance(noisy, Judge)
    assert noisy.on("safe") == Flipped(make(data).on("safe"), 0.4)
    assert noisy.under("x") == Flipped(make(data).under("x"), 0.4)
    with pytest.raises(ValueError, match=r"in \[0, 1\], but is 2"):
        make(data, flips=2.0)
    assert Flipped(KNOWS, 1.0).grade(OURS) == KNOWS.grade(OURS)


def test_dpo_trains_on_the_rows_of_one_axis_where_asked():
    registry.discover()
    dpo, shared = registry.get("method", "dpo"), tiny_shared(0)
    given = {axis: dpo(shared, axis=axis).recipe.arguments["pairs"] for axis in ("helpful", "safe")}
    for axis, pairs in given.items():
        assert pairs.recipe.stage.name == "only"
        assert pairs.recipe.arguments["axis"] == axis
        assert pairs.inputs == [shared.preferences]
    assert dpo(shared) == dpo(shared, axis="both")
    assert dpo(shared).recipe.arguments["pairs"] == shared.preferences
