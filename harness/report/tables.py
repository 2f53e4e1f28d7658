"""The numbers of a report: estimates, paired differences, verdicts and ledgers, ready to print."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from harness.report.gates import Gates, gates_of
from harness.report.untrained import untrained
from harness.results import (
    CELLS,
    Measured,
    Series,
    read_csv,
    read_items,
    read_ledger,
    read_options,
)
from harness.statistics import ALPHA, Estimate, difference, holm

Verdict = Literal["equal", "differs", "unknown"]


class Measure(NamedTuple):
    """What a column of the comparison is about."""

    suite: str
    metric: str
    decoding: str
    judge: str
    population: str


class Block(NamedTuple):
    """Rows that are compared with each other: one base, one dataset."""

    base: str
    dataset: str


@dataclass(frozen=True)
class Metric:
    """What a suite declared about a metric; `axis` is its suite's."""

    name: str
    suite: str
    axis: str
    higher_is_better: bool
    low: float
    high: float
    primary: bool
    description: str

    @property
    def is_rate(self) -> bool:
        """Whether the metric is a share."""
        return (self.low, self.high) == (0.0, 1.0)

    def gain(self, value: float) -> float:
        """Return a difference so that positive is better."""
        return value if self.higher_is_better else -value


@dataclass(frozen=True)
class Entry:
    """One cell of the comparison; `difference` is to SFT, `p` is Holm's where it was tested."""

    label: str
    measure: Measure
    value: Estimate | None
    difference: Estimate | None
    p: float | None
    classes: Mapping[str, int]

    @property
    def significant(self) -> bool:
        """Whether the difference stands after Holm's correction."""
        return self.p is not None and self.p <= ALPHA


class Matrix:
    """A results folder, read: facts, series, cells. Everything a report says comes from here."""

    def __init__(self, folder: Path) -> None:
        self.facts: dict[str, Any] = read_ledger(folder)
        self.series: dict[Series, Measured] = read_items(folder)
        self.options: dict[str, float] = read_options(folder)
        self.cells: list[dict[str, str]] = read_csv(folder / CELLS)
        self.gates: Gates = gates_of(folder, self.facts)

    @property
    def labels(self) -> list[str]:
        """The rows, in the order of the study."""
        return [row["label"] for row in self.facts["methods"]]

    @cached_property
    def roles(self) -> dict[str, str]:
        """What each label is in the comparison: base, sft (the reference) or method."""
        return {row["label"]: row["role"] for row in self.facts["methods"]}

    @property
    def reference(self) -> str | None:
        """The label that all others are compared with: the SFT policy that methods start from."""
        return next((x for x in self.labels if self.roles[x] == "sft"), None)

    @property
    def bare(self) -> str | None:
        """The label of the base before any tuning."""
        return next((x for x in self.labels if self.roles[x] == "base"), None)

    @property
    def tested(self) -> list[str]:
        """The labels whose difference to SFT is tested: all but SFT itself and the bare base."""
        return [x for x in self.labels if self.roles[x] == "method"]

    def untrained(self, block: Block) -> list[str]:
        """The tested labels that learnt nothing beyond SFT in a block: there for scale."""
        cells = [cell for cell in self.cells if (cell["base"], cell["dataset"]) == tuple(block)]
        return untrained(cells, self.tested, self.reference) if self.reference else []

    @cached_property
    def blocks(self) -> list[Block]:
        """The blocks, in the order of the study."""
        return list(dict.fromkeys(Block(cell["base"], cell["dataset"]) for cell in self.cells))

    @cached_property
    def metrics(self) -> dict[tuple[str, str], Metric]:
        """What was declared about each (suite, metric)."""
        return {
            (suite["suite"], m["name"]): Metric(
                m["name"],
                suite["suite"],
                suite["axis"],
                m["higher_is_better"],
                m["range"][0],
                m["range"][1],
                m["primary"],
                m["description"],
            )
            for suite in self.facts["suites"]
            for m in suite["metrics"]
        }

    @property
    def decodings(self) -> list[str]:
        """The decodings of the study, the first of them the one that is tested first."""
        return list(self.facts["decodings"])

    def co_primary(self) -> list[Metric]:
        """The metrics the verdict rests on: those the study names, else help's and safety's."""
        named = set(self.facts["co_primary"])
        if named:
            return [
                m
                for m in self.metrics.values()
                if m.name in named or (m.suite in named and m.primary)
            ]
        first: dict[str, Metric] = {}
        for metric in self.metrics.values():
            if metric.primary and metric.axis in ("helpfulness", "safety"):
                first.setdefault(metric.axis, metric)
        return list(first.values())

    def measured(self, block: Block, label: str, measure: Measure) -> Measured | None:
        """Return the values of one row and measure, None for a hole or a judge that fails."""
        if measure.judge in self.gates.judges:
            return None
        return self.series.get(Series(*block, label, *measure))

    def measures(self, block: Block, metric: Metric) -> list[Measure]:
        """Return the measures of a metric that any row has, decodings in the study's order."""
        return list(self.by_metric.get((*block, metric.suite, metric.name), ()))

    @cached_property
    def by_metric(self) -> dict[tuple[str, str, str, str], list[Measure]]:
        """The measures of each base, dataset, suite and metric, decodings in the study's order."""
        found: dict[tuple[str, str, str, str], set[Measure]] = {}
        for s in self.series:
            measure = Measure(s.suite, s.metric, s.decoding, s.judge, s.population)
            found.setdefault((s.base, s.dataset, s.suite, s.metric), set()).add(measure)
        order = {name: i for i, name in enumerate(self.decodings)}
        return {
            key: sorted(measures, key=lambda m: (order.get(m.decoding, len(order)), *m))
            for key, measures in found.items()
        }

    def source(self, block: Block, label: str, suite: str) -> str:
        """Return the ids of the scores that a row's numbers of one suite were read from."""
        keys = ("/".join((*block, label, str(seed), suite)) for seed in self.facts["seeds"])
        return ", ".join(self.facts["scores"][key] for key in keys if key in self.facts["scores"])

    def difference(
        self, block: Block, label: str, measure: Measure, other: str | None = None
    ) -> Estimate | None:
        """Return a row's paired difference to another, SFT where none is named.

        None where a side or the overlap is missing, and where a gate withholds the comparison.
        """
        other = other or self.reference
        if other is None or label == other or self.gates.withheld(block, label, other):
            return None
        ours = self.measured(block, label, measure)
        theirs = self.measured(block, other, measure)
        if ours is None or theirs is None or ours.values.keys().isdisjoint(theirs.values):
            return None
        return difference(ours.values, theirs.values, {**theirs.clusters, **ours.clusters})

    @cached_property
    def entries(self) -> dict[tuple[Block, str, Measure], Entry]:
        """Every cell of the comparison; Holm's families are those of `families`."""
        found: dict[tuple[Block, str, Measure], Entry] = {}
        for block in self.blocks:
            for metric in self.metrics.values():
                for measure in self.measures(block, metric):
                    for label in self.labels:
                        found[block, label, measure] = self.entry(block, label, metric, measure)
        adjusted = {key: p for family in self.families(found) for key, p in family.items()}
        return {
            key: Entry(e.label, e.measure, e.value, e.difference, adjusted.get(key), e.classes)
            for key, e in found.items()
        }

    def entry(self, block: Block, label: str, metric: Metric, measure: Measure) -> Entry:
        """Return one cell before correction."""
        measured = self.measured(block, label, measure)
        value = measured.estimate(is_rate=metric.is_rate) if measured else None
        classes = measured.classes if measured else Counter()
        return Entry(label, measure, value, self.difference(block, label, measure), None, classes)

    def families(
        self, found: Mapping[tuple[Block, str, Measure], Entry]
    ) -> Iterator[dict[tuple[Block, str, Measure], float]]:
        """Yield the Holm-adjusted p-values of each family: methods x co-primary, per decoding.

        Rows that learnt nothing are a family of their own: no method pays for their tests.
        """
        names = {(m.suite, m.name) for m in self.co_primary()}
        idle = {block: self.untrained(block) for block in self.blocks}
        groups: dict[tuple[Block, str, bool], list[tuple[Block, str, Measure]]] = {}
        for (block, label, measure), entry in found.items():
            primary = (measure.suite, measure.metric) in names
            if primary and label in self.tested and entry.difference is not None:
                group = block, measure.decoding, label in idle[block]
                groups.setdefault(group, []).append((block, label, measure))
        for keys in groups.values():
            differences = [found[key].difference for key in keys]
            yield dict(zip(keys, holm([d.p for d in differences if d]), strict=True))

    def states(self) -> Counter[str]:
        """Return how many cells have which state; they sum to what was asked."""
        return Counter(cell["state"] for cell in self.cells)

    def state_of(self, block: Block, label: str) -> str:
        """Return why a row has a hole: the states of its unfinished cells."""
        states = Counter(
            cell["state"]
            for cell in self.cells
            if (cell["base"], cell["dataset"], cell["label"]) == (*block, label)
        )
        unfinished = sorted(state for state in states if state != "done")
        return ", ".join(unfinished) if unfinished else "done"

    def seeds_done(self, block: Block, label: str) -> tuple[int, int]:
        """Return how many seeds of a row are done, and how many were asked for."""
        states = [
            cell["state"]
            for cell in self.cells
            if (cell["base"], cell["dataset"], cell["label"]) == (*block, label)
        ]
        return states.count("done"), len(states)


@dataclass(frozen=True)
class Held:
    """One line of the control ledger: what it says, and for each label the value that was used."""

    item: str
    verdict: Verdict
    values: Mapping[str, str]


def control(matrix: Matrix, block: Block) -> list[Held]:
    """Return the control ledger of a block: what its rows hold equal, as manifests say.

    Values are compared seed by seed, so a row that lacks a seed is unknown there.
    """
    lines = []
    for line in matrix.facts["control"]:
        if (line["base"], line["dataset"]) != tuple(block):
            continue
        kept: dict[str, dict[str, str | None]] = line["values"]
        values = {label: kept[label] for label in matrix.labels if label in kept}
        known = all(value is not None for seeds in values.values() for value in seeds.values())
        alike = len({json.dumps(seeds, sort_keys=True) for seeds in values.values()}) == 1
        verdict: Verdict = ("equal" if alike else "differs") if known else "unknown"
        shown = {label: over_seeds(seeds) for label, seeds in values.items()}
        lines.append(Held(line["item"], verdict, shown))
    return lines


def over_seeds(values: Mapping[str, str | None]) -> str:
    """Return a value over seeds: itself where it is one, else how many there are."""
    distinct = dict.fromkeys(values.values())
    if len(distinct) == 1:
        only = next(iter(distinct))
        return "unknown" if only is None else only
    if None in distinct:
        missing = sum(value is None for value in values.values())
        return f"unknown for {missing} of {len(values)} seeds"
    return f"{len(distinct)} values, by seed"


def identical_rows(matrix: Matrix, block: Block) -> list[tuple[str, str]]:
    """Return pairs of labels whose every value is the same: usually a mistake somewhere."""
    whole: dict[str, list[object]] = {}
    for series, measured in matrix.series.items():
        if (series.base, series.dataset) == tuple(block):
            name = (series.suite, series.metric, series.decoding, series.judge, series.population)
            whole.setdefault(series.label, []).append((name, sorted(measured.values.items())))
    labels = [label for label in matrix.labels if label in whole]
    return [
        (one, other)
        for i, one in enumerate(labels)
        for other in labels[i + 1 :]
        if whole[one] == whole[other]
    ]


def at_chance(matrix: Matrix, block: Block) -> dict[str, float]:
    """Return the multiple-choice metrics on which the bare base is at chance, with that chance."""
    found = {}
    for metric in matrix.metrics.values():
        for measure in matrix.measures(block, metric):
            entry = matrix.entries.get((block, matrix.bare or "", measure))
            chance = matrix.options.get(metric.name)
            if entry and entry.value and chance is not None and entry.value.low <= chance:
                found[metric.name] = chance
    return found


def sums(cells: Sequence[Mapping[str, str]], column: str) -> list[float]:
    """Return a cost column of some cells as numbers, 0 where results are older than the column."""
    return [float(cell.get(column) or 0) for cell in cells]
