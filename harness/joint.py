"""Joint regions of two estimates, and which of many rows may stand on the frontier of both.

A joint region holds both true values at once; two intervals of 95 % drawn as a cross do not. The
claim is that of `harness.statistics.summary`: prompts random, and from three seeds on seeds too.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from harness.resampling import bootstrap_means
from harness.statistics import (
    ALPHA,
    METHOD_SEEDS,
    Array,
    Estimate,
    Key,
    Tails,
    as_table,
    cluster_index,
    summary,
)

TILTED_SEEDS = 5  # with fewer, nobody knows how two means go together over seeds
DRAWS = 4_000
HALF_TURN = math.pi


@dataclass(frozen=True)
class Region:
    """The points z = (x, y) with (z - centre)' shape^-1 (z - centre) <= 1: an ellipse.

    shape: (2, 2), zero along an axis without spread. `correlation` is that of the two means, None
    for an upright ellipse, which holds whatever it is.
    """

    x: Estimate
    y: Estimate
    shape: Array
    correlation: float | None

    @property
    def centre(self) -> Array:
        """The two estimates, (2,)."""
        return np.array([self.x.value, self.y.value])

    def outline(self, points: int = 120) -> Array:
        """Return points of the border, once round, (points, 2); NaN where there is no region."""
        if not np.isfinite(self.shape).all():
            return np.full((points, 2), math.nan)
        size, axes = np.linalg.eigh(self.shape)
        turn = np.linspace(-HALF_TURN, HALF_TURN, points)
        circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
        bent: Array = self.centre + circle @ (axes * np.sqrt(np.maximum(size, 0.0))).T
        return bent

    def holds(self, x: float, y: float) -> bool:
        """Say whether a point lies inside; nothing does where there is no region."""
        if not np.isfinite(self.shape).all():
            return False
        away = np.array([x, y]) - self.centre
        flat = np.diag(self.shape) <= 0
        if (np.abs(away[flat]) > 0).any():
            return False
        rest = np.linalg.pinv(self.shape)
        return bool(away @ rest @ away <= 1)


def region(
    x: Mapping[Key, float],
    y: Mapping[Key, float],
    clusters: Mapping[str, Hashable],
    *,
    alpha: float = ALPHA,
) -> Region:
    """Return the ellipse that holds both means at once, from one value per (seed, prompt) each.

    Where both are of the same seeds and prompts it is Hotelling's (1931), from their covariance
    over clusters of prompts and, for a method's claim, over seeds. With three or four seeds, and
    where prompts differ, it is the upright ellipse around Bonferroni's two intervals: sqrt(2) of
    each at alpha / 2. Raises ValueError where either has no value.
    """
    one, other = summary(x, clusters), summary(y, clusters)
    few = METHOD_SEEDS <= min(one.seeds, other.seeds) < TILTED_SEEDS
    if few or x.keys() != y.keys() or one.claim != other.claim:
        halves = [e.tails.critical(alpha / 2) * e.stderr for e in (one, other)]
        return Region(one, other, 2 * np.diag(np.square(halves)), None)
    found = correlation(x, y, clusters)
    errors = np.array([one.stderr, other.stderr])
    covariance = np.outer(errors, errors) * np.array([[1.0, found], [found, 1.0]])
    return Region(one, other, covariance * quantile(one, other, alpha), found)


def correlation(
    x: Mapping[Key, float], y: Mapping[Key, float], clusters: Mapping[str, Hashable]
) -> float:
    """Return the correlation of two means of the same seeds and prompts, 0 where one is constant.

    Of a checkpoint from the clusters' sums of deviations. Of a method from the mean squares and
    products of the crossed analysis of variance, M_a of seeds, M_b of clusters, M_e of the rest:
    (M_a - M_e)+ + (M_b - M_e)+ + M_e, where + leaves out negative variances.
    """
    seeds, prompts, _ = as_table(x)
    tables = np.stack([as_table(one)[2] for one in (x, y)])  # (2, seeds, prompts)
    index, count = cluster_index([clusters[prompt] for prompt in prompts], len(prompts))
    away = tables - tables.mean(axis=(1, 2), keepdims=True)
    u = np.array([[np.bincount(index, row, minlength=count) for row in both] for both in away])
    columns = u.mean(axis=1)  # (2, clusters)
    total = columns @ columns.T
    if len(seeds) >= METHOD_SEEDS:
        rows = u.mean(axis=2)
        rest = u - rows[:, :, None] - columns[:, None, :]
        of_rest = products(rest.reshape(2, -1), (len(seeds) - 1) * (count - 1))
        of_seeds = count * products(rows, len(seeds) - 1)
        of_clusters = len(seeds) * products(columns, count - 1)
        total = positive(of_seeds - of_rest) + positive(of_clusters - of_rest) + of_rest
    scale = math.sqrt(float(total[0, 0] * total[1, 1]))
    return float(np.clip(total[0, 1] / scale, -1.0, 1.0)) if scale > 0 else 0.0


def products(deviations: Array, df: int) -> Array:
    """Return mean squares and products of two rows of deviations: (2, n) to (2, 2)."""
    found: Array = deviations @ deviations.T / df
    return found


def positive(matrix: Array) -> Array:
    """Return a symmetric matrix without its negative eigenvalues."""
    size, axes = np.linalg.eigh(matrix)
    kept: Array = (axes * np.maximum(size, 0.0)) @ axes.T
    return kept


def quantile(one: Estimate, other: Estimate, alpha: float = ALPHA) -> float:
    """Return the squared distance, in standard errors, that two means at once stay within.

    Hotelling's with the smaller freedom of the two and, as for one mean (`Tails`), no less than
    the mixture's of seeds and clusters.
    """
    tails = min((one.tails, other.tails), key=lambda each: each.df)
    tails = Tails(tails.df, max(one.share, other.share), tails.seed_df, tails.cluster_df)
    own = hotelling(alpha, tails.df)
    if tails.share <= 0 or not math.isfinite(own):
        return own
    parts = ((tails.share, tails.seed_df), (1 - tails.share, tails.cluster_df))

    def beyond(distance: float) -> float:
        return sum(weight * beyond_hotelling(distance, df) for weight, df in parts) - alpha

    if beyond(own) <= 0:
        return own
    from scipy.optimize import brentq

    widest = hotelling(alpha, min(tails.seed_df, tails.cluster_df))
    return float(brentq(beyond, own, widest * (1 + 1e-9), xtol=1e-10))


def hotelling(alpha: float, df: float) -> float:
    """Return the upper quantile of Hotelling's T^2 of two means: 2 df / (df - 1) F(2, df - 1).

    F(2, m) has a closed form, so it is df (alpha^(-2 / (df - 1)) - 1). NaN for df of 1 or less.
    """
    return df * math.expm1(-2 * math.log(alpha) / (df - 1)) if df > 1 else math.nan


def beyond_hotelling(distance: float, df: float) -> float:
    """Return the probability that Hotelling's T^2 of two means exceeds a squared distance."""
    return math.exp(-(df - 1) / 2 * math.log1p(distance / df))


def frontier_shares(
    tables: Array,
    clusters: list[Hashable],
    *,
    generator: Generator,
    draws: int = DRAWS,
) -> Array:
    """Return in which share of draws each row is on the Pareto frontier of two metrics.

    tables: (rows, 2, seeds, prompts), so that higher is better; result: (rows,). A row is on the
    frontier where no other is as good on both and better on one. Draws resample clusters of
    prompts; from three seeds on, the seeds' part is drawn from Student's t, jointly for all rows,
    since seeds are never resampled.
    """
    rows, axes, seeds, prompts = tables.shape
    flat = tables.reshape(rows * axes, seeds, prompts)
    means = bootstrap_means(flat.mean(axis=1), clusters, generator=generator, draws=draws)
    if seeds >= METHOD_SEEDS:
        of_seeds = flat.mean(axis=2)  # (contrasts, seeds)
        away = (of_seeds - of_seeds.mean(axis=1, keepdims=True)) / math.sqrt(seeds * (seeds - 1))
        spread = np.sqrt(generator.chisquare(seeds - 1, (draws, 1)) / (seeds - 1))
        means = means + generator.standard_normal((draws, seeds)) @ away.T / spread
    found = means.reshape(draws, rows, axes)
    best = np.ones((draws, rows), dtype=bool)
    for other in range(rows):
        gap = found[:, other : other + 1] - found
        best &= ~((gap >= 0).all(axis=2) & (gap > 0).any(axis=2))
    shares: Array = best.mean(axis=0)
    return shares
