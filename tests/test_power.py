"""Plans against the tables of power analysis, statsmodels and simulated studies."""

from __future__ import annotations

import numpy as np
import pytest

from harness import power, statistics
from harness.power import Variances


@pytest.mark.parametrize(
    ("share", "n"), [(0.53, 2178), (0.55, 783), (0.575, 347), (0.6, 194), (0.65, 85)]
)
def test_prompts_that_tell_a_win_rate_from_a_half(share, n):
    assert power.prompts_against_half(share) == n
    assert power.prompts_against_half(1 - share) == n


@pytest.mark.parametrize(
    ("n", "unpaired", "paired"), [(200, 14.0, 9.9), (500, 8.9, 6.3), (805, 7.0, 4.9)]
)
def test_detectable_difference_of_two_accuracies_at_a_half(n, unpaired, paired):
    for correlation, points in ((0.0, unpaired), (0.5, paired)):
        found = power.assumed(seed_sd=0.0, correlation=correlation)
        planned = power.plan(found, seeds=1, prompts=n)
        assert 100 * planned.difference() == pytest.approx(points, abs=0.1)
        assert planned.claim == "checkpoint"


def test_more_prompts_never_go_far_below_what_seeds_leave():
    found = power.assumed(seed_sd=0.015)
    floor = power.plan(found, seeds=3, prompts=10**7).difference()
    # t(.975, 2) + t(.8, 2) on the spread of differences: seeds are paired, so S - 1 are free
    assert floor == pytest.approx((4.303 + 1.061) * 0.015 * (2 / 3) ** 0.5, rel=1e-2)
    # With three seeds the smallest difference falls a fifth below that at most, and rises again
    assert power.prompts_needed(found, seeds=3, difference=floor * 0.8) is None
    needed = power.prompts_needed(found, seeds=3, difference=floor * 1.2)
    assert power.plan(found, seeds=3, prompts=needed).difference() <= floor * 1.2
    assert power.plan(found, seeds=3, prompts=needed - 1).difference() > floor * 1.2


@pytest.mark.slow  # the import alone takes seconds
def test_the_detectable_difference_agrees_with_statsmodels():
    from statsmodels.stats.power import TTestPower

    planned = power.plan(Variances(0.0, 0.09, 0.0, 1.0, 1), seeds=1, prompts=400)
    known = TTestPower().solve_power(nobs=400, alpha=0.05, power=0.8) * 0.3
    assert planned.difference() == pytest.approx(known, rel=1e-3)  # ours adds two t quantiles


def test_a_plan_of_the_run_itself_gives_its_own_standard_error():
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(30), 3)
    table = 0.1 * rng.standard_normal((4, 1)) + rng.standard_normal(30)[clusters]
    table = table + rng.standard_normal((4, 90))
    keyed = {(s, f"p{i:02}"): v for (s, i), v in np.ndenumerate(table)}
    groups = {f"p{i:02}": int(c) for i, c in enumerate(clusters)}
    found = power.variances(keyed, groups, seed_variance=99.0)
    planned = power.plan(found, seeds=4, prompts=90)
    known = statistics.summary(keyed, groups)
    assert found.seeds_seen == 4
    assert found.seed > 0  # so that nothing was clipped, and the plan must be exact
    assert planned.stderr == pytest.approx(known.stderr)
    assert (planned.tails.df, planned.tails.share) == pytest.approx((known.df, known.share))
    assert planned.difference() == pytest.approx(known.mde)


def test_one_seed_shows_prompts_alone_and_the_spread_of_seeds_is_what_was_assumed():
    rng = np.random.default_rng(2)
    keyed = {(0, f"p{i}"): float(v) for i, v in enumerate(rng.normal(0, 0.5, 300))}
    found = power.variances(keyed, {p: p for _, p in keyed}, seed_variance=0.0004)
    assert (found.seed, found.rest, found.seeds_seen) == (0.0004, 0.0, 1)
    known = statistics.summary(keyed, {p: p for _, p in keyed})
    assert power.plan(found, seeds=1, prompts=300).stderr == pytest.approx(known.stderr)


def test_variances_are_recovered_on_average():
    rng = np.random.default_rng(3)
    sets = []
    for _ in range(200):
        table = 0.2 * rng.standard_normal((4, 1)) + 0.5 * rng.standard_normal(60)
        table = table + 0.3 * rng.standard_normal((4, 60))
        keyed = {(s, f"p{i:02}"): v for (s, i), v in np.ndenumerate(table)}
        sets.append(power.variances(keyed, {p: p for _, p in keyed}, seed_variance=0.0))
    found = power.pooled(sets)
    assert found.seed == pytest.approx(0.04, rel=0.15)
    assert found.cluster == pytest.approx(0.25, rel=0.05)
    assert found.rest == pytest.approx(0.09, rel=0.03)


def test_plans_that_cannot_be_made_are_refused():
    found = power.assumed(seed_sd=0.01)
    with pytest.raises(ValueError, match="too few"):
        power.plan(found, seeds=3, prompts=1)
    with pytest.raises(ValueError, match="positive"):
        power.prompts_needed(found, seeds=3, difference=0.0)
    with pytest.raises(ValueError, match="not 1/2"):
        power.prompts_against_half(0.5)
    with pytest.raises(ValueError, match="no variances"):
        power.pooled([])


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
def test_a_planted_difference_is_found_as_often_as_planned(seeds):
    found = Variances(0.015**2, 0.3**2, 0.3**2, 1.0, 3)
    planned = power.plan(found, seeds=seeds, prompts=400)
    rng = np.random.default_rng(4)
    runs, seen = 1500, 0
    for _ in range(runs):
        table = 0.015 * rng.standard_normal((seeds, 1)) + 0.3 * rng.standard_normal(400)
        table = table + 0.3 * rng.standard_normal((seeds, 400)) + planned.difference()
        seen += statistics.two_level(table).p <= 0.05
    assert 0.74 <= seen / runs <= 0.86


@pytest.mark.slow
def test_equal_rows_are_found_equivalent_within_the_planned_margin_as_often_as_planned():
    from harness.multiplicity import equivalent

    found = Variances(0.005**2, 0.3**2, 0.1**2, 1.0, 5)
    planned = power.plan(found, seeds=5, prompts=600)
    rng = np.random.default_rng(5)
    runs, seen = 1500, 0
    for _ in range(runs):
        table = 0.005 * rng.standard_normal((5, 1)) + 0.3 * rng.standard_normal(600)
        table = table + 0.1 * rng.standard_normal((5, 600))
        seen += equivalent(statistics.two_level(table), planned.margin)
    assert 0.74 <= seen / runs <= 0.86
