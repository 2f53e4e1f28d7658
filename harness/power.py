"""What a comparison can see before it runs, and what more seeds or prompts would buy.

Variances are of a paired difference between two rows. They come from an earlier run of the same
kind or are assumed; more prompts never go far below what the spread over seeds leaves.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from harness.statistics import (
    ALPHA,
    METHOD_SEEDS,
    POWER,
    Claim,
    Key,
    MeanSquares,
    Tails,
    as_table,
    mean,
    mean_squares,
    two_level_error,
)

MOST = 1_000_000  # prompts; beyond, no study is planned


@dataclass(frozen=True)
class Variances:
    """Variances of one paired difference: between seeds, between clusters of prompts, and the rest.

    `per_cluster` is how many prompts share a cluster. `seeds_seen` is how many seeds they were
    estimated from; with fewer than three the part of seeds is an assumption.
    """

    seed: float
    cluster: float
    rest: float
    per_cluster: float
    seeds_seen: int


@dataclass(frozen=True)
class Planned:
    """What a difference's standard error will be, and what can be seen with it at 80 % power.

    `margin` is the smallest margin within which two equal rows will be found equivalent.
    """

    seeds: int
    prompts: int
    stderr: float
    tails: Tails
    claim: Claim

    def difference(self, tests: int = 1) -> float:
        """Return the smallest difference found, as the most extreme of a family of tests."""
        return self.tails.detectable(self.stderr, alpha=ALPHA / tests)

    @property
    def margin(self) -> float:
        """The smallest testable margin: (t(1 - alpha) + t(1 - (1 - power) / 2)) SE."""
        factor = self.tails.critical(2 * ALPHA) + self.tails.critical(1 - POWER)
        return factor * self.stderr


def variances(
    differences: Mapping[Key, float], clusters: Mapping[str, Hashable], *, seed_variance: float
) -> Variances:
    """Return the variances that paired differences of an earlier run show.

    With one or two seeds, `seed_variance` stands in for what they cannot show, and all that varies
    within a seed is taken to belong to the prompts, which more seeds will not shrink. Raises
    ValueError for a single cluster.
    """
    seeds, prompts, table = as_table(differences)
    groups = [clusters[prompt] for prompt in prompts]
    count = len(set(groups))
    if count < 2:
        raise ValueError("one cluster of prompts shows no variance between clusters")
    per = len(prompts) / count
    if len(seeds) < METHOD_SEEDS:
        spread = mean(table.mean(axis=0), groups).stderr ** 2 * count
        return Variances(seed_variance, spread, 0.0, per, len(seeds))
    found = mean_squares(table, groups)
    of_seeds = max(found.of_seeds - found.of_rest, 0.0) / count
    of_clusters = max(found.of_clusters - found.of_rest, 0.0) / len(seeds)
    return Variances(of_seeds, of_clusters, found.of_rest, per, len(seeds))


def pooled(found: Sequence[Variances]) -> Variances:
    """Return the mean of several differences' variances. Raises ValueError for none."""
    if not found:
        raise ValueError("there are no variances to pool")
    n = len(found)
    return Variances(
        sum(x.seed for x in found) / n,
        sum(x.cluster for x in found) / n,
        sum(x.rest for x in found) / n,
        sum(x.per_cluster for x in found) / n,
        min(x.seeds_seen for x in found),
    )


def assumed(*, seed_sd: float, share: float = 0.5, correlation: float = 0.5) -> Variances:
    """Return the variances of the difference of two accuracies, without an earlier run.

    share: of right answers; correlation: between two rows on one prompt; seed_sd: of one method's
    mean over seeds, as a share. All prompts are independent.
    """
    return Variances(2 * seed_sd**2, 2 * share * (1 - share) * (1 - correlation), 0.0, 1.0, 0)


def plan(found: Variances, *, seeds: int, prompts: int) -> Planned:
    """Return the standard error to expect of the mean difference with so many seeds and prompts.

    From three seeds on it is a method's, by the mean squares that the variances lead to; with one
    or two it is the checkpoints'. Raises ValueError where fewer than two clusters are left.
    """
    count = round(prompts / found.per_cluster)
    if seeds < 1 or count < 2:
        raise ValueError(f"{seeds} seeds and {prompts} prompts are too few to plan with")
    if seeds < METHOD_SEEDS:
        stderr = math.sqrt((found.cluster + found.rest / seeds) / count)
        return Planned(seeds, prompts, stderr, Tails(count - 1), "checkpoint")
    expected = MeanSquares(
        0.0, seeds, count,
        found.rest + count * found.seed, found.rest + seeds * found.cluster, found.rest,
    )  # fmt: skip
    return Planned(seeds, prompts, *two_level_error(expected), "method")


def prompts_needed(
    found: Variances, *, seeds: int, difference: float, tests: int = 1
) -> int | None:
    """Return the fewest prompts that show a difference, None where the seeds alone hide it.

    With three seeds the smallest difference falls and then rises a little, since in the end only
    the seeds' degrees of freedom remain: so sizes are tried from below. Raises ValueError for a
    difference that is not positive.
    """
    if not difference > 0:
        raise ValueError(f"a difference to plan for is positive, but is {difference}")

    def shows(prompts: int) -> bool:
        return plan(found, seeds=seeds, prompts=prompts).difference(tests) <= difference

    low = math.ceil(2 * found.per_cluster)
    if shows(low):
        return low
    while low < MOST * found.per_cluster:
        high = math.ceil(1.25 * low)
        if shows(high):
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if shows(middle) else (middle, high)
            return high
        low = high
    return None


def prompts_against_half(share: float) -> int:
    """Return how many independent prompts tell a true win rate from 1/2 with 80 % power.

    n = ((z(.975) / 2 + z(.8) sqrt(p (1 - p))) / (p - 1/2))^2. Raises ValueError for 1/2 itself.
    """
    from scipy.special import ndtri

    if not 0 < share < 1 or share == 0.5:
        raise ValueError(f"a win rate to tell from 1/2 lies in (0, 1) and is not 1/2, but {share}")
    z, power = float(ndtri(1 - ALPHA / 2)), float(ndtri(POWER))
    return math.ceil(((z / 2 + power * math.sqrt(share * (1 - share))) / (share - 0.5)) ** 2)
