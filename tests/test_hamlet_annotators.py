"""The simulated annotators: noisy by the stated amounts, and misspecified in the stated ways."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace
from statistics import mean

import pytest
from scipy.stats import binomtest

from harness.hamlet.annotators import (
    DEFAULT,
    PERFECT,
    POPULATIONS,
    STRENGTH_CUTS,
    Axis,
    perceive,
    population_of,
    prefer,
    rank,
    strength,
)
from harness.hamlet.answers import BEST, DEMONSTRATION, WEB, WORST, Style
from harness.hamlet.requests import Request, World
from harness.hamlet.splits import Family

WORLD = World(0)
Pair = tuple[Request, str, str]


def pairs(n: int, style: Style = DEMONSTRATION, family: Family | None = None) -> Iterator[Pair]:
    """Yield n requests with two different answers each."""
    rng, made = random.Random(f"{style}/{family}"), 0
    while made < n:
        request = WORLD.request(rng, "test", family)
        first, second = (WORLD.answer(rng, request, style) for _ in range(2))
        if first != second:
            made += 1
            yield request, first, second


def gold_gap(request: Request, first: str, second: str, axis: Axis) -> float:
    one, two = WORLD.grade(request, first), WORLD.grade(request, second)
    return one.helpful - two.helpful if axis == "helpful" else one.safe - two.safe


@pytest.mark.parametrize("style", [DEMONSTRATION, WEB], ids=["demonstration", "web"])
@pytest.mark.parametrize("axis", ["helpful", "safe"])
def test_labels_agree_with_gold_on_three_to_nine_of_ten_typical_pairs(
    style: Style, axis: Axis
) -> None:
    agreed = []
    for index, (request, first, second) in enumerate(pairs(1200, style)):
        gap = gold_gap(request, first, second, axis)
        if abs(gap) > 0.01:
            label = prefer(WORLD, request, first, second, axis=axis, annotator=str(index))
            agreed.append((label.p1 == 1.0) == (gap > 0))
    assert len(agreed) > 350
    assert 0.73 <= mean(agreed) <= 0.90


def test_a_perfect_annotator_agrees_with_gold_wherever_the_populations_do() -> None:
    for family in ("fact", "harmful", "borderline", "opinion", "how_to"):
        for index, (request, first, second) in enumerate(pairs(60, WEB, family)):  # type: ignore[arg-type]
            one, two = WORLD.grade(request, first), WORLD.grade(request, second)
            clipped = max(abs(one.helpful), abs(two.helpful)) >= 1
            gap = one.helpful - two.helpful
            if abs(gap) < 1e-9 or clipped or one.found("over_long") or two.found("over_long"):
                continue
            label = prefer(
                WORLD, request, first, second, axis="helpful", annotator=str(index),
                settings=PERFECT,
            )  # fmt: skip
            assert (label.p1 == 1.0) == (gap > 0)


def test_labels_are_turned_round_as_often_as_the_setting_says() -> None:
    sure = replace(PERFECT, flips=0.1)
    flipped = total = 0
    for index, (request, first, second) in enumerate(pairs(800, WEB)):
        names = {"axis": "helpful", "annotator": str(index), "population": "careful"}
        straight = prefer(WORLD, request, first, second, settings=PERFECT, **names)  # type: ignore[arg-type]
        noisy = prefer(WORLD, request, first, second, settings=sure, **names)  # type: ignore[arg-type]
        total += 1
        flipped += straight.p1 != noisy.p1
    interval = binomtest(flipped, total).proportion_ci(0.999)
    assert interval.low < 0.1 < interval.high


def test_without_position_bias_swapping_the_answers_swaps_the_label() -> None:
    fair = replace(DEFAULT, position=0.0)
    for index, (request, first, second) in enumerate(pairs(500)):
        one, two = (
            prefer(WORLD, request, a, b, axis="safe", annotator=str(index), settings=fair)
            for a, b in ((first, second), (second, first))
        )
        assert one.p1 == 1 - two.p1
        assert one.strength == two.strength
        assert one.safe == two.safe[::-1]


def test_position_bias_favours_the_first_answer() -> None:
    biased = replace(DEFAULT, position=0.5)
    labels = [
        prefer(WORLD, q, a, b, axis="helpful", annotator=str(i), settings=biased).p1
        for i, (q, a, b) in enumerate(pairs(600))
    ]
    assert binomtest(int(sum(labels)), len(labels)).proportion_ci(0.999).low > 0.6


def test_noise_is_independent_over_the_pairs_of_one_prompt() -> None:
    rng = random.Random(5)
    request = WORLD.request(rng, "test", "fact")
    coin = replace(PERFECT, flips=0.5)
    turned = []
    for index in range(800):
        first, second = f"junk {index} a.", f"junk {index} b."
        turned.append(
            prefer(
                WORLD, request, first, f"{second} More junk.", axis="helpful", annotator="Ann",
                settings=coin,
            ).p1
        )  # fmt: skip
    same = sum(a == b for a, b in itertools.pairwise(turned))
    interval = binomtest(same, len(turned) - 1).proportion_ci(0.999)
    assert interval.low < 0.5 < interval.high


def test_one_annotator_judges_one_pair_always_alike_and_annotators_differ() -> None:
    request, first, second = next(pairs(1, DEMONSTRATION, "borderline"))
    torn = replace(DEFAULT, temperature=50.0)
    labels = [
        prefer(WORLD, request, first, second, axis="helpful", annotator=str(i), settings=torn)
        for i in range(60)
    ]
    again = [
        prefer(WORLD, request, first, second, axis="helpful", annotator=str(i), settings=torn)
        for i in range(60)
    ]
    assert labels == again
    assert {label.p1 for label in labels} == {0.0, 1.0}


def judged_by_both(family: Family, axis: Axis) -> float:
    """Return the share of pairs on which the two populations' labels differ, all else equal."""
    differ = []
    for index, (request, first, second) in enumerate(pairs(150, WEB, family)):
        one, two = (
            prefer(WORLD, request, first, second, axis=axis, annotator=str(index), population=p)
            for p in POPULATIONS
        )
        differ.append(one.p1 != two.p1)
    return mean(differ)


@pytest.mark.parametrize("axis", ["helpful", "safe"])
def test_populations_differ_on_requests_with_two_readings_and_nowhere_else(axis: Axis) -> None:
    assert judged_by_both("ambiguous", axis) > 0.1
    for family in ("harmful", "borderline", "how_to", "fact", "unknown_entity", "opinion"):
        assert judged_by_both(family, axis) == 0  # type: ignore[arg-type]


def test_the_minority_is_as_large_as_the_setting_says() -> None:
    members = sum(population_of(f"annotator {i}") == "open" for i in range(2000))
    interval = binomtest(members, 2000).proportion_ci(0.999)
    assert interval.low < 0.3 < interval.high


def test_strength_follows_the_fixed_cuts_whatever_the_sign() -> None:
    assert [strength(gap) for gap in (0.0, 0.05, 0.1, -0.2, 0.3, -0.59, 0.6, 3.0)] == [
        1, 1, 2, 2, 3, 3, 4, 4,
    ]  # fmt: skip
    assert list(STRENGTH_CUTS) == sorted(STRENGTH_CUTS)


def seen(request: Request, text: str, axis: Axis = "helpful", **settings: float) -> float:
    """Return what an otherwise perfect annotator perceives on average."""
    chosen = replace(PERFECT, **settings)  # type: ignore[arg-type]
    graded = WORLD.grade(request, text)
    return mean(
        perceive(
            random.Random(i), request, graded, text, axis=axis, population="careful",
            settings=chosen,
        )
        for i in range(400)
    )  # fmt: skip


def test_each_bias_moves_the_perception_by_its_setting() -> None:
    rng = random.Random(6)
    fact = WORLD.request(rng, "test", "fact")
    text = "What a great question! " + WORLD.answer(rng, fact, replace(WORST, rude=0, flattering=0))
    plain = seen(fact, text)
    assert seen(fact, text, length=0.01) == pytest.approx(plain + 0.01 * len(text.split()))
    assert seen(fact, text, flattery=0.12) == pytest.approx(plain + 0.18)  # gold takes .06 off
    assert seen(fact, text, knowledge=0.0) > plain + 0.5
    opinion = WORLD.request(rng, "test", "opinion")
    agreed = seen(opinion, "Yes, you are right.")
    assert seen(opinion, "Yes, you are right.", agreement=0.1) == pytest.approx(agreed + 0.1)


def test_the_inattentive_overlook_harm_and_the_panicked_reward_refusing_the_harmless() -> None:
    rng = random.Random(7)
    harmful = WORLD.request(rng, "test", "harmful")
    complied = WORLD.answer(rng, harmful, replace(BEST, comply=1.0, comply_swayed=1.0))
    sharp = seen(harmful, complied, "safe")
    assert seen(harmful, complied, "safe", attention=0.0) > sharp + 1
    weeds = WORLD.request(rng, "test", "borderline")
    refusal, answer = "I cannot help with that.", WORLD.answer(rng, weeds, BEST)
    assert seen(weeds, refusal, "safe") == seen(weeds, answer, "safe") == 1.0
    assert seen(weeds, refusal, "safe", panic=1.0) > seen(weeds, answer, "safe", panic=1.0) + 1


def test_half_of_the_facts_go_unchecked_when_knowledge_is_one_half() -> None:
    rng = random.Random(8)
    fact = WORLD.request(rng, "test", "fact")
    while fact.intent.format:
        fact = WORLD.request(rng, "test", "fact")
    wrong = WORLD.answer(rng, fact, replace(WORST, rude=0, flattering=0, extra=0))
    true, false = seen(fact, wrong, knowledge=0.0), seen(fact, wrong)
    assert seen(fact, wrong, knowledge=0.5) == pytest.approx((true + false) / 2, abs=0.15)


def test_a_perfect_ranking_puts_the_better_answer_first() -> None:
    rng = random.Random(9)
    for index in range(60):
        request = WORLD.request(rng, "test", "harmful")
        texts = list(dict.fromkeys(WORLD.answer(rng, request, WEB) for _ in range(4)))
        if len(texts) < 2:
            continue
        ranking = rank(WORLD, request, texts, axis="safe", annotator=str(index), settings=PERFECT)
        grades = [WORLD.grade(request, texts[place]).safe for place in ranking.order]
        assert grades == sorted(grades, reverse=True)
        assert sorted(ranking.order) == list(range(len(texts)))
        assert len(ranking.strengths) == len(texts) - 1


def test_rankings_of_two_follow_the_same_law_as_preferences() -> None:
    fair = replace(DEFAULT, position=0.0)
    request, first, second = next(pairs(1, WEB, "fact"))
    n = 1500
    ranked = sum(
        rank(WORLD, request, [first, second], axis="helpful", annotator=str(i), settings=fair)
        .order[0] == 0
        for i in range(n)
    )  # fmt: skip
    preferred = sum(
        prefer(WORLD, request, first, second, axis="helpful", annotator=str(i), settings=fair).p1
        for i in range(n)
    )
    assert abs(ranked - preferred) / n < 4 * (0.5 / n) ** 0.5


def test_one_answer_cannot_be_ranked() -> None:
    request, first, _ = next(pairs(1))
    with pytest.raises(ValueError, match="two answers or more, got 1"):
        rank(WORLD, request, [first], axis="safe", annotator="Ann")
