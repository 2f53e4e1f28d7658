"""Gao's forms and the limit of reward at a KL, against planted curves, scipy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import curve_fit, minimize_scalar
from scipy.stats import t as t_law

from harness import overoptimisation

FORMS = {
    "best-of-n": lambda d, a, b: d * (a - b * d),
    "rl": lambda d, a, b: d * (a - b * np.log(d)),
}


def planted(form, alpha=1.0, beta=0.2, *, noise=0.02, last=4.0, points=25):
    rng = np.random.default_rng(1)
    d = np.linspace(0.3, last, points)
    stderr = noise * (1 + d)
    return d**2, FORMS[form](d, alpha, beta) + stderr * rng.standard_normal(points), stderr


@pytest.mark.parametrize("form", FORMS)
def test_planted_coefficients_are_recovered_exactly_without_noise(form):
    d = np.linspace(0.3, 4, 12)
    found = overoptimisation.fit(d**2, FORMS[form](d, 1.3, 0.4), np.full(12, 0.1), form)
    assert (found.alpha, found.beta) == pytest.approx((1.3, 0.4), abs=1e-10)
    assert found.residual == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_a_fit_and_its_error_agree_with_scipy(form):
    kl, reward, stderr = planted(form)
    known, covariance = curve_fit(FORMS[form], np.sqrt(kl), reward, sigma=stderr, p0=(1, 0.2))
    found = overoptimisation.fit(kl, reward, stderr, form)
    assert (found.alpha, found.beta) == pytest.approx(known, rel=1e-6)
    from scipy.stats import t

    half = t.ppf(0.975, 23) * math.sqrt(covariance[1, 1])
    assert found.beta_high - found.beta == pytest.approx(half, rel=1e-5)
    assert found.beta_low < 0.2 < found.beta_high


@pytest.mark.parametrize("form", FORMS)
def test_the_peak_is_where_a_numerical_search_finds_it(form):
    found = overoptimisation.fit(*planted(form, 1.0, 0.5), form)
    searched = minimize_scalar(lambda d: -found.reward(d), bounds=(0.01, 50), method="bounded")
    assert found.peak == pytest.approx((searched.x, -searched.fun), rel=1e-4)


def test_a_turnover_is_claimed_only_where_the_peak_was_passed_for_sure():
    fit = overoptimisation.fit
    assert fit(*planted("best-of-n", 1.0, 0.2), "best-of-n").turns  # at 2.5 of 4
    assert not fit(*planted("best-of-n", 1.0, 0.1), "best-of-n").turns  # at 5 of 4
    assert not fit(*planted("best-of-n", 1.0, 0.0, noise=0.001), "best-of-n").turns
    unsure = fit(*planted("best-of-n", 1.0, 0.2, noise=5.0), "best-of-n")
    assert unsure.beta_low < 0
    assert not unsure.turns


def test_points_near_sft_are_left_out_of_the_rl_form_and_counted():
    kl, reward, stderr = planted("rl")
    near = (
        np.append(kl, [0.0, 0.001]),
        np.append(reward, [0.0, 9.0]),
        np.append(stderr, [0.1] * 2),
    )
    one, other = (overoptimisation.fit(*data, "rl") for data in ((kl, reward, stderr), near))
    assert (one.near, other.near) == (0, 2)
    assert one.alpha == other.alpha


def test_each_form_fits_its_own_curve_better():
    for own, other in (("rl", "best-of-n"), ("best-of-n", "rl")):
        data = planted(own, noise=0.005)
        ours, theirs = (overoptimisation.fit(*data, form) for form in (own, other))
        assert ours.residual < theirs.residual


def test_data_that_no_curve_goes_through_are_refused():
    with pytest.raises(ValueError, match="needs three"):
        overoptimisation.fit([0.0, 1.0, 2.0], [0, 1, 2], [1, 1, 1], "best-of-n")
    with pytest.raises(ValueError, match="one distance"):
        overoptimisation.fit([4.0] * 3, [0, 1, 2], [1, 1, 1], "rl")
    with pytest.raises(ValueError, match="negative"):
        overoptimisation.fit([-1.0, 1.0, 2.0], [0, 1, 2], [1, 1, 1], "rl")


def test_the_limit_of_gaussian_rewards_is_the_root_of_twice_the_kl():
    rewards = np.random.default_rng(2).standard_normal((20, 4096)) + 3.0
    found = overoptimisation.limit_curve(rewards)
    assert found.kl[-1] > 1.0
    assert found.reward == pytest.approx(np.sqrt(2 * found.kl), abs=0.03)


def test_the_limit_is_not_drawn_where_few_samples_bias_it():
    found = overoptimisation.limit_curve(np.random.default_rng(3).standard_normal((50, 64)))
    assert found.kl.max() <= math.log(64) / 4
    assert (np.diff(found.kl) > 0).all()
    assert (np.diff(found.reward) > 0).all()


def test_the_limit_of_two_values_is_the_binary_closed_form():
    # Reward 1 with probability q under SFT: tilting to p costs p log(p/q) + (1-p) log((1-p)/(1-q))
    found = overoptimisation.limit_curve(np.tile([1.0] * 25 + [0.0] * 75, (3, 1)))
    p = found.reward + 0.25
    kl = p * np.log(p / 0.25) + (1 - p) * np.log((1 - p) / 0.75)
    assert found.kl == pytest.approx(kl, abs=1e-9)


def test_best_of_n_stays_under_the_limit():
    from harness.best_of_n_curves import expected_best, kl_bound

    rewards = np.random.default_rng(4).gumbel(size=(40, 1024))
    limit = overoptimisation.limit_curve(rewards)
    for n in (2, 4, 8):
        gains = [expected_best(row, row - row.mean(), n) for row in rewards[:10]]
        most = np.interp(kl_bound(n), limit.kl, limit.reward)
        assert np.mean(gains) < most + 0.05


def test_equal_rewards_have_no_limit_curve():
    with pytest.raises(ValueError, match="nothing to gain"):
        overoptimisation.limit_curve(np.ones((3, 4)))


def test_the_interval_of_the_peak_has_its_ends_where_the_ratio_is_just_told_apart():
    """Fieller: at an end r of alpha / beta, alpha - r beta is t standard errors from 0."""
    draw = np.random.default_rng(4)
    d = np.linspace(0.3, 2.5, 12)
    found = overoptimisation.fit(
        d**2, d * (2 - d) + draw.normal(0, 0.05, 12), np.full(12, 0.05), "best-of-n"
    )
    low, high = found.peak_interval
    assert low < found.peak[0] < high
    of_alpha, of_both, of_beta = found.covariance
    for end in (2 * low, 2 * high):
        error = math.sqrt(of_alpha - 2 * end * of_both + end**2 * of_beta)
        apart = abs(found.alpha - end * found.beta) / error
        assert apart == pytest.approx(t_law.ppf(0.975, found.df), rel=1e-9)


def test_a_peak_of_a_curve_that_may_not_bend_has_no_interval():
    draw = np.random.default_rng(5)
    d = np.linspace(0.3, 0.6, 6)
    found = overoptimisation.fit(d**2, d + draw.normal(0, 0.2, 6), np.full(6, 0.2), "best-of-n")
    assert found.beta_low <= 0
    assert found.peak_interval is None
