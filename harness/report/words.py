"""What a report says in words. Nothing stronger than the test behind it.

Allowed: "more by 2.1 (95 % CI ..., Holm p ...)", "not distinguishable: MDE ...", "checkpoint-level
only". Never a rank, never "best", never "equal" for "not distinguishable".
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from harness.multiplicity import Contrast, negated
from harness.multiplicity import verdict as say
from harness.report.tables import (
    Block,
    Entry,
    Matrix,
    Measure,
    Metric,
    at_chance,
    identical_rows,
)
from harness.statistics import METHOD_SEEDS, Estimate, rate_bounds

NO_CLAIM = (
    "One seed supports no claim about methods: what follows is about these checkpoints, with the "
    "prompts random and the trained weights given."
)
FEW_SEEDS = (
    "{n} seeds are too few for a claim about methods: what follows is checkpoint-level only, with "
    "the prompts random and the trained weights given."
)
METHOD_CLAIM = (
    "What follows is method-level (seeds and prompts both random, S = {n}), conditional on {base}: "
    "a claim about methods in general {need}."
)
TEST_BED = (
    "Hamlet is a test bed whose truth is computed by a program, not a benchmark of language models."
)
SHARED_JUDGE = (
    "The evaluation judge is also the labeller: methods that learn from it are graded by it."
)
READING = (
    "Intervals (95 %) and MDE (80 % power) are of one comparison alone; p is Holm's over all "
    "methods and axes of a decoding (rows that learn nothing are corrected among themselves), so a "
    "difference beyond its own interval or MDE need not stand."
)
VERDICTS = {
    "dominates": "; it dominates SFT",
    "trades": "; it trades one for the other",
    "dominated": "; SFT dominates it",
    "undecided": "; the other axis is undecided within the margin",
    "not distinguishable": "",
}
LARGE = 1e5  # from here on a number is written by its power of ten
INVALID_SHARE = 0.02  # more invalid judgements than this are said at the top


def number(value: float, *, sign: bool = False) -> str:
    """Return a value as a table shows it, with a minus that lines up and no negative zero."""
    if not math.isfinite(value):
        return "n/a"
    form = ".1e" if abs(value) >= LARGE else ".3f"
    text = f"{value:{'+' if sign else ''}{form}}"
    return text.replace("-0.000", "0.000").replace("+0.000", "0.000").replace("-", "−")


def with_interval(found: Estimate, *, sign: bool = False) -> str:
    """Return an estimate with its 95 % interval: as a half-width, or as bounds if lopsided."""
    value = number(found.value, sign=sign)
    if not math.isfinite(found.low) or not math.isfinite(found.high):
        return f"{value} (no interval)"
    above, below = found.high - found.value, found.value - found.low
    if math.isclose(above, below, abs_tol=5e-4):
        return f"{value} ± {number(above)}"
    return f"{value} ({number(found.low)} to {number(found.high)})"


def p_value(p: float) -> str:
    """Return a p-value with its sign of comparison."""
    return "< .001" if p < 0.001 else f"= {p:.3f}".replace("0.", ".")


def lead(matrix: Matrix) -> Iterator[str]:
    """Yield the sentences that come before any number: what kind of claim this is, and warnings."""
    seeds = len(matrix.facts["seeds"])
    if seeds >= METHOD_SEEDS:
        several = len({block.base for block in matrix.blocks}) > 1
        base = "the one base of each comparison" if several else "this base"
        need = (
            "needs several bases: see the tables over bases" if several else "needs several bases"
        )
        yield METHOD_CLAIM.format(n=seeds, base=base, need=need)
    else:
        yield NO_CLAIM if seeds == 1 else FEW_SEEDS.format(n=seeds)
    if matrix.facts["embedded_world"]:
        yield TEST_BED
    if matrix.facts["same_judge"]:
        yield SHARED_JUDGE
    states = matrix.states()
    if states["done"] < len(matrix.cells):
        rest = ", ".join(f"{n} {state}" for state, n in sorted(states.items()) if state != "done")
        yield f"{states['done']} of {len(matrix.cells)} cells are done ({rest}); holes are shown."
    if matrix.facts["share_sft"]:
        yield "All seeds share one SFT policy: the seeds repeat what comes after it, not the whole."


def warnings(matrix: Matrix, block: Block) -> Iterator[str]:
    """Yield what a reader must know before trusting a block's numbers."""
    for one, other in identical_rows(matrix, block):
        yield f"The rows {one} and {other} are identical in every value: look for a mistake."
    for metric, chance in at_chance(matrix, block).items():
        yield f"{metric} is uninformative: the base is at chance ({chance:.2f}) on it."
    for (where, label, measure), entry in matrix.entries.items():
        if where == block and measure.judge:
            yield from invalid(label, measure, entry)


def invalid(label: str, measure: Measure, entry: Entry) -> Iterator[str]:
    """Yield a warning where too many judgements are invalid, with what they could have changed."""
    asked, none = sum(entry.classes.values()), entry.classes.get("invalid", 0)
    if not asked or none / asked <= INVALID_SHARE:
        return
    said = f"{label}: {none:,} of {asked:,} {measure.metric} ({measure.decoding}) are invalid"
    if entry.value is None:
        yield f"{said}."
        return
    low, high = rate_bounds(entry.value.value, asked - none, none)
    yield f"{said}; were they all lost it would be {number(low)}, were they all won {number(high)}."


def answer(matrix: Matrix, block: Block) -> list[str]:
    """Return the answer of one block: a sentence or two for each method, and how to read them."""
    if not any((series.base, series.dataset) == tuple(block) for series in matrix.series):
        return ["Nothing is measured yet."]
    if matrix.reference is None:
        return ["The study has no SFT row, so nothing is compared: the tables show each row alone."]
    if not matrix.co_primary():
        return ["The study measures neither helpfulness nor safety, so there is no verdict."]
    said = [said for label in matrix.tested if (said := sentence(matrix, block, label))]
    if not said:
        return ["No method besides SFT has been measured yet."]
    return [*said, READING]


def sentence(matrix: Matrix, block: Block, label: str) -> str | None:
    """Return what the tests say of one row, decoding by decoding; None where there is nothing."""
    decodings = []
    for decoding in matrix.decodings:
        entries = [
            (metric, entry)
            for metric in matrix.co_primary()
            for measure in matrix.measures(block, metric)
            if measure.decoding == decoding
            and (entry := matrix.entries[block, label, measure]).difference is not None
        ]
        if entries:
            parts = "; ".join(clause(matrix, metric, entry) for metric, entry in entries)
            decodings.append(f"{under(decoding)}, {parts}{verdict(matrix, entries)}")
    done, asked = matrix.seeds_done(block, label)
    if not decodings:
        state = matrix.state_of(block, label)
        return None if state == "done" else f"{label}: no number ({state})."
    short = f" ({done} of {asked} seeds)" if done < asked else ""
    whose = "" if len(matrix.facts["seeds"]) >= METHOD_SEEDS else "The checkpoint of "
    return f"{whose}{label} against {matrix.reference}{short}. {'. '.join(decodings)}."


def under(decoding: str) -> str:
    """Return how a sentence about one decoding begins."""
    return "Greedy" if decoding == "greedy" else f"At {decoding}"


def clause(matrix: Matrix, metric: Metric, entry: Entry) -> str:
    """Return one difference in the allowed words: better or worse with its test, or the MDE."""
    found = entry.difference
    if found is None:
        raise ValueError(f"{entry.label} has no difference on {metric.name} to speak of")
    name = metric.axis if len(matrix.co_primary()) > 1 else metric.name
    if found.stderr == 0 and found.value == 0:
        each = "prompt" if found.clusters == found.n else "cluster of prompts"  # all it can tell
        return f"{name} the same on every {each} (n = {found.n})"
    if not entry.significant:
        if entry.p is None or entry.p <= found.p:  # a family of one: its own test said so
            return f"{name} not distinguishable (MDE {number(found.mde)}, n = {found.n})"
        return (
            f"{name} not distinguishable ({with_interval(found, sign=True)}, p {p_value(entry.p)}, "
            f"MDE {number(found.mde)}, n = {found.n})"
        )
    direction = "better" if metric.gain(found.value) > 0 else "worse"
    low, high = sorted((abs(found.low), abs(found.high)))
    return (
        f"{name} {direction} by {number(abs(found.value))} ({number(low)} to "
        f"{number(high)}, p {p_value(entry.p or 0.0)}, n = {found.n})"
    )


def verdict(matrix: Matrix, entries: list[tuple[Metric, Entry]]) -> str:
    """Return the verdict on both axes, in the words of the protocol.

    There is none from one axis alone, and none about a method from fewer than three seeds.
    """
    claims = {entry.difference.claim for _, entry in entries if entry.difference}
    if len(entries) < 2 or claims != {"method"}:
        return ""
    axes = [
        Contrast(gain, entry.p)
        for metric, entry in entries
        if entry.difference is not None and entry.p is not None
        for gain in [entry.difference if metric.higher_is_better else negated(entry.difference)]
    ]
    return VERDICTS[say(axes, margin(matrix))] if len(axes) == len(entries) else ""


def margin(matrix: Matrix) -> float:
    """Return the study's margin in units of a metric: one point is a hundredth."""
    return float(matrix.facts["margin"]) / 100
