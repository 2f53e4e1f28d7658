"""Scores over several data sets and seeds as one: robust means, profiles, who improves on whom.

After Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
arXiv:2108.13264. A table holds one score for each (run, task): (runs, tasks). Runs are resampled
within each task; the generator that is passed in is the only source of randomness.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.statistics import ALPHA, Array

RESAMPLES = 50_000
PROFILE_RESAMPLES = 2_000
AT_ONCE = 5_000  # resamples in memory
Statistic = Callable[[Array], Array]  # (resamples, runs, tasks) to (resamples,) or more behind


def interquartile_mean(tables: Array) -> Array:
    """Return the mean of the middle half of all scores of each table: (..., runs, tasks) to (...).

    A quarter of the scores, rounded down, is left out at either end.
    """
    flat = np.sort(tables.reshape(*tables.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    middle: Array = flat[..., cut : flat.shape[-1] - cut].mean(axis=-1)
    return middle


def optimality_gap(tables: Array, *, target: float) -> Array:
    """Return how far scores fall short of a target, on average; what is above it counts as it."""
    gap: Array = target - np.minimum(tables, target).mean(axis=(-2, -1))
    return gap


def improvement(ours: Array, theirs: Array) -> Array:
    """Return the chance that a run of ours beats a run of theirs, averaged over tasks; ties half.

    ours: (..., runs, tasks); theirs: (..., other runs, tasks). All pairs of runs of a task count.
    """
    gaps = ours[..., :, None, :] - theirs[..., None, :, :]
    chance: Array = ((gaps > 0) + 0.5 * (gaps == 0)).mean(axis=(-3, -2, -1))
    return chance


def profile(tables: Array, levels: Sequence[float] | Array) -> Array:
    """Return the share of scores above each level: (..., runs, tasks) to (..., levels)."""
    above = tables[..., None] > np.asarray(levels)
    shares: Array = above.mean(axis=(-3, -2))
    return shares


def resampled(
    table: Array, statistic: Statistic, generator: np.random.Generator, *, resamples: int
) -> Array:
    """Return a statistic of tables whose runs are drawn anew within each task: (resamples, ...)."""
    return np.concatenate(
        [statistic(drawn(table, generator, count)) for count in parts(resamples)], axis=0
    )


def drawn(table: Array, generator: np.random.Generator, count: int) -> Array:
    """Return `count` tables (count, runs, tasks) with runs drawn with replacement, task by task."""
    runs, tasks = table.shape
    chosen: NDArray[np.int64] = generator.integers(runs, size=(count, runs, tasks))
    return np.take_along_axis(table[None], chosen, axis=1)


def parts(resamples: int) -> list[int]:
    """Return how many resamples are made at once."""
    whole, rest = divmod(resamples, AT_ONCE)
    return [AT_ONCE] * whole + ([rest] if rest else [])


def interval(
    table: Array,
    statistic: Statistic,
    generator: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """Return the 95 % percentile interval of a statistic over resampled runs.

    With few runs and one task it is far too narrow: aggregate two tasks or more, and say how many
    runs there are. Raises ValueError for one task.
    """
    if table.shape[1] < 2:
        raise ValueError("an aggregate over one task has no such interval; give two tasks or more")
    found = resampled(table, statistic, generator, resamples=resamples)
    low, high = np.quantile(found, [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)


def improvement_interval(
    ours: Array, theirs: Array, generator: np.random.Generator, *, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Return the 95 % percentile interval of `improvement`, both sides' runs drawn anew."""
    found = np.concatenate(
        [
            improvement(drawn(ours, generator, count), drawn(theirs, generator, count))
            for count in parts(resamples)
        ]
    )
    low, high = np.quantile(found, [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)
