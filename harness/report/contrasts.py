"""Contrasts of several rows at once, and the rows or datasets that differ in one setting alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.report.tables import Block, Matrix, Measure, Metric
from harness.results import Measured
from harness.statistics import Estimate, summary

Weighted = Sequence[tuple[float, Measured | None]]


def combined(parts: Weighted) -> Measured | None:
    """Return the weighted sum of series, (seed, prompt) by (seed, prompt), over what all have.

    None where a part is a hole or the parts share nothing.
    """
    known = [(weight, one) for weight, one in parts if one is not None]
    if not known or len(known) < len(parts):
        return None
    shared = set.intersection(*({*one.values} for _, one in known))
    seeds = {seed for seed, _ in shared}
    prompts = {prompt for _, prompt in shared}
    if not any(all((seed, prompt) in shared for seed in seeds) for prompt in prompts):
        return None
    values = {key: sum(weight * one.values[key] for weight, one in known) for key in shared}
    clusters = {prompt: known[0][1].clusters[prompt] for prompt in prompts}
    return Measured(values, clusters)


def contrast(parts: Weighted) -> Estimate | None:
    """Return the estimate of a weighted sum of series; None where there is none."""
    found = combined(parts)
    return None if found is None else summary(found.values, found.clusters)


def alike_but(
    settings: Mapping[str, Mapping[str, Any]], key: str, kinds: Mapping[str, str]
) -> list[list[str]]:
    """Return groups of labels of one kind whose settings are equal but for one key.

    A group holds two values of the key at least; labels stand in the order given.
    """
    groups: dict[str, list[str]] = {}
    for label, found in settings.items():
        if key in found and label in kinds:
            rest = {name: value for name, value in found.items() if name != key}
            groups.setdefault(json.dumps([kinds[label], rest], sort_keys=True), []).append(label)
    return [
        labels
        for labels in groups.values()
        if len({json.dumps(settings[label][key], sort_keys=True) for label in labels}) > 1
    ]


def datasets_but(matrix: Matrix, key: str) -> list[list[str]]:
    """Return groups of the study's datasets that differ in one setting alone."""
    facts: dict[str, Any] = matrix.facts.get("datasets", {})
    settings = {label: found["settings"] for label, found in facts.items()}
    return alike_but(settings, key, {label: found["plugin"] for label, found in facts.items()})


def row_settings(matrix: Matrix) -> dict[str, Mapping[str, Any]]:
    """Return the whole settings of each row that the results know."""
    known: Mapping[str, Mapping[str, Any]] = matrix.facts.get("whole_settings", {})
    return {label: known[label] for label in matrix.labels if label in known}


def method_of(matrix: Matrix) -> dict[str, str]:
    """Return the method behind each row."""
    return {row["label"]: row["method"] for row in matrix.facts["methods"]}


def first_measures(matrix: Matrix, blocks: Sequence[Block]) -> list[tuple[Metric, Measure]]:
    """Return the co-primary measures under the study's first decoding that all of some blocks have.

    Of the whole population alone, each with its metric; none without a block.
    """
    first = next(iter(matrix.decodings), "")
    return [
        (metric, measure)
        for metric in matrix.co_primary()
        for measure in (matrix.measures(blocks[0], metric) if blocks else ())
        if measure.decoding == first
        and not measure.population
        and all(measure in matrix.measures(block, metric) for block in blocks)
    ]


def gains_along(
    matrix: Matrix, measure: Measure, places: Iterable[tuple[float, Block, str]]
) -> list[tuple[float, Estimate]]:
    """Return (x, difference to SFT) of each (x, block, row) that has one, in the order given."""
    entries = [(x, matrix.entries.get((block, label, measure))) for x, block, label in places]
    return [(x, one.difference) for x, one in entries if one is not None and one.difference]


def primary_measures(matrix: Matrix, blocks: Sequence[Block]) -> list[Measure]:
    """Return the measures of the co-primary metrics that any of some blocks has."""
    found = [
        measure
        for metric in matrix.co_primary()
        for block in blocks
        for measure in matrix.measures(block, metric)
    ]
    return list(dict.fromkeys(found))
