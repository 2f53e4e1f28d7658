"""Aggregates over data sets against scipy, hand calculation and all pairs counted."""

from __future__ import annotations

import random

import numpy as np
import pytest
from scipy.stats import trim_mean

from harness.aggregates import (
    improvement,
    improvement_interval,
    interquartile_mean,
    interval,
    optimality_gap,
    profile,
)

TABLE = np.random.default_rng(3).normal(size=(5, 3))


@pytest.mark.parametrize("runs", [2, 3, 5, 8])
def test_the_interquartile_mean_is_scipys_trimmed_mean_of_all_scores(runs):
    table = np.random.default_rng(runs).normal(size=(runs, 3))
    assert interquartile_mean(table) == pytest.approx(trim_mean(table, 0.25, axis=None), abs=1e-12)


def test_one_wild_score_hardly_moves_the_interquartile_mean():
    wild = TABLE.copy()
    wild[TABLE.argmax() // 3, TABLE.argmax() % 3] = 1e6
    assert interquartile_mean(wild) == interquartile_mean(TABLE)


def test_the_optimality_gap_counts_what_is_above_the_target_as_the_target():
    assert optimality_gap(np.array([[0.5, 2.0], [0.0, 1.0]]), target=1.0) == pytest.approx(0.375)


def test_improvement_is_the_share_of_pairs_of_runs_that_are_won_ties_half():
    ours, theirs = (
        np.array([[1.0, 0.0], [2.0, 1.0]]),
        np.array([[1.0, 2.0], [0.0, 1.0], [3.0, 0.0]]),
    )
    by_hand = []
    for task in range(2):
        pairs = [(a, b) for a in ours[:, task] for b in theirs[:, task]]
        by_hand.append(sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs))
    assert improvement(ours, theirs) == pytest.approx(sum(by_hand) / 2)
    assert improvement(ours, theirs) + improvement(theirs, ours) == pytest.approx(1.0)


def test_a_profile_falls_from_one_to_nothing():
    shares = profile(TABLE, [-100.0, float(np.median(TABLE)), 100.0])
    assert shares.tolist() == [1.0, pytest.approx(7 / 15), 0.0]


def test_an_interval_of_equal_runs_has_no_width_and_follows_the_seed_alone():
    flat = np.tile([0.2, 0.4], (4, 1))
    assert interval(flat, interquartile_mean, np.random.default_rng(0), resamples=200) == (
        pytest.approx(0.3),
        pytest.approx(0.3),
    )
    before = (random.getstate(), np.random.get_state()[1].tolist())
    once, again = (
        interval(TABLE, interquartile_mean, np.random.default_rng(1), resamples=300)
        for _ in range(2)
    )
    assert once == again
    assert once[0] < interquartile_mean(TABLE) < once[1]
    assert before == (random.getstate(), np.random.get_state()[1].tolist())


def test_a_row_that_wins_every_pair_surely_improves():
    assert improvement_interval(TABLE + 100, TABLE, np.random.default_rng(0), resamples=100) == (
        1.0,
        1.0,
    )


def test_one_task_gets_no_interval():
    with pytest.raises(ValueError, match="two tasks"):
        interval(TABLE[:, :1], interquartile_mean, np.random.default_rng(0))
