"""Verdicts, groups and simultaneous intervals against hand calculations, libraries, simulation."""

from __future__ import annotations

import time
from itertools import combinations, permutations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from harness import multiplicity, resampling, statistics
from harness.multiplicity import Contrast


def known(value, stderr=0.01, df=100.0):
    return statistics.estimate(value, stderr, df, n=101, clusters=101, seeds=3, claim="method")


def contrast(value, p, *, stderr=0.01):
    return Contrast(known(value, stderr), p)


def test_the_false_discovery_rate_agrees_with_statsmodels():
    p = [0.04, 0.001, 0.03, 0.2, 0.011, 1.0, 0.03]
    assert multiplicity.discoveries(p) == pytest.approx(multipletests(p, method="fdr_bh")[1])
    assert multiplicity.discoveries([]) == []


def test_two_one_sided_tests_agree_with_statsmodels():
    rng = np.random.default_rng(1)
    for shift in (0.0, 0.05, -0.4):
        x = rng.normal(shift, 0.5, 60)
        found = statistics.mean(x)
        expected = ttost_paired(x, np.zeros(60), -0.1, 0.1)[0]
        assert multiplicity.equivalence_p(found, 0.1) == pytest.approx(expected, abs=1e-8)
        assert multiplicity.equivalent(found, 0.1) == (expected < 0.05)


def test_without_a_standard_error_nothing_is_equivalent():
    assert not multiplicity.equivalent(statistics.mean([0.0]), 0.1)


def test_a_margin_of_nothing_is_refused():
    with pytest.raises(ValueError, match="positive"):
        multiplicity.equivalent(known(0.0), 0.0)


@pytest.mark.parametrize(
    ("value", "p", "said"),
    [
        (0.001, 0.9, "no loss"),
        (-0.001, 0.9, "no loss"),
        (-0.05, 0.001, "loss"),
        (-0.002, 0.01, "loss, within the margin"),
        (0.05, 0.001, "gain"),
        (-0.015, 0.2, "undecided"),
    ],
)
def test_tax_with_a_margin_of_two_points(value, p, said):
    assert multiplicity.tax(contrast(value, p, stderr=0.002 if p == 0.01 else 0.01), 0.02) == said


@pytest.mark.parametrize(
    ("helpful", "safe", "said"),
    [
        ((0.10, 0.001), (0.10, 0.001), "dominates"),
        ((0.10, 0.001), (0.005, 0.6), "dominates"),  # 90 % from -0.012: inside the margin
        ((0.10, 0.001), (-0.01, 0.4), "undecided"),  # 90 % from -0.027: outside
        ((0.10, 0.001), (-0.10, 0.001), "trades"),
        ((-0.10, 0.001), (0.10, 0.001), "trades"),
        ((-0.10, 0.001), (-0.005, 0.6), "dominated"),
        ((-0.10, 0.001), (0.01, 0.4), "undecided"),
        ((0.02, 0.06), (-0.02, 0.06), "not distinguishable"),
    ],
)
def test_verdicts_on_two_axes(helpful, safe, said):
    assert multiplicity.verdict([contrast(*helpful), contrast(*safe)], 0.02) == said
    assert multiplicity.verdict([contrast(*safe), contrast(*helpful)], 0.02) == said


def test_turning_both_axes_turns_the_verdict():
    turned = {"dominates": "dominated", "dominated": "dominates"}
    for a, b in combinations([(0.1, 0.001), (-0.005, 0.6), (0.0, 1.0), (-0.1, 0.001)], 2):
        axes = [contrast(*a), contrast(*b)]
        mirrored = [Contrast(multiplicity.negated(x.gain), x.p) for x in axes]
        said = multiplicity.verdict(axes, 0.02)
        assert multiplicity.verdict(mirrored, 0.02) == turned.get(said, said)


def test_letters_of_piephos_kind_by_hand():
    # a is above c and d, b above d: {a, b}, {b, c}, {c, d}
    better = {("a", "c"), ("a", "d"), ("b", "d")}
    letters = multiplicity.tie_groups("abcd", better)
    assert letters == {"a": "a", "b": "a b", "c": "b c", "d": "c"}


def test_letters_are_shared_exactly_by_what_is_not_told_apart():
    rng = np.random.default_rng(2)
    names = [f"m{i}" for i in range(9)]
    for _ in range(50):
        better = {pair for pair in permutations(names, 2) if rng.random() < 0.15}
        letters = {k: set(v.split()) for k, v in multiplicity.tie_groups(names, better).items()}
        for one, other in combinations(names, 2):
            apart = (one, other) in better or (other, one) in better
            assert bool(letters[one] & letters[other]) != apart


def test_rank_intervals_and_the_winner_by_hand():
    better = {("a", "c"), ("a", "d"), ("b", "d")}
    ranks = multiplicity.rank_intervals("abcd", better)
    assert ranks == {"a": (1, 2), "b": (1, 3), "c": (2, 4), "d": (3, 4)}
    assert multiplicity.winner("abcd", better) is None
    assert multiplicity.winner("abcd", better | {("a", "b")}) == "a"
    assert multiplicity.winner("a", set()) is None


def test_simultaneous_intervals_are_bonferronis_and_turn_with_the_pair():
    pairs = multiplicity.simultaneous({("a", "b"): known(0.1), ("a", "c"): known(0.001)})
    half = stats.t.ppf(1 - 0.05 / 4, 100) * 0.01
    pair = pairs["a", "b"]
    assert (pair.low, pair.high) == pytest.approx((0.1 - half, 0.1 + half), abs=1e-12)
    assert pairs["b", "a"] == pair.turned()
    assert multiplicity.told_apart(pairs) == {("a", "b")}
    with pytest.raises(ValueError, match="both directions"):
        multiplicity.simultaneous({("a", "b"): known(0.1), ("b", "a"): known(-0.1)})


def test_a_bootstrap_mean_spreads_as_the_clustered_standard_error_says():
    rng = np.random.default_rng(3)
    clusters = list(np.repeat(np.arange(50), 4))
    table = rng.standard_normal((3, 200)) + rng.standard_normal(50).repeat(4)
    means = resampling.bootstrap_means(table, clusters, generator=np.random.default_rng(4))
    expected = [statistics.mean(row, clusters).stderr for row in table]
    assert means.std(axis=0) == pytest.approx(expected, rel=0.05)
    assert means.mean(axis=0) == pytest.approx(table.mean(axis=1), abs=0.01)


def test_resamples_hold_whole_clusters():
    clusters = ["a", "b", "a", "c"]
    (weights,) = resampling.cluster_weights(
        clusters, 4, draws=100, generator=np.random.default_rng(5)
    )
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_max_t_of_one_contrast_is_close_to_t_and_of_many_lies_between_t_and_bonferroni():
    rng = np.random.default_rng(6)
    shared = rng.standard_normal(300)
    table = shared + rng.standard_normal((21, 300))
    one = resampling.max_t(table[:1], generator=np.random.default_rng(7))
    many = resampling.max_t(table, generator=np.random.default_rng(7))
    assert one.critical == pytest.approx(stats.t.ppf(0.975, 299), abs=0.06)
    assert one.critical < many.critical < stats.t.ppf(1 - 0.025 / 21, 299)
    found = statistics.mean(table[4])
    assert (many.values[4], many.stderrs[4]) == pytest.approx((found.value, found.stderr))


def test_max_t_of_few_clusters_is_as_wide_as_students_t():
    rng = np.random.default_rng(18)
    found = [
        resampling.max_t(rng.standard_normal((1, 12)), generator=rng, draws=2000).critical
        for _ in range(60)
    ]
    assert np.mean(found) == pytest.approx(stats.t.ppf(0.975, 11), abs=0.06)  # 2.20, not 1.96


def test_max_t_takes_clusters_and_ignores_the_order_of_prompts():
    rng = np.random.default_rng(8)
    clusters = np.repeat(np.arange(20), 5)
    table = rng.standard_normal((2, 100)) + rng.standard_normal(20)[clusters]
    found = resampling.max_t(table, list(clusters), generator=np.random.default_rng(9))
    expected = [statistics.mean(row, list(clusters)).stderr for row in table]
    assert found.stderrs == pytest.approx(expected, rel=1e-10)


def test_the_same_generator_gives_the_same_bytes_and_global_state_is_untouched():
    table = np.random.default_rng(10).standard_normal((4, 60))
    before = np.random.get_state()[1].tobytes()
    one, two = (resampling.max_t(table, generator=np.random.default_rng(11)) for _ in range(2))
    assert one.p.tobytes() == two.p.tobytes()
    assert one.critical == two.critical
    assert np.random.get_state()[1].tobytes() == before


def test_a_contrast_without_spread_is_a_point():
    table = np.vstack([np.zeros(20), np.full(20, 0.1), np.arange(20.0)])
    found = resampling.max_t(table, generator=np.random.default_rng(12))
    assert list(found.p[:2]) == [1.0, 0.0]
    assert (found.low[1], found.high[1]) == pytest.approx((0.1, 0.1))


def test_too_few_clusters_for_a_bootstrap_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match="simultaneous"):
        resampling.max_t(np.ones((2, 9)), generator=np.random.default_rng(13))


@pytest.mark.slow
def test_63_contrasts_of_1000_prompts_are_resampled_10000_times_in_two_seconds():
    table = np.random.default_rng(14).standard_normal((63, 1000))
    for work in (resampling.max_t, resampling.bootstrap_means):
        started = time.process_time()  # of this process: others on the machine do not count
        work(table, generator=np.random.default_rng(15))
        assert time.process_time() - started < 2.0


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.015), (3, 0.06), (5, 0.015)])
def test_equal_methods_are_told_apart_in_five_percent_of_studies_at_most(seeds, spread):
    rng = np.random.default_rng(16)
    runs, by_pair, by_family = 400, 0, 0
    names = [f"m{i}" for i in range(8)]
    for _ in range(runs):
        seen = rng.standard_normal((8, seeds, 1)) * spread + 0.3 * rng.standard_normal(400)
        seen = seen + 0.3 * rng.standard_normal((8, 1, 400))  # what a method makes of a prompt
        seen = seen + 0.3 * rng.standard_normal((8, seeds, 400))
        of = dict(zip(names, seen, strict=True))
        found = {(a, b): statistics.two_level(of[a] - of[b]) for a, b in combinations(names[:7], 2)}
        by_pair += bool(multiplicity.told_apart(multiplicity.simultaneous(found)))
        against = [statistics.two_level(of[a] - of["m7"]) for a in names[:7]]
        by_family += any(x.p <= 0.05 for x in multiplicity.family(against))
    limit = 0.05 + 2 * (0.05 * 0.95 / runs) ** 0.5  # 5 %, and two standard errors of the count
    assert by_pair / runs <= limit
    assert by_family / runs <= limit
    assert by_family > 0  # a test that never errs would be far too weak


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 10])
def test_max_t_covers_all_contrasts_at_once_in_95_percent(size):
    rng = np.random.default_rng(17)
    clusters = list(np.repeat(np.arange(40), size))
    runs, hits = 1000, 0
    for _ in range(runs):
        shared = rng.standard_normal((7, 40))[:, clusters] + rng.standard_normal(40)[clusters]
        table = shared + rng.standard_normal((7, 40 * size))
        found = resampling.max_t(table, clusters, generator=rng, draws=500)
        hits += bool(((found.low <= 0) & (found.high >= 0)).all())
    assert 0.935 <= hits / runs <= 0.965
