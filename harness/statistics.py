"""Estimates with intervals: what a report may say, and how sure it may be.

Two claims are kept apart. *Checkpoint*: the prompts are random, the trained weights are given.
*Method*: seeds and prompts are both random, which takes at least three seeds. A comparison is
always a paired difference with its own interval, matched by (seed, prompt) and never by position.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Claim = Literal["checkpoint", "method"]
Array = NDArray[np.float64]
Key = tuple[int, str]  # (seed, prompt id)

METHOD_SEEDS = 3  # with fewer, the spread over seeds cannot be estimated
ALPHA = 0.05
POWER = 0.80


@dataclass(frozen=True)
class Tails:
    """How far value / stderr may stray by chance: Student's t, and for few seeds a heavier law.

    A two-sided p is the larger of t's with `df`, and of the mixture that gives `share` to t with
    `seed_df` and the rest to t with `cluster_df`. Satterthwaite's freedom alone errs in 8 % where
    5 % are claimed if three seeds make up most of the variance, and ten times too often at the
    levels of Holm's first steps: three seeds that happen to agree look both precise and many.
    """

    df: float
    share: float = 0.0
    seed_df: float = 1.0
    cluster_df: float = 1.0

    def p(self, t: float) -> float:
        """Return the two-sided p-value of a standardised value."""
        from scipy.special import stdtr

        own = 2 * float(stdtr(self.df, -abs(t)))
        return max(own, self.mixed(abs(t))) if self.share > 0 else own

    def mixed(self, t: float) -> float:
        """Return the mixture's two-sided p-value of t >= 0."""
        from scipy.special import stdtr

        parts = ((self.share, self.seed_df), (1 - self.share, self.cluster_df))
        return float(sum(weight * 2 * stdtr(df, -t) for weight, df in parts))

    def critical(self, alpha: float) -> float:
        """Return the standardised value whose p is alpha, NaN where no freedom is left."""
        from scipy.special import stdtrit

        if not self.df > 0:
            return math.nan
        own = float(stdtrit(self.df, 1 - alpha / 2))
        if self.share <= 0 or self.mixed(own) <= alpha:
            return own
        from scipy.optimize import brentq

        freedom = min(self.seed_df, self.cluster_df)
        widest = 1 + float(stdtrit(freedom, 1 - alpha / 2))
        return float(brentq(lambda t: self.mixed(t) - alpha, own, widest, xtol=1e-10))

    def detectable(self, stderr: float, *, alpha: float = ALPHA, power: float = POWER) -> float:
        """Return the minimal detectable effect (t(1 - alpha/2) + t(power)) * SE."""
        return (self.critical(alpha) + self.critical(2 * (1 - power))) * stderr


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error, interval and sizes. `n` counts prompts.

    `share` is the part of the variance whose freedom is the seeds'; see `Tails`.
    """

    value: float
    stderr: float
    df: float
    low: float
    high: float
    n: int
    clusters: int
    seeds: int
    claim: Claim
    share: float = 0.0

    @property
    def tails(self) -> Tails:
        """The reference distribution of p-values and intervals."""
        return Tails(self.df, self.share, self.seeds - 1, self.clusters - 1)

    @property
    def p(self) -> float:
        """Two-sided p-value of the value being 0; 1.0 where no standard error can be given."""
        if not math.isfinite(self.stderr) or (self.stderr == 0 and self.value == 0):
            return 1.0
        if self.stderr == 0:
            return 0.0
        return self.tails.p(self.value / self.stderr)

    @property
    def mde(self) -> float:
        """The smallest difference found with 80 % power at this standard error."""
        return self.tails.detectable(self.stderr)

    def interval(self, level: float) -> tuple[float, float]:
        """Return the interval at another level, such as .90 for equivalence within a margin."""
        half = self.tails.critical(1 - level) * self.stderr
        return self.value - half, self.value + half


def critical(alpha: float, df: float) -> float:
    """Return t(1 - alpha/2, df), NaN where no degree of freedom is left."""
    return Tails(df).critical(alpha)


def estimate(
    value: float,
    stderr: float,
    df: float,
    *,
    n: int,
    clusters: int,
    seeds: int,
    claim: Claim,
    share: float = 0.0,
) -> Estimate:
    """Return an estimate with its 95 % interval."""
    half = Tails(df, share, seeds - 1, clusters - 1).critical(ALPHA) * stderr
    return Estimate(value, stderr, df, value - half, value + half, n, clusters, seeds, claim, share)


def mean(values: Sequence[float] | Array, clusters: Sequence[Hashable] | None = None) -> Estimate:
    """Return the mean of one value a prompt, with the clustered standard error.

    SE = sqrt(C/(C-1) * sum_c (sum_{i in c} (x_i - mean))^2) / n, t with C - 1 degrees of freedom
    (Miller 2024, arXiv:2411.00640). Without clusters every prompt is its own and SE = s/sqrt(n).
    Raises ValueError for no values; one cluster alone has no standard error (NaN).
    """
    x = np.asarray(values, dtype=float)
    if x.size == 0:
        raise ValueError("a mean needs at least one value")
    index, count = cluster_index(clusters, x.size)
    centre = float(x.mean())
    sums = np.bincount(index, x - centre, minlength=count)
    stderr = math.nan
    if count > 1:
        stderr = math.sqrt(count / (count - 1) * float(sums @ sums)) / x.size
    return estimate(
        centre, stderr, count - 1, n=x.size, clusters=count, seeds=1, claim="checkpoint"
    )


def rate(values: Sequence[float] | Array, clusters: Sequence[Hashable] | None = None) -> Estimate:
    """Return the mean of values in [0, 1]: as `mean`, but with Wilson's interval where it applies.

    Wilson is used for 0/1 values on independent prompts, and where all values are 0 or all are 1:
    then t would claim certainty, and the clusters are the only independent trials there are.
    """
    plain = mean(values, clusters)
    x = np.asarray(values, dtype=float)
    constant = bool(np.all(x == 0) or np.all(x == 1))
    binary = bool(np.all((x == 0) | (x == 1))) and plain.clusters == plain.n
    if not (constant or binary):
        return plain
    low, high = wilson(plain.value * plain.clusters, plain.clusters)
    return Estimate(
        plain.value, plain.stderr, plain.df, low, high, plain.n, plain.clusters, 1, "checkpoint"
    )


def wilson(successes: float, n: int, *, alpha: float = ALPHA) -> tuple[float, float]:
    """Return Wilson's (1927) score interval of a rate."""
    from scipy.special import ndtri

    z = float(ndtri(1 - alpha / 2))
    share, scale = successes / n, 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    low, high = max(centre - half, 0.0), min(centre + half, 1.0)
    return (0.0 if successes == 0 else low), (1.0 if successes == n else high)


@dataclass(frozen=True)
class MeanSquares:
    """The crossed analysis of variance of a (seeds, clusters) table without replication."""

    centre: float
    seeds: int
    clusters: int
    of_seeds: float
    of_clusters: float
    of_rest: float


def mean_squares(table: Array, clusters: Sequence[Hashable] | None = None) -> MeanSquares:
    """Return the mean squares of seeds, of prompts' clusters, and of the rest.

    Clusters enter by u[s, c] = mean + (C/n) * sum_{i in c} (d[s, i] - mean), which keeps the mean
    over prompts where cluster sizes differ. Raises ValueError for fewer than two seeds or clusters.
    """
    d = np.asarray(table, dtype=float)
    seeds, n = d.shape
    centre = float(d.mean())
    index, count = cluster_index(clusters, n)
    if seeds < 2 or count < 2:
        raise ValueError(f"two levels need two seeds and two clusters, not {seeds} and {count}")
    u = np.stack([np.bincount(index, row - centre, minlength=count) for row in d]) * (count / n)
    rows, columns = u.mean(axis=1), u.mean(axis=0)
    rest = u - rows[:, None] - columns[None, :] + u.mean()
    of_seeds = count * float(((rows - u.mean()) ** 2).sum()) / (seeds - 1)
    of_clusters = seeds * float(((columns - u.mean()) ** 2).sum()) / (count - 1)
    of_rest = float((rest**2).sum()) / ((seeds - 1) * (count - 1))
    return MeanSquares(centre, seeds, count, of_seeds, of_clusters, of_rest)


def two_level_error(found: MeanSquares) -> tuple[float, Tails]:
    """Return the standard error of the mean with seeds and prompts random, and its tails.

    With MS_a of seeds, MS_b of clusters and MS_e of the rest: A = max(MS_a, MS_e), B = max(MS_b,
    MS_e), since no variance is negative, SE^2 = (A + B - MS_e) / (S C), Satterthwaite's degrees of
    freedom. The seeds' share of the variance is that of A - MS_e, and of MS_e / S, since equal seed
    means may be luck.
    """
    seeds, count = found.seeds, found.clusters
    largest = max(found.of_seeds, found.of_rest)
    of_clusters = max(found.of_clusters, found.of_rest)
    total = largest + of_clusters - found.of_rest
    spread = (
        largest**2 / (seeds - 1)
        + of_clusters**2 / (count - 1)
        + found.of_rest**2 / ((seeds - 1) * (count - 1))
    )
    df = total**2 / spread if spread > 0 else float(seeds - 1)
    by_seeds = largest - found.of_rest * (1 - 1 / seeds)
    share = min(by_seeds / total, 1.0) if total > 0 else 1.0
    return math.sqrt(max(total, 0.0) / (seeds * count)), Tails(df, share, seeds - 1, count - 1)


def two_level(table: Array, clusters: Sequence[Hashable] | None = None) -> Estimate:
    """Return the mean of a (seeds, prompts) table with both seeds and prompts random.

    Raises ValueError for fewer than two seeds or clusters.
    """
    found = mean_squares(table, clusters)
    stderr, tails = two_level_error(found)
    return estimate(
        found.centre, stderr, tails.df, n=np.shape(table)[1], clusters=found.clusters,
        seeds=found.seeds, claim="method", share=tails.share,
    )  # fmt: skip


def summary(
    values: Mapping[Key, float], clusters: Mapping[str, Hashable], *, is_rate: bool = False
) -> Estimate:
    """Return the estimate that the number of seeds allows, from one value per (seed, prompt).

    Three seeds or more give the method-level estimate; one or two give the checkpoint-level one
    over the prompts' means. Prompts that a seed lacks are left out, and `n` shows it.
    """
    seeds, prompts, table = as_table(values)
    groups = [clusters[prompt] for prompt in prompts]
    if len(seeds) >= METHOD_SEEDS and len(set(groups)) > 1:
        found = two_level(table, groups)
        if is_rate and found.value in (0.0, 1.0):
            low, high = wilson(found.value * found.clusters, found.clusters)
            found = replace(found, stderr=0.0, low=low, high=high)
    else:
        one = (rate if is_rate else mean)(table.mean(axis=0), groups)
        found = replace(one, seeds=len(seeds), claim="checkpoint")
    if is_rate:  # t of a few clusters reaches past what a rate can be
        found = replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))
    return found


def difference(
    ours: Mapping[Key, float], theirs: Mapping[Key, float], clusters: Mapping[str, Hashable]
) -> Estimate:
    """Return ours minus theirs, paired by (seed, prompt), on what both sides have.

    Raises ValueError where the two sides share no (seed, prompt).
    """
    shared = {key: ours[key] - theirs[key] for key in ours if key in theirs}
    return summary(shared, clusters)


def as_table(values: Mapping[Key, float]) -> tuple[list[int], list[str], Array]:
    """Return seeds, prompts and the complete (seeds, prompts) table; sorted, so order is no matter.

    Raises ValueError where no prompt was answered under every seed.
    """
    seeds = sorted({seed for seed, _ in values})
    every = {prompt for _, prompt in values}
    if len(values) < len(seeds) * len(every):
        every = {prompt for prompt in every if all((seed, prompt) in values for seed in seeds)}
    prompts = sorted(every)
    if not prompts:
        raise ValueError("the two sides have no (seed, prompt) in common")
    table = np.array([[values[seed, prompt] for prompt in prompts] for seed in seeds])
    return seeds, prompts, table


def win_score(ours: float, theirs: float, *, tolerance: float = 1e-9) -> float:
    """Return 1 for a win, 0 for a loss, 1/2 for a tie: swapping the sides gives 1 - w."""
    if abs(ours - theirs) <= tolerance:
        return 0.5
    return float(ours > theirs)


def rate_bounds(rate: float, valid: int, invalid: int) -> tuple[float, float]:
    """Return a rate if all invalid judgements were 0 (lost), and if all were 1 (won)."""
    asked = valid + invalid
    return rate * valid / asked, (rate * valid + invalid) / asked


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's (1979) step-down adjusted p-values, in the order given."""
    m = len(p_values)
    adjusted, largest = [0.0] * m, 0.0
    for rank, i in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (m - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def cluster_index(clusters: Sequence[Hashable] | None, n: int) -> tuple[NDArray[np.intp], int]:
    """Return each prompt's cluster as a number, and how many clusters there are."""
    if clusters is None:
        return np.arange(n), n
    if len(clusters) != n:
        raise ValueError(f"{n} values but {len(clusters)} cluster ids; give one a value")
    known = {cluster: place for place, cluster in enumerate(dict.fromkeys(clusters))}
    index = np.array([known[cluster] for cluster in clusters], dtype=np.intp)
    return index, len(known)
