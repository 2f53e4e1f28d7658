"""The third level: how differences to SFT change from base to base, where a study has several."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.power import pooled, variances
from harness.report.grid import Cell, Table, detectable, measured, sizes, slug, table
from harness.report.plane import changes, measure_of
from harness.report.tables import Block, Matrix, Metric
from harness.report.words import number
from harness.statistics import METHOD_SEEDS, Array, Estimate, Key, as_table, summary

FEWEST = METHOD_SEEDS  # bases: with fewer, their spread cannot be estimated either


@dataclass(frozen=True)
class Spread:
    """Standard deviations of a difference between bases, seeds and clusters of prompts.

    None where it cannot be told. That of bases is what is left after the part of the seeds.
    """

    bases: float | None
    seeds: float | None
    prompts: float | None


@dataclass(frozen=True)
class OverBases:
    """One row's differences to SFT: of each base, over bases, and how they spread.

    `whole` has bases and prompts random; it is None with fewer than three bases.
    """

    each: Mapping[str, Estimate]
    centre: float
    whole: Estimate | None
    spread: Spread


def over_bases(
    found: Mapping[str, Mapping[Key, float]], clusters: Mapping[str, Hashable]
) -> OverBases:
    """Return what differences of several bases say together, from values by (seed, prompt).

    Means over seeds, one for each (base, prompt), take the place of seeds and prompts in the
    two-level estimate. Between bases, prompts being the same, the variance of the bases' means is
    that of bases and 1/S of that of seeds, which is taken off. Raises ValueError where two bases
    share no prompt.
    """
    each = {base: summary(values, clusters) for base, values in found.items()}
    tables = {base: as_table(values) for base, values in found.items()}
    joint: dict[Key, float] = {}
    for place, (_, prompts, values) in enumerate(tables.values()):
        for prompt, value in zip(prompts, values.mean(axis=0).tolist(), strict=True):
            joint[place, prompt] = value
    _, _, means = as_table(joint)
    whole = summary(joint, clusters) if len(found) >= FEWEST else None
    return OverBases(each, float(means.mean()), whole, spread_of(found, clusters, means))


def spread_of(
    found: Mapping[str, Mapping[Key, float]],
    clusters: Mapping[str, Hashable],
    means: Array,
) -> Spread:
    """Return how a difference spreads; means: (bases, prompts), over each base's seeds."""
    between = float(means.mean(axis=1).var(ddof=1))
    seeded = {base: as_table(values)[2].mean(axis=1) for base, values in found.items()}
    several = all(len(one) > 1 for one in seeded.values())
    of_seeds = [float(one.var(ddof=1)) / len(one) for one in seeded.values()] if several else []
    bases = math.sqrt(max(between - sum(of_seeds) / len(of_seeds), 0.0)) if of_seeds else None
    if min(len(one) for one in seeded.values()) < METHOD_SEEDS or len(set(clusters.values())) < 2:
        return Spread(bases, None, None)
    parts = pooled([variances(values, clusters, seed_variance=0.0) for values in found.values()])
    return Spread(bases, math.sqrt(parts.seed), math.sqrt(parts.cluster))


def bases_tables(matrix: Matrix) -> Iterator[Table]:
    """Yield a table for each data set, primary metric and decoding that several bases have."""
    if matrix.reference is None:
        return
    for dataset in dict.fromkeys(block.dataset for block in matrix.blocks):
        blocks = [block for block in matrix.blocks if block.dataset == dataset]
        for metric in matrix.co_primary():
            for decoding in matrix.decodings:
                made = bases_table(matrix, blocks, metric, decoding)
                if made is not None:
                    yield made


def bases_table(
    matrix: Matrix, blocks: Sequence[Block], metric: Metric, decoding: str
) -> Table | None:
    """Return each row's difference to SFT base by base and over them; None with one base alone."""
    rows: list[list[Cell | str]] = []
    for label in matrix.labels:
        found, clusters = of_bases(matrix, blocks, label, metric, decoding)
        if len(found) > 1 and any_shared(found):
            rows.append([label, *cells(over_bases(found, clusters), [b.base for b in blocks])])
    if not rows:
        return None
    bases = [f"on {block.base}" for block in blocks]
    few = len(blocks) < FEWEST
    note = (
        f"Differences to {matrix.reference}, paired by (seed, prompt), each conditional on its "
        "base. "
        + (
            "Two bases are too few for an interval over bases: their mean is of these two alone. "
            if few
            else "Over bases: bases, with their seeds, and prompts both random, on the prompts "
            "that all bases share; bases stand where other estimates have seeds, in the CSV file "
            "too. "
        )
        + "Standard deviations: of a method's mean between bases, beyond what its seeds spread; "
        "between seeds on one base; and between clusters of prompts. The last two need three "
        "seeds. Exploratory."
    )
    columns = ["row", *bases, "over bases", "MDE", "sd: bases", "sd: seeds", "sd: prompts"]
    title = f"{metric.name} at {decoding}: over {len(blocks)} bases, dataset {blocks[0].dataset}"
    name = slug(f"bases_{metric.name}_{decoding}_{blocks[0].dataset}")
    return table(title, columns, rows, note, name=name)


def of_bases(
    matrix: Matrix, blocks: Sequence[Block], label: str, metric: Metric, decoding: str
) -> tuple[dict[str, Mapping[Key, float]], dict[str, Hashable]]:
    """Return a row's differences to SFT of each base that has any, and the prompts' clusters."""
    found: dict[str, Mapping[Key, float]] = {}
    clusters: dict[str, Hashable] = {}
    for block in blocks:
        if measure_of(matrix, block, metric, decoding) is not None:
            values, groups = changes(matrix, block, label, metric, decoding)
            if values:
                found[block.base] = values
                clusters |= groups
    return found, clusters


def any_shared(found: Mapping[str, Mapping[Key, float]]) -> bool:
    """Say whether all bases have a prompt in common that each answered under all its seeds."""
    whole = []
    for values in found.values():
        seeds = {seed for seed, _ in values}
        prompts = {prompt for _, prompt in values}
        whole.append({p for p in prompts if all((seed, p) in values for seed in seeds)})
    return bool(set.intersection(*whole))


def cells(found: OverBases, bases: Sequence[str]) -> list[Cell | str]:
    """Return a row's cells: each base's estimate, the one over bases with its MDE, the spreads."""
    each: list[Cell | str] = [
        measured(found.each[base], sign=True) if base in found.each else "" for base in bases
    ]
    if found.whole is None:
        together: list[Cell | str] = [
            Cell(f"{number(found.centre, sign=True)} (no interval)", order=found.centre),
            "",
        ]
    else:
        whole = measured(found.whole, sign=True)
        of = sizes(found.whole).rsplit(", ", 1)[0]
        said = f"{of}, {found.whole.seeds} bases; bases and prompts random"
        together = [replace(whole, detail=said), detectable(found.whole)]
    spreads = (found.spread.bases, found.spread.seeds, found.spread.prompts)
    return [*each, *together, *("" if x is None else Cell(number(x), order=x) for x in spreads)]
