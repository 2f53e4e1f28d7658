"""Agreement against published tables, statsmodels and hand calculations."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.inter_rater import cohens_kappa, fleiss_kappa

from harness import agreement

KRIPPENDORFF = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""


def units():
    rows = [line.split() for line in KRIPPENDORFF.split("\n") if line]
    return [[float(x) for x in column if x != "."] for column in zip(*rows, strict=True)]


def pairs(table):
    return [(i, j) for (i, j), count in np.ndenumerate(np.array(table)) for _ in range(count)]


@pytest.mark.parametrize(
    ("scale", "alpha"), [("nominal", 0.7434), ("ordinal", 0.8154), ("interval", 0.8491)]
)
def test_krippendorffs_own_example(scale, alpha):
    assert agreement.krippendorffs_alpha(units(), scale) == pytest.approx(alpha, abs=5e-5)


def test_alpha_ignores_units_rated_once_and_the_order_of_raters():
    expected = agreement.krippendorffs_alpha(units(), "ordinal")
    changed = [unit[::-1] for unit in units()] + [[9.0], []]
    assert agreement.krippendorffs_alpha(changed, "ordinal") == pytest.approx(expected, abs=1e-12)


def test_nominal_alpha_nears_fleiss_kappa_on_complete_ratings():
    rng = np.random.default_rng(1)
    rows = rng.choice(3, (4000, 1)) * np.ones((1, 4), int)
    rows = np.where(rng.random(rows.shape) < 0.3, rng.choice(3, rows.shape), rows)
    counts = np.array([[np.sum(row == k) for k in range(3)] for row in rows])
    found = agreement.krippendorffs_alpha(rows.tolist(), "nominal")
    # They differ by the correction for small samples, (1 - kappa) / (items x raters)
    kappa = fleiss_kappa(counts)
    assert found == pytest.approx(1 - (1 - kappa) * (1 - 1 / rows.size), abs=1e-10)


def test_equal_ratings_alone_leave_alpha_and_kappa_without_a_value():
    assert agreement.krippendorffs_alpha([[1, 1], [1, 1]], "nominal") is None
    assert agreement.cohens_kappa([("x", "x")] * 5) is None
    assert agreement.gwets_ac1([["x", "x"]] * 5) == 1.0


@pytest.mark.parametrize(
    ("table", "kappa", "ac1"),
    [([[20, 5], [10, 15]], 0.4000, 0.4059), ([[90, 4], [5, 1]], 0.1346, 0.8996)],
)
def test_kappa_and_ac1_of_two_raters(table, kappa, ac1):
    assert agreement.cohens_kappa(pairs(table)) == pytest.approx(kappa, abs=5e-5)
    assert agreement.gwets_ac1(pairs(table)) == pytest.approx(ac1, abs=5e-5)


def test_kappa_of_several_labels_agrees_with_statsmodels_and_ignores_their_names():
    table = [[10, 2, 1], [3, 12, 4], [0, 5, 9]]
    named = [("abc"[i], "abc"[j]) for i, j in pairs(table)]
    known = cohens_kappa(np.array(table), return_results=False)
    assert agreement.cohens_kappa(named) == pytest.approx(known, abs=1e-8)


def test_ac1_counts_categories_that_nobody_used():
    given = [["win", "win"], ["loss", "win"], ["loss", "loss"], ["win", "win"]]
    # agreement 3/4; shares 5/8, 3/8: chance 2 * (15/64) / (q - 1)
    assert agreement.gwets_ac1(given) == pytest.approx((0.75 - 15 / 32) / (1 - 15 / 32))
    three = agreement.gwets_ac1(given, ["win", "tie", "loss"])
    assert three == pytest.approx((0.75 - 15 / 64) / (1 - 15 / 64))


@pytest.mark.parametrize(
    ("ranks", "w"),
    [
        ([[1, 2, 3]] * 3, 1.0),
        ([[1, 2, 3], [2, 3, 1], [3, 1, 2]], 0.0),
        ([[1, 2, 3], [1, 3, 2], [1, 2, 3]], 0.7778),
    ],
)
def test_kendalls_w(ranks, w):
    assert agreement.kendalls_w(ranks) == pytest.approx(w, abs=5e-5)


def test_calibration_error_by_hand():
    # bin .6: said .65, right 1/2, gap .15 over two; bin .9 with 1.0: said .95 and 1.0, both right
    found = agreement.calibration_error([0.6, 0.7, 0.95, 1.0], [1, 0, 1, 1], bins=5)
    assert found == pytest.approx((2 * abs(0.5 - 0.65) + 2 * abs(1 - 0.975)) / 4)


def test_honest_confidence_has_a_small_calibration_error_and_boasting_a_large_one():
    rng = np.random.default_rng(2)
    said = rng.uniform(0.5, 1, 20_000)
    right = rng.random(20_000) < said
    assert agreement.calibration_error(said, right) < 0.02
    assert agreement.calibration_error(np.ones(20_000), right) == pytest.approx(0.25, abs=0.02)


def test_kendalls_w_with_ties_is_that_of_friedmans_test():
    """W = chi2 / (m (n - 1)), and scipy corrects chi2 for ties."""
    from scipy.stats import friedmanchisquare

    values = np.random.default_rng(5).integers(0, 4, (6, 7)).astype(float)
    expected = friedmanchisquare(*values.T).statistic / (6 * 6)
    assert agreement.kendalls_w(values) == pytest.approx(expected, abs=1e-12)
    assert agreement.kendalls_w([[2.0, 2.0], [1.0, 1.0]]) is None


def test_agreement_without_ratings_is_refused():
    with pytest.raises(ValueError, match="rated twice"):
        agreement.krippendorffs_alpha([[1.0], []], "nominal")
    with pytest.raises(ValueError, match="rated twice"):
        agreement.gwets_ac1([["a"]])
    with pytest.raises(ValueError, match="both rated"):
        agreement.cohens_kappa([])
    with pytest.raises(ValueError, match="two items"):
        agreement.kendalls_w([[1], [1]])
    with pytest.raises(ValueError, match="probabilities"):
        agreement.calibration_error([1.2], [1])
