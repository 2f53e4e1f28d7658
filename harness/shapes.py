"""Claims about rows of a study, written before they are read, and what results say about each.

A shape is an ordering or a turn, never a published number. It is a conjunction of parts; each part
is a weighted sum of rows' means with the side of zero that is claimed. Two kinds are counted apart:
positive controls, which the embedded world is built to show and which must vanish when their dial
is off, and predictions, which are adjudicated and may well fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.statistics import ALPHA

if TYPE_CHECKING:
    from harness.shape_evidence import Evidence
    from harness.statistics import Estimate

Kind = Literal["control", "prediction"]
Wanted = Literal["above", "at most", "near"]
Verdict = Literal["holds", "does not hold", "reversed", "undecided", "not run", "not testable here"]


@dataclass(frozen=True)
class Term:
    """One row's mean of one metric, times a weight.

    `row` is DATASET/LABEL, `metric` SUITE/METRIC. Without a decoding it is that under which the
    shape is adjudicated.
    """

    row: str
    metric: str
    weight: float = 1.0
    decoding: str = ""


Terms = tuple[Term, ...]


@dataclass(frozen=True)
class Part:
    """A weighted sum of means and what is claimed of it.

    "above" the bar, "at most" the margin, "near" 0 within the margin. Where a premise fails, the
    claim is not refuted: it was not put to the test.
    """

    says: str
    terms: Terms
    wanted: Wanted = "above"
    bar: float = 0.0
    is_premise: bool = False


@dataclass(frozen=True)
class Off:
    """The same effect with its dial on and off: it must be gone, and surely smaller than before."""

    says: str
    on: Terms
    off: Terms


@dataclass(frozen=True)
class Shape:
    """A claim with the place it comes from; `untestable` is the reason why no row can show it.

    `identity` says why nothing is left to compare with the dial off: the rows are then the same
    artifacts. `amended` says what of the claim was changed after draws were seen, and which.
    """

    id: str
    kind: Kind
    claim: str
    source: str
    parts: tuple[Part, ...] = ()
    off: tuple[Off, ...] = ()
    untestable: str = ""
    identity: str = ""
    amended: str = ""

    @property
    def terms(self) -> Iterator[Term]:
        """Every term that the shape is read from."""
        for part in self.parts:
            yield from part.terms
        for dial in self.off:
            yield from (*dial.on, *dial.off)


@dataclass(frozen=True)
class Reading:
    """One part as read: the estimate, None where rows are absent, and the verdict on it.

    `decodings` are those that its terms were read under.
    """

    says: str
    verdict: Verdict
    found: Estimate | None
    rows: tuple[str, ...]
    missing: tuple[str, ...]
    decodings: tuple[str, ...]
    prompts_fixed: bool


@dataclass(frozen=True)
class Adjudged:
    """A shape under one decoding: the verdict over its parts, and that on its dial being off."""

    shape: Shape
    verdict: Verdict
    readings: tuple[Reading, ...]
    vanishes: Verdict | None
    off: tuple[Reading, ...]

    @property
    def parts_read(self) -> tuple[Reading, ...]:
        """Every part and every dial, as read."""
        return (*self.readings, *self.off)


def difference(metric: str, ours: str, theirs: str, decoding: str = "") -> Terms:
    """Return the terms of one row minus another on a metric."""
    return (Term(ours, metric, 1.0, decoding), Term(theirs, metric, -1.0, decoding))


def less(one: Terms, other: Terms) -> Terms:
    """Return the terms of one sum minus another; terms on both sides are added up."""
    weights: dict[tuple[str, str, str], float] = {}
    for terms, sign in ((one, 1.0), (other, -1.0)):
        for t in terms:
            key = (t.row, t.metric, t.decoding)
            weights[key] = weights.get(key, 0.0) + sign * t.weight
    return tuple(
        Term(row, metric, weight, decoding)
        for (row, metric, decoding), weight in weights.items()
        if weight
    )


def adjudge(shape: Shape, evidence: Evidence, decoding: str, margin: float) -> Adjudged:
    """Return what the evidence says of a shape under one decoding.

    margin: in units of the metric. All parts must hold; one that surely fails refutes the shape,
    its interval being simultaneous over the parts. The shape is "not run" where a row is absent.
    """
    if shape.untestable:
        return Adjudged(shape, "not testable here", (), None, ())
    source = evidence.source(shape, decoding)
    readings = tuple(
        read(part, evidence, source, decoding, margin, len(shape.parts)) for part in shape.parts
    )
    off = tuple(read_off(dial, evidence, source, decoding) for dial in shape.off)
    vanishes = overall([one.verdict for one in off]) if off else None
    return Adjudged(shape, overall([one.verdict for one in readings]), readings, vanishes, off)


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict on a conjunction: refuted by one, left open by one, else held by all.

    Where one is reversed and none is open, that is said in place of "holds".
    """
    if "not run" in verdicts:
        return "not run"
    if "does not hold" in verdicts:
        return "does not hold"
    if "undecided" in verdicts:
        return "undecided"
    return "reversed" if "reversed" in verdicts else "holds"


def read(
    part: Part,
    evidence: Evidence,
    source: dict[str, int],
    decoding: str,
    margin: float,
    parts: int,
) -> Reading:
    """Return one part as the evidence shows it."""
    one = evidence.estimate(part.terms, source, decoding)
    verdict: Verdict = "not run" if one.missing else "undecided"
    if one.found is not None:
        verdict = judged(one.found, part, margin, parts)
    how = decodings(part.terms, decoding)
    return Reading(part.says, verdict, one.found, one.rows, one.missing, how, one.prompts_fixed)


def decodings(terms: Terms, decoding: str) -> tuple[str, ...]:
    """Return the decodings that terms are read under, where `decoding` is adjudicated."""
    return tuple(dict.fromkeys(term.decoding or decoding for term in terms))


def judged(found: Estimate, part: Part, margin: float, parts: int) -> Verdict:
    """Return the verdict on one sum; NaN errors, as of one seed alone, decide nothing.

    It holds by its own 95 % interval (equivalence by 90 %: two one-sided tests), and is refuted by
    one that holds for all parts at once (Bonferroni).
    """
    low, _ = found.interval(1 - ALPHA)
    inner_low, inner_high = found.interval(1 - 2 * ALPHA)
    wide_low, wide_high = found.interval(1 - ALPHA / max(parts, 1))
    holds = {
        "above": low > part.bar,
        "at most": inner_high <= margin,
        "near": -margin <= inner_low and inner_high <= margin,
    }
    fails = {
        "above": wide_high < part.bar,
        "at most": wide_low > margin,
        "near": wide_low > margin or wide_high < -margin,
    }
    if holds[part.wanted]:
        return "holds"
    return "does not hold" if fails[part.wanted] and not part.is_premise else "undecided"


def read_off(dial: Off, evidence: Evidence, source: dict[str, int], decoding: str) -> Reading:
    """Return whether an effect is gone with its dial off.

    It is not where its 95 % interval lies above zero, and "reversed" where it lies below. It is
    gone where that interval covers zero and the effect is surely smaller than with the dial on: the
    absence of a proof alone decides nothing.
    """
    left = evidence.estimate(dial.off, source, decoding)
    lost = evidence.estimate(less(dial.on, dial.off), source, decoding)
    missing = tuple(dict.fromkeys((*left.missing, *lost.missing)))
    rows = tuple(dict.fromkeys((*left.rows, *lost.rows)))
    verdict: Verdict = "not run" if missing else "undecided"
    if left.found is not None and lost.found is not None:
        low, high = left.found.interval(1 - ALPHA)
        if low > 0:
            verdict = "does not hold"
        elif high < 0:
            verdict = "reversed"
        elif lost.found.interval(1 - ALPHA)[0] > 0:
            verdict = "holds"
    how = decodings((*dial.on, *dial.off), decoding)
    fixed = left.prompts_fixed or lost.prompts_fixed
    return Reading(dial.says, verdict, left.found, rows, missing, how, fixed)
