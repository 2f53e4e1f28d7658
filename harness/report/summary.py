"""The answer in one paragraph: who differs from SFT, on what, how surely, at what price.

Every sentence is read off a table of the same report, in the words that `words` allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.report.costs import amount, duration, labels_of, seconds_of
from harness.report.parity import broken
from harness.report.tables import Block, Entry, Matrix, Metric
from harness.report.tax import average_verdicts
from harness.report.words import margin, number, p_value, under
from harness.statistics import METHOD_SEEDS

LISTED = 4  # names in a sentence; more of them are counted


def summary(matrix: Matrix, block: Block) -> Iterator[str]:
    """Yield the answer of one block: each decoding's differences, then tax, price and parity."""
    if matrix.reference is None:
        return
    for decoding in matrix.decodings:
        parts = list(differences(matrix, block, decoding))
        if parts:
            few = len(matrix.facts["seeds"]) < METHOD_SEEDS
            seeds = f"S = {len(matrix.facts['seeds'])}{', checkpoint-level only' * few}"
            yield f"{under(decoding)}, against {matrix.reference} ({seeds}). {' '.join(parts)}"
    yield from (said for said in (tax(matrix, block), price(matrix, block)) if said)
    unequal: dict[str, dict[str, None]] = {}
    for one in broken(matrix, block):
        unequal.setdefault(one.item, {})[one.label] = None
    if unequal:
        items = "; ".join(f"{item}: {named(list(rows))}" for item, rows in unequal.items())
        yield f"Not held equal, so to be read with care (see Parity): {items}."


def differences(matrix: Matrix, block: Block, decoding: str) -> Iterator[str]:
    """Yield what the tests say of each co-primary metric under one decoding.

    Rows that learnt nothing are there for scale, so of them those alone are named that are better:
    what learning is worth beside them is for the reader to say.
    """
    idle = matrix.untrained(block)
    for metric in matrix.co_primary():
        entries = [
            matrix.entries[block, label, measure]
            for measure in matrix.measures(block, metric)
            if measure.decoding == decoding
            for label in matrix.tested
        ]
        entries = [entry for entry in entries if entry.difference is not None]
        found = [entry for entry in entries if entry.label not in idle]
        if found:
            said = told(metric, found, "methods" if idle else "rows")
            yield f"{metric.axis.capitalize()} ({metric.name}): {said}."
        best = better(metric, [entry for entry in entries if entry.label in idle])
        if best:
            names = ", ".join(by_how_much(entry) for entry in best)
            yield f"Better without learning anything: {names}."


def better(metric: Metric, entries: Sequence[Entry], sign: int = 1) -> list[Entry]:
    """Return the entries that stand and are better; worse with a sign of -1."""
    return [
        entry
        for entry in entries
        if entry.significant and entry.difference and sign * metric.gain(entry.difference.value) > 0
    ]


def told(metric: Metric, entries: Sequence[Entry], what: str) -> str:
    """Return who is better, who worse, and how small a difference the others could have shown."""
    open_ones = [entry for entry in entries if not entry.significant]
    parts = []
    for way, sign in (("better", 1), ("worse", -1)):
        if group := better(metric, entries, sign):
            parts.append(f"{way}: {', '.join(by_how_much(entry) for entry in group)}")
    if open_ones:
        who = f"{'the other ' * bool(parts)}{len(open_ones)} {what}"
        if parts and len(open_ones) <= LISTED:
            who = ", ".join(entry.label for entry in open_ones)
        elif not parts:
            who = f"none of {len(open_ones)} {what} is distinguishable"
        parts.append(f"not distinguishable: {who}" if parts else who)
        parts[-1] += smallest(open_ones)
    return "; ".join(parts)


def by_how_much(entry: Entry) -> str:
    """Return a row that stands with its difference, interval and p."""
    found = entry.difference
    if found is None:
        raise ValueError(f"{entry.label} has no difference to speak of")
    low, high = sorted((abs(found.low), abs(found.high)))
    p = p_value(entry.p or 0.0)
    return f"{entry.label} by {number(abs(found.value))} ({number(low)} to {number(high)}, p {p})"


def smallest(entries: Sequence[Entry]) -> str:
    """Return the smallest differences that some rows could have shown; "" where none has one."""
    known = [e.difference.mde for e in entries if e.difference and e.difference.mde > 0]
    if not known:
        return ""
    low, high = number(min(known)), number(max(known))
    span = low if low == high else f"{low} to {high}"
    return f" (smallest detectable difference {span})"


def tax(matrix: Matrix, block: Block) -> str:
    """Return the verdicts on the capability average against SFT, "" where nothing is measured."""
    idle = matrix.untrained(block)
    groups: dict[str, list[str]] = {}
    for label, verdict in average_verdicts(matrix, block).items():
        if label in matrix.tested and label not in idle:
            groups.setdefault(verdict, []).append(label)
    if not groups:
        return ""
    said = "; ".join(f"{verdict}: {named(rows)}" for verdict, rows in groups.items())
    wide = number(margin(matrix))
    return f"Capability against {matrix.reference}, within a margin of {wide}: {said}."


def price(matrix: Matrix, block: Block) -> str:
    """Return what SFT and the methods cost a seed each, in full, and what they were given."""
    idle = matrix.untrained(block)
    rows = [x for x in matrix.tested if x not in idle and seconds_of(matrix, block, x) > 0]
    if not rows or matrix.reference is None:
        return ""
    seconds = {label: seconds_of(matrix, block, label) for label in rows}
    cheap, dear = min(rows, key=seconds.__getitem__), max(rows, key=seconds.__getitem__)
    span = f"{duration(seconds[cheap])} ({cheap})"
    if cheap != dear:
        span += f" to {duration(seconds[dear])} ({dear})"
    said = f"One seed took {span} in full, and {matrix.reference}"
    said += f" {duration(seconds_of(matrix, block, matrix.reference))}"
    for who, kind in (("people", "labels by people"), ("AI", "by AI")):
        counts = [labels_of(matrix, block, label, who).order or 0.0 for label in rows]
        span = amount(max(counts))
        said += f"; {kind} {span}" if min(counts) == max(counts) else (
            f"; {kind} {amount(min(counts))} to {span}"
        )  # fmt: skip
    return f"{said}."


def named(labels: Sequence[str]) -> str:
    """Return names, counted where they are many."""
    if len(labels) <= LISTED:
        return ", ".join(labels)
    return f"{len(labels)} rows ({', '.join(labels)})"
