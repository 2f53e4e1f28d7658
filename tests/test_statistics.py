"""Statistics against hand calculations, scipy, statsmodels and simulated coverage."""

from __future__ import annotations

import math
import random

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from harness import statistics


def crossed(rng, seeds=5, prompts=40, seed_sd=0.1, prompt_sd=0.4, rest=0.3):
    return (
        0.2
        + seed_sd * rng.standard_normal((seeds, 1))
        + prompt_sd * rng.standard_normal((1, prompts))
        + rest * rng.standard_normal((seeds, prompts))
    )


def keyed(table):
    return {(s, f"p{i}"): float(v) for s, row in enumerate(table) for i, v in enumerate(row)}


def singletons(table):
    return {f"p{i}": i for i in range(table.shape[1])}


def test_mean_agrees_with_scipys_one_sample_t_test():
    x = np.random.default_rng(1).normal(0.1, 1, 37)
    found, known = statistics.mean(x), stats.ttest_1samp(x, 0)
    interval = known.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert found.p == pytest.approx(known.pvalue, abs=1e-12)
    assert (found.n, found.clusters, found.seeds, found.claim) == (37, 37, 1, "checkpoint")


def test_clustered_standard_error_agrees_with_statsmodels():
    rng = np.random.default_rng(2)
    clusters = rng.integers(0, 9, 120)
    x = rng.normal(size=120) + clusters * 0.3
    known = OLS(x, np.ones(120)).fit(cov_type="cluster", cov_kwds={"groups": clusters})
    found = statistics.mean(x, list(clusters))
    assert found.stderr == pytest.approx(known.bse[0], rel=1e-10)
    assert found.df == 8


def test_clustered_standard_error_by_hand():
    # mean 3; cluster sums of deviations: a: -2-1 = -3, b: 0+3 = 3; SE = sqrt(2/1 * 18) / 4
    found = statistics.mean([1.0, 2.0, 3.0, 6.0], ["a", "a", "b", "b"])
    assert found.stderr == pytest.approx(math.sqrt(36) / 4)


def test_one_cluster_has_no_standard_error_and_is_never_significant():
    found = statistics.mean([1.0, 2.0], ["a", "a"])
    assert math.isnan(found.stderr)
    assert math.isnan(found.low)
    assert found.p == 1.0


def test_wilson_agrees_with_statsmodels():
    for successes, n in ((0, 20), (3, 40), (40, 40), (355, 700)):
        known = proportion_confint(successes, n, method="wilson")
        assert statistics.wilson(successes, n) == pytest.approx(known, abs=1e-12)


def test_a_rate_of_nothing_in_200_is_not_certain():
    found = statistics.rate([0.0] * 200)
    assert found.low == 0
    assert found.high == pytest.approx(0.0188, abs=1e-4)  # z^2 / (n + z^2)


def test_a_constant_rate_in_clusters_counts_the_clusters():
    found = statistics.rate([1.0] * 60, [i % 6 for i in range(60)])
    assert (found.low, found.high) == pytest.approx(statistics.wilson(6, 6))


def test_a_constant_that_is_neither_nought_nor_one_has_no_binomial_interval():
    found = statistics.rate([0.5] * 20)  # ties alone
    assert (found.low, found.high) == (0.5, 0.5)


def test_two_level_mean_squares_agree_with_statsmodels_anova():
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    table = crossed(np.random.default_rng(3))
    long = pd.DataFrame([(s, i, v) for (s, i), v in np.ndenumerate(table)], columns=["s", "i", "v"])
    known = anova_lm(ols("v ~ C(s) + C(i)", long).fit())["mean_sq"]
    found = statistics.two_level(table)
    expected = math.sqrt((known["C(s)"] + known["C(i)"] - known["Residual"]) / table.size)
    assert known["C(s)"] > known["Residual"]  # so that nothing is clipped in this table
    assert found.stderr == pytest.approx(expected, rel=1e-9)
    spread = known["C(s)"] ** 2 / 4 + known["C(i)"] ** 2 / 39 + known["Residual"] ** 2 / (4 * 39)
    top = (known["C(s)"] + known["C(i)"] - known["Residual"]) ** 2
    assert found.df == pytest.approx(top / spread, rel=1e-9)
    assert (found.claim, found.seeds, found.n) == ("method", 5, 40)


def test_singleton_clusters_change_nothing_in_two_levels():
    table = crossed(np.random.default_rng(4))
    assert statistics.two_level(table, list(range(40))) == statistics.two_level(table)


def test_unequal_clusters_keep_the_mean_over_prompts():
    table = crossed(np.random.default_rng(5))
    clusters = [0] * 30 + list(range(1, 11))
    assert statistics.two_level(table, clusters).value == pytest.approx(table.mean())


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_claim_the_checkpoint_alone(seeds):
    table = crossed(np.random.default_rng(6), seeds=seeds)
    found = statistics.summary(keyed(table), singletons(table))
    known = stats.ttest_1samp(table.mean(axis=0), 0)
    assert (found.claim, found.seeds) == ("checkpoint", seeds)
    assert found.p == pytest.approx(known.pvalue)


def test_three_seeds_claim_the_method():
    table = crossed(np.random.default_rng(7), seeds=3)
    found = statistics.summary(keyed(table), singletons(table))
    known = statistics.two_level(table)
    assert (found.claim, found.seeds) == ("method", 3)
    assert (found.value, found.stderr, found.df) == pytest.approx(
        (known.value, known.stderr, known.df)
    )


def test_differences_are_paired_by_key_and_not_by_position():
    table = crossed(np.random.default_rng(8), seeds=1)
    ours = keyed(table + 0.1)
    shuffled = list(keyed(table).items())
    random.Random(0).shuffle(shuffled)
    found = statistics.difference(ours, dict(shuffled), singletons(table))
    assert found.value == pytest.approx(0.1)
    assert found.stderr == pytest.approx(0, abs=1e-12)


def test_differences_use_what_both_sides_have_and_say_how_much():
    ours = {(0, "a"): 1.0, (0, "b"): 0.0, (0, "c"): 1.0}
    theirs = {(0, "b"): 1.0, (0, "c"): 1.0, (1, "c"): 0.0}
    found = statistics.difference(ours, theirs, {"a": 0, "b": 1, "c": 2})
    assert (found.n, found.value) == (2, -0.5)


def test_sides_without_a_common_prompt_have_no_difference():
    with pytest.raises(ValueError, match="no \\(seed, prompt\\) in common"):
        statistics.difference({(0, "a"): 1.0}, {(1, "a"): 1.0}, {"a": 0})


def test_order_of_rows_seeds_and_prompts_changes_nothing():
    table = crossed(np.random.default_rng(9), seeds=4)
    items = list(keyed(table).items())
    expected = statistics.summary(dict(items), singletons(table))
    random.Random(1).shuffle(items)
    assert statistics.summary(dict(items), singletons(table)) == expected


def test_prompts_that_a_seed_lacks_are_left_out_of_n():
    table = crossed(np.random.default_rng(10), seeds=3)
    values = keyed(table)
    del values[1, "p7"]
    assert statistics.summary(values, singletons(table)).n == 39


@pytest.mark.parametrize(
    ("sd", "seeds", "points"),
    [(0.6, 3, 1.8), (0.6, 5, 1.2), (0.6, 10, 0.8), (1.5, 3, 4.6), (1.5, 5, 3.0), (1.5, 10, 2.0)],
)
def test_detectable_difference_between_two_methods_from_seeds_alone(sd, seeds, points):
    stderr = sd * math.sqrt(2 / seeds)
    assert statistics.Tails(2 * (seeds - 1)).detectable(stderr) == pytest.approx(points, abs=0.06)


@pytest.mark.parametrize(("n", "points"), [(200, 14.0), (500, 8.9), (805, 7.0), (2000, 4.4)])
def test_detectable_unpaired_difference_of_two_accuracies(n, points):
    found = statistics.Tails(1e9).detectable(math.sqrt(0.5 / n))
    assert 100 * found == pytest.approx(points, abs=0.06)


def test_holm_agrees_with_statsmodels():
    p = [0.04, 0.001, 0.03, 0.2, 0.011, 1.0, 0.03]
    assert statistics.holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_holm_of_nothing_is_nothing():
    assert statistics.holm([]) == []


def test_swapping_the_sides_of_a_win_rate_gives_its_complement():
    rng = random.Random(3)
    pairs = [(rng.randint(0, 3), rng.randint(0, 3)) for _ in range(100)]
    won = sum(statistics.win_score(a, b) for a, b in pairs)
    assert won + sum(statistics.win_score(b, a) for a, b in pairs) == 100
    assert statistics.win_score(0.3, 0.1 + 0.2) == 0.5


def test_bounds_over_invalid_judgements_enclose_the_win_rate():
    scores = [1.0, 0.5, 0.0, 1.0]
    low, high = statistics.rate_bounds(float(np.mean(scores)), len(scores), 2)
    assert (low, high) == (pytest.approx(2.5 / 6), pytest.approx(4.5 / 6))
    assert low <= np.mean(scores) <= high


def test_an_effect_without_spread_is_certain_and_no_effect_is_none():
    assert statistics.estimate(0.1, 0.0, 5, n=6, clusters=6, seeds=1, claim="checkpoint").p == 0
    assert statistics.estimate(0.0, 0.0, 5, n=6, clusters=6, seeds=1, claim="checkpoint").p == 1


def test_clusters_that_do_not_match_the_values_are_refused():
    with pytest.raises(ValueError, match="2 values but 1 cluster ids"):
        statistics.mean([1.0, 2.0], ["a"])


def test_tails_without_a_share_of_seeds_are_students():
    tails = statistics.Tails(7.5)
    assert tails.p(-2.1) == pytest.approx(2 * stats.t.sf(2.1, 7.5))
    assert tails.critical(0.05) == pytest.approx(stats.t.ppf(0.975, 7.5))


def test_tails_of_few_seeds_are_the_heavier_of_student_and_the_mixture():
    tails = statistics.Tails(20.0, 0.5, 2.0, 399.0)
    mixed = stats.t.sf(3.0, 2) + stats.t.sf(3.0, 399)  # two-sided, half the weight each
    assert tails.p(3.0) == pytest.approx(mixed)
    assert mixed > 2 * stats.t.sf(3.0, 20)
    assert statistics.Tails(2.5, 0.01, 2.0, 399.0).p(3.0) == pytest.approx(2 * stats.t.sf(3.0, 2.5))
    alone = statistics.Tails(2.0, 1.0, 2.0, 399.0)  # all variance the seeds': t with S - 1
    assert alone.critical(0.05) == pytest.approx(stats.t.ppf(0.975, 2))


@pytest.mark.parametrize("alpha", [0.4, 0.1, 0.05, 0.002])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 1.0])
def test_intervals_and_p_values_of_few_seeds_agree_at_every_level(alpha, share):
    tails = statistics.Tails(6.0, share, 2.0, 399.0)
    assert tails.p(tails.critical(alpha)) == pytest.approx(alpha, rel=1e-6)


def errors(seeds, clusters, prompts_share, seeds_share, alphas, runs):
    """Return how often 0 is left out at each level, from the law of the mean squares themselves.

    The rest's mean square is 1 on average, the clusters' `prompts_share`; of the mean's variance
    beyond the rest's, `seeds_share` is the seeds'.
    """
    rng = np.random.default_rng(16)
    free = (seeds - 1, clusters - 1, (seeds - 1) * (clusters - 1))
    size = (1 + seeds_share / (1 - seeds_share) * prompts_share, prompts_share, 1.0)
    drawn = np.stack([m * rng.chisquare(f, runs) / f for m, f in zip(size, free, strict=True)])
    sd = math.sqrt((size[0] + size[1] - size[2]) / (seeds * clusters))
    missed = dict.fromkeys(alphas, 0)
    for value, squares in zip(sd * rng.standard_normal(runs), drawn.T, strict=True):
        found = statistics.MeanSquares(value, seeds, clusters, *squares)
        stderr, tails = statistics.two_level_error(found)
        p = tails.p(value / stderr)
        for alpha in alphas:
            missed[alpha] += p <= alpha
    return [missed[alpha] / runs for alpha in alphas]


def test_prompts_that_differ_less_than_chance_make_no_mean_precise():
    # Interaction alone: in every prompt the seeds differ, and the mean over seeds is 0 everywhere.
    table = np.array([[1.0, -1.0] * 10, [-1.0, 1.0] * 10, [0.0, 0.0] * 10])
    found = statistics.two_level(table)
    assert found.df >= 1
    assert found.stderr == pytest.approx(math.sqrt(20 / 19 / 60))  # MS_e = 40 / 38 over 60 values


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("clusters", [30, 400])
def test_two_level_interval_covers_95_percent_whatever_share_the_seeds_have(seeds, clusters):
    first = 0.05 / 26  # the first step of Holm for 13 methods on two axes
    for prompts_share in (6.3, 20.0):
        for seeds_share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.97):
            once, early = errors(seeds, clusters, prompts_share, seeds_share, (0.05, first), 12_000)
            assert 0.0325 <= once <= 0.0625  # 93.75 to 96.75: two errors of the count wider
            assert early <= 2 * first


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
def test_two_level_interval_with_a_large_interaction_is_conservative_at_most(seeds):
    for prompts_share in (1.0, 1.6, 2.5):  # of which the rest is most: the exception
        for seeds_share in (0.0, 0.3, 0.6, 0.8, 0.9, 0.97):
            (once,) = errors(seeds, 400, prompts_share, seeds_share, (0.05,), 12_000)
            assert once <= 0.069


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "seed_sd", "prompt_sd", "rest", "highest"),
    [
        (3, 0.021, 0.4, 0.3, 0.967),
        (3, 0.06, 0.4, 0.3, 0.967),  # seeds dominate
        (3, 0.0, 0.4, 0.3, 1.0),  # a known corner: conservative without any seed variance
        (5, 0.021, 0.4, 0.3, 0.967),
        (5, 0.0085, 0.4, 0.3, 0.967),
        (5, 0.021, 0.2, 0.45, 0.967),
        (10, 0.021, 0.4, 0.3, 0.967),
        (10, 0.0085, 0.4, 0.3, 0.967),
    ],
)
def test_two_level_interval_covers_95_percent(seeds, seed_sd, prompt_sd, rest, highest):
    rng = np.random.default_rng(11)
    runs = 2000
    hits = 0
    for _ in range(runs):
        found = statistics.two_level(crossed(rng, seeds, 800, seed_sd, prompt_sd, rest))
        hits += found.low <= 0.2 <= found.high
    assert 0.933 <= hits / runs <= highest


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_two_level_interval_covers_95_percent_with_prompts_in_clusters(seeds):
    rng = np.random.default_rng(12)
    clusters = np.repeat(np.arange(30), 10)
    hits, naive, runs = 0, 0, 1500
    for _ in range(runs):
        shared = 0.3 * rng.standard_normal(30)[clusters]
        table = crossed(rng, seeds, 300, 0.01, 0.2, 0.3) - 0.2 + shared
        found, ignoring = statistics.two_level(table, list(clusters)), statistics.two_level(table)
        hits += found.low <= 0 <= found.high
        naive += ignoring.low <= 0 <= ignoring.high
    assert 0.933 <= hits / runs <= 0.967
    assert naive / runs < 0.85  # what ignoring the clusters would have claimed


@pytest.mark.slow
def test_two_level_interval_covers_95_percent_with_clusters_of_all_sizes():
    rng = np.random.default_rng(13)
    clusters = np.repeat(np.arange(60), rng.integers(1, 20, 60))
    hits, runs = 0, 1500
    for _ in range(runs):
        shared = 0.3 * rng.standard_normal(60)[clusters]
        table = crossed(rng, 3, len(clusters), 0.01, 0.2, 0.3) - 0.2 + shared
        found = statistics.two_level(table, list(clusters))
        hits += found.low <= 0 <= found.high
    assert 0.933 <= hits / runs <= 0.967


@pytest.mark.slow
def test_one_seeds_clustered_interval_covers_95_percent():
    rng = np.random.default_rng(14)
    clusters = list(np.repeat(np.arange(30), 10))
    hits, runs = 0, 2000
    for _ in range(runs):
        x = 0.3 * rng.standard_normal(30)[clusters] + 0.4 * rng.standard_normal(300)
        found = statistics.mean(x, clusters)
        hits += found.low <= 0 <= found.high
    assert 0.935 <= hits / runs <= 0.965


def test_wilsons_interval_covers_95_percent_of_rare_events_where_the_plain_one_does_not():
    k, rare = np.arange(201), np.linspace(0.01, 0.1, 91)
    chances = stats.binom.pmf(k[:, None], 200, rare[None, :])  # exact: nothing is drawn
    share = k / 200
    half = 1.96 * np.sqrt(share * (1 - share) / 200)
    ours = np.array([statistics.wilson(int(x), 200) for x in k])
    covered = [
        float((chances * ((low[:, None] <= rare) & (rare <= high[:, None]))).sum(axis=0).mean())
        for low, high in ((ours[:, 0], ours[:, 1]), (share - half, share + half))
    ]
    assert 0.945 <= covered[0] <= 0.96  # on average over rates: a count is discrete
    assert covered[1] < 0.93


def test_the_interval_of_a_rate_holds_nothing_that_a_rate_cannot_be():
    one = {(0, str(n)): float(n < 5) for n in range(8)}
    groups = {str(n): n // 4 for n in range(8)}  # two clusters: t with one degree of freedom
    assert statistics.summary(one, groups).high > 1
    found = statistics.summary(one, groups, is_rate=True)
    assert (found.value, found.low, found.high) == (0.625, 0.0, 1.0)
    three = {(seed, name): value for (_, name), value in one.items() for seed in range(3)}
    found = statistics.summary(three, groups, is_rate=True)
    assert 0 <= found.low < found.value < found.high <= 1
