"""How far raters and judges agree, beyond what chance would give, and how honest their doubt is.

Print two numbers side by side where labels are skewed: with 91 % of one label, kappa may be .13 and
AC1 .90 on the same table.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal, TypeVar

import numpy as np

from harness.statistics import Array

Scale = Literal["nominal", "ordinal", "interval"]
T = TypeVar("T", bound=Hashable)
BINS = 10


def cohens_kappa(pairs: Sequence[tuple[T, T]]) -> float | None:
    """Return Cohen's (1960) kappa of two raters; None where chance alone would agree on all.

    pairs: what both said of each item. Raises ValueError for no pairs.
    """
    from statsmodels.stats.inter_rater import cohens_kappa as known

    if not pairs:
        raise ValueError("agreement needs one item at least that both rated")
    labels = list(dict.fromkeys(label for pair in pairs for label in pair))
    if len(labels) == 1:
        return None
    table = np.zeros((len(labels), len(labels)))
    for one, other in pairs:
        table[labels.index(one), labels.index(other)] += 1
    return float(known(table, return_results=False))


def krippendorffs_alpha(units: Sequence[Sequence[float]], scale: Scale) -> float | None:
    """Return Krippendorff's (2011) alpha of any number of raters; None where all values are equal.

    units: the ratings that each item got, in any number; items with fewer than two are ignored.
    alpha = 1 - observed / expected disagreement from the matrix of coincidences, whose entries are
    a unit's ordered pairs over its ratings less one. Raises ValueError where no item has two.
    """
    several = [unit for unit in units if len(unit) > 1]
    if not several:
        raise ValueError("no item was rated twice; give one rating to two raters at least")
    levels = sorted({value for unit in several for value in unit})
    place = {value: i for i, value in enumerate(levels)}
    together = np.zeros((len(levels), len(levels)))
    for unit in several:
        counts = np.bincount([place[value] for value in unit], minlength=len(levels))
        together += (np.outer(counts, counts) - np.diag(counts)) / (len(unit) - 1)
    often = together.sum(axis=1)
    apart = distances(np.array(levels, dtype=float), often, scale)
    expected = float(often @ apart @ often) / float(often.sum() - 1)
    if expected == 0:
        return None
    observed = float((together * apart).sum())
    return 1 - observed / expected


def distances(levels: Array, often: Array, scale: Scale) -> Array:
    """Return the squared distance of every two levels; (levels, levels).

    Ordinal levels are as far apart as there are ratings between them, half of each end counted.
    """
    if scale == "nominal":
        return 1.0 - np.eye(len(levels))
    if scale == "interval":
        return np.asarray((levels[:, None] - levels[None, :]) ** 2, dtype=float)
    middle = np.cumsum(often) - often / 2
    return np.asarray((middle[:, None] - middle[None, :]) ** 2, dtype=float)


def gwets_ac1(units: Sequence[Sequence[T]], labels: Sequence[T] | None = None) -> float:
    """Return Gwet's (2008) AC1 of any number of raters, which skewed labels do not pull down.

    units: the labels that each item got; labels: the categories there are, those seen where none
    are given. Agreement is averaged over items with two ratings or more, chance is
    sum_k pi_k (1 - pi_k) / (q - 1) with pi_k the mean share of label k over all rated items. One
    category alone is perfect agreement. Raises ValueError where no item has two ratings.
    """
    several = [unit for unit in units if len(unit) > 1]
    if not several:
        raise ValueError("no item was rated twice; give one rating to two raters at least")
    known = list(labels) if labels else list(dict.fromkeys(x for unit in units for x in unit))
    if len(known) < 2:
        return 1.0
    counts = np.array([[list(unit).count(label) for label in known] for unit in units if unit])
    rated = counts.sum(axis=1)
    share = (counts / rated[:, None]).mean(axis=0)
    twice = counts[rated > 1]
    m = twice.sum(axis=1)
    agree = float(((twice * (twice - 1)).sum(axis=1) / (m * (m - 1))).mean())
    chance = float((share * (1 - share)).sum()) / (len(known) - 1)
    return (agree - chance) / (1 - chance)


def kendalls_w(values: Sequence[Sequence[float]]) -> float | None:
    """Return Kendall's W of how raters order items: 1 where all agree, 0 where they cancel out.

    values: (raters, items), ranked here, ties sharing the mean of their ranks. With S the squared
    deviations of the rank sums and T_j = sum over a rater's ties of t^3 - t,
    W = 12 S / (m^2 (n^3 - n) - m sum_j T_j) (Kendall and Babington Smith 1939). None where every
    rater ties everything. Raises ValueError for fewer than two items.
    """
    from scipy.stats import rankdata

    ranks = rankdata(np.asarray(values, dtype=float), axis=1)
    m, n = ranks.shape
    if n < 2:
        raise ValueError("an order needs two items at least")
    sums = ranks.sum(axis=0)
    ties = sum(
        float((counts**3 - counts).sum())
        for counts in (np.unique(row, return_counts=True)[1].astype(float) for row in ranks)
    )
    most = m * m * (n**3 - n) - m * ties
    return float(12 * ((sums - sums.mean()) ** 2).sum() / most) if most else None


def calibration_error(
    confidence: Sequence[float] | Array, correct: Sequence[float] | Array, *, bins: int = BINS
) -> float:
    """Return the expected calibration error over bins of equal width (Guo et al. 2017).

    confidence: (n,), the probability given to one's own choice; correct: (n,), in [0, 1]. The sum
    over bins of n_b / n |mean correct - mean confidence|. Width and not count makes the bins: a
    judge says few distinct probabilities, and bins of equal count would part equal ones. Raises
    ValueError for no item and for probabilities outside [0, 1].
    """
    said, true = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=float)
    if len(said) == 0 or len(said) != len(true):
        raise ValueError(f"{len(said)} confidences and {len(true)} outcomes: give one of each")
    if said.min() < 0 or said.max() > 1:
        raise ValueError("confidences are probabilities, between 0 and 1")
    index = np.minimum((said * bins).astype(int), bins - 1)
    gaps = np.bincount(index, true - said, minlength=bins)
    return float(np.abs(gaps).sum() / len(said))
