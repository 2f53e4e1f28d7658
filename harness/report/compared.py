"""Two results folders against each other: what changed, and whether numbers moved beyond noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.plain_text import clean
from harness.report.tables import Block, Matrix, Measure
from harness.report.words import number, p_value, with_interval
from harness.statistics import ALPHA, Estimate, difference, estimate, holm

SETTINGS = ("seeds", "samples", "decodings", "margin", "co_primary", "share_sft", "same_judge")


@dataclass(frozen=True)
class Change:
    """How a number of a row moved from the first folder to the second, so second minus first."""

    block: Block
    label: str
    measure: Measure
    first: Estimate
    second: Estimate
    moved: Estimate
    is_paired: bool


def compared_text(first: Path, second: Path) -> str:
    """Return what changed between two results folders, for a terminal."""
    one, other = Matrix(first), Matrix(second)
    said = [f"{first} -> {second}", "", "What was changed:"]
    facts = list(changed_facts(one.facts, other.facts))
    said += [f"  {line}" for line in facts] or ["  nothing that the ledgers record"]
    found = list(changes(one, other))
    adjusted = holm([change.moved.p for change in found])
    beyond = [(c, p) for c, p in zip(found, adjusted, strict=True) if p <= ALPHA]
    said += ["", f"Numbers beyond noise (Holm over {len(found)} differences, 95 % intervals):"]
    said += [f"  {told(change)}; p {p_value(p)}" for change, p in beyond] or ["  none"]
    rest = [c for c, p in zip(found, adjusted, strict=True) if p > ALPHA]
    said += ["", "Not distinguishable from noise, which does not make them equal:"]
    said += [f"  {told(change)}" for change in rest] or ["  none"]
    if any(not change.is_paired for change in found):
        said += ["", "Unpaired: the two share no (seed, prompt), so the interval is wider."]
    return clean("\n".join(said))


def told(change: Change) -> str:
    """Return one change in a line."""
    c, m = change, change.measure
    name = f"{'/'.join((*c.block, c.label))} {m.metric} ({m.decoding})"
    values = f"{with_interval(c.first)} -> {with_interval(c.second)}"
    how = "" if c.is_paired else ", unpaired"
    moved = f"{with_interval(c.moved, sign=True)}, MDE {number(c.moved.mde)}, n = {c.moved.n}{how}"
    return f"{name}: {values}: {moved}"


def changes(one: Matrix, other: Matrix) -> Iterator[Change]:
    """Yield how each row's primary metrics moved, where both folders have them."""
    primary = {key for key, metric in one.metrics.items() if metric.primary}
    primary |= {(metric.suite, metric.name) for metric in one.co_primary()}
    for key, before in one.entries.items():
        block, label, measure = key
        after = other.entries.get(key)
        if (measure.suite, measure.metric) not in primary:
            continue
        if after is None or before.value is None or after.value is None:
            continue
        ours, theirs = other.measured(*key), one.measured(*key)
        if ours is None or theirs is None:
            continue
        is_paired = not ours.values.keys().isdisjoint(theirs.values)
        if is_paired:
            moved = difference(ours.values, theirs.values, {**theirs.clusters, **ours.clusters})
        else:
            moved = unpaired(after.value, before.value)
        yield Change(block, label, measure, before.value, after.value, moved, is_paired)


def unpaired(ours: Estimate, theirs: Estimate) -> Estimate:
    """Return the difference of two independent estimates, with Welch's degrees of freedom."""
    parts = (ours.stderr**2, theirs.stderr**2)
    total = sum(parts)
    spread = parts[0] ** 2 / ours.df + parts[1] ** 2 / theirs.df if ours.df and theirs.df else 0.0
    both = ours.claim == theirs.claim == "method"
    by_seeds = sum(x.share * part for x, part in zip((ours, theirs), parts, strict=True))
    return estimate(
        ours.value - theirs.value,
        total**0.5,
        total**2 / spread if spread > 0 else min(ours.df, theirs.df),
        n=min(ours.n, theirs.n),
        clusters=min(ours.clusters, theirs.clusters),
        seeds=min(ours.seeds, theirs.seeds),
        claim="method" if both else "checkpoint",
        share=by_seeds / total if both and total > 0 else 0.0,
    )


def changed_facts(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the two ledgers say differently: settings, rows, what was held, code."""
    for name in SETTINGS:
        if one[name] != other[name]:
            yield f"{name}: {one[name]} -> {other[name]}"
    before = {row["label"]: row for row in one["methods"]}
    after = {row["label"]: row for row in other["methods"]}
    for label in [*before, *(x for x in after if x not in before)]:
        if label not in after or label not in before:
            yield f"row {label}: only in the {'first' if label in before else 'second'}"
        else:
            yield from changed_settings(label, before[label], after[label])
    held = {key(line): line["values"] for line in one["control"]}
    for line in other["control"]:
        values = held.get(key(line), {})
        moved = [x for x, found in line["values"].items() if values.get(x, found) != found]
        if moved:
            yield f"{line['item']} ({line['base']}/{line['dataset']}): other for {', '.join(moved)}"
    for name, stage in other["provenance"]["stages"].items():
        known = one["provenance"]["stages"].get(name)
        if known and known["version"] != stage["version"]:
            yield f"stage {name}: version {known['version']} -> {stage['version']}"
        elif known and known["code"] != stage["code"]:
            yield f"stage {name}: other code, same version"


def changed_settings(
    label: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[str]:
    """Yield the settings of a row that changed."""
    if before["method"] != after["method"]:
        yield f"row {label}: method {before['method']} -> {after['method']}"
    mine, theirs = before["settings"], after["settings"]
    for name in sorted({*mine, *theirs}):
        if mine.get(name) != theirs.get(name):
            old, new = (x.get(name, "its default") for x in (mine, theirs))
            yield f"row {label}: {name} {old} -> {new}"


def key(line: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return what a line of the control ledger is about."""
    return line["base"], line["dataset"], line["item"]
