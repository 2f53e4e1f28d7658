"""A judge's card: how far it agrees with the truth or with people, and what else moves it.

Pure functions over verdicts that results keep. A judge that agrees no better than picking the
longer answer does, or whose verdicts turn with the order of the answers, fails its gate: what it
says of a method is not evidence.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.statistics import Estimate, estimate, mean, rate

# base, dataset, label, seed, decoding, prompt id, sample: an answer, and so its opponent too
PairId = tuple[str, str, str, int, str, str, int]

VERDICTS = "judged_win_rate"
TRUTH = ("win_rate", "gold")  # metric and judge of the embedded world's truth
ENOUGH = 200  # decided pairs of judge and reference that a gate needs
MOST_INVALID = 0.02
TIE = 1e-6
SOFTEST = 0.01  # keeps the length coefficient finite for a judge that goes by length alone


@dataclass(frozen=True)
class Judged:
    """One verdict. `p` is the probability that the row's answer beats its opponent, or None."""

    pair: PairId
    cluster: str
    p: float | None
    p_as_first: float | None
    p_as_second: float | None
    lengths: tuple[int, int]  # tokens of the row's and the opponent's answer

    @property
    def label(self) -> str:
        """The row of the matrix whose answer was judged."""
        return self.pair[2]

    @property
    def longer(self) -> float:
        """1 where the row's answer is the longer one, 0 where it is the shorter, else 1/2."""
        ours, theirs = self.lengths
        return 0.5 if ours == theirs else float(ours > theirs)


@dataclass(frozen=True)
class JudgeCard:
    """What is known of one judge; None where the verdicts cannot tell.

    `agreement`, `kappa` and `calibration` (ECE) are with the reference, ties of either aside;
    `reference_prefers_longer` is also how often picking the longer answer would agree.
    `first_place` is the share of first places among the pairs whose verdict turns with the order.
    `length_coefficient` is phi in logit p = theta + phi tanh(dl / std(dl)), dl in tokens (Dubois et
    al. 2024, arXiv:2404.04475). `self_preference` is how much more the judge's own rows gain by it
    than by the reference, against the other rows on the same prompts.
    """

    judge: str
    reference: str
    pairs: int
    invalid: Estimate
    ties: Estimate | None
    agreement: Estimate | None
    kappa: float | None
    calibration: float | None
    prefers_longer: Estimate | None
    reference_prefers_longer: Estimate | None
    swap_consistency: Estimate | None
    first_place: Estimate | None
    length_coefficient: Estimate | None
    self_preference: Estimate | None

    @property
    def problems(self) -> list[str]:
        """Why the judge fails its gate, in sentences; none for one that passes or has no gate."""
        found = []
        if self.invalid.value > MOST_INVALID:
            found.append(f"{self.invalid.value:.1%} of its verdicts are invalid")
        if self.swap_consistency and self.swap_consistency.value <= 0.5:
            found.append("most of its verdicts turn with the order of the answers")
        if self.agreement and self.agreement.n >= ENOUGH:
            longer = self.reference_prefers_longer.value if self.reference_prefers_longer else 0.5
            trivial = max(longer, 1 - longer)
            if self.agreement.value <= trivial:
                found.append(
                    f"it agrees with {self.reference} on {self.agreement.value:.1%} of the pairs, "
                    f"and going by length alone, or by chance, on {trivial:.1%}"
                )
        return found

    @property
    def gate(self) -> str:
        """Whether the judge may decide a comparison: passed, failed, or unknown."""
        if self.problems:
            return "failed"
        known = self.agreement is not None and self.agreement.n >= ENOUGH
        return "passed" if known else "unknown"


def verdicts_in(items: Iterable[Mapping[str, Any]]) -> dict[str, list[Judged]]:
    """Return the verdicts among rows of items.parquet, by judge."""
    found: dict[str, list[Judged]] = {}
    for row in items:
        if row["metric"] == VERDICTS:
            found.setdefault(row["judge"], []).append(judged(row))
    return found


def judged(row: Mapping[str, Any]) -> Judged:
    """Return one row of items.parquet as a verdict; its findings say the probabilities."""
    listed = row["findings"]
    listed = json.loads(listed) if isinstance(listed, str) else listed
    said = {str(name): float(value) for name, value, *_ in listed}
    is_valid = row["class"] != "invalid"
    return Judged(
        pair_of(row),
        cluster_of(row),
        said.get("p", row["value"]) if is_valid else None,
        said.get("p_as_first") if is_valid else None,
        said.get("p_as_second") if is_valid else None,
        (int(row["length"] or 0), int(row["opponent_length"] or 0)),
    )


def truth_in(items: Iterable[Mapping[str, Any]]) -> dict[PairId, float]:
    """Return who truly won each pair, 1, 0 or 1/2, where the world's truth is among the rows."""
    return {
        pair_of(row): float(row["value"])
        for row in items
        if (row["metric"], row["judge"]) == TRUTH and row["value"] is not None
    }


def pair_of(row: Mapping[str, Any]) -> PairId:
    """Return which answer a row is about."""
    return (
        str(row["base"]), str(row["dataset"]), str(row["label"]), int(row["seed"]),
        str(row["decoding"]), str(row["prompt_id"]), int(row["sample"] or 0),
    )  # fmt: skip


def cluster_of(row: Mapping[str, Any]) -> str:
    """Return the family of prompts that a row belongs to, its prompt where it has none."""
    return str(row["cluster"] or row["prompt_id"])


def judge_card(
    judge: str,
    verdicts: Sequence[Judged],
    reference: Mapping[PairId, float],
    *,
    named: str = "gold",
    own: Collection[str] = (),
) -> JudgeCard:
    """Return a judge's card from its verdicts and a reference's, 1, 0 or 1/2, on the same pairs.

    `own` are the rows whose answers come from the judge's own model or family. Intervals are
    clustered by prompt family. Raises ValueError without a verdict, and for two on one pair.
    """
    if not verdicts:
        raise ValueError(f"the judge {judge} has no verdicts; judge something before its card")
    if len({one.pair for one in verdicts}) < len(verdicts):
        raise ValueError(f"the judge {judge} has two verdicts on one pair; give it one card each")
    valid = [one for one in verdicts if one.p is not None]
    decided = [(one, won(one)) for one in valid if won(one) != 0.5]
    both = [(o, w, reference[o.pair]) for o, w in decided if reference.get(o.pair, 0.5) != 0.5]
    by_length = [(one, w) for one, w in decided if one.longer != 0.5]
    truly = [(o, r) for o, _, r in both if o.longer != 0.5]
    shown = [o for o in valid if o.p_as_first is not None and o.p_as_second is not None]
    turned = [(o, first_place(o)) for o in shown if not consistent(o)]
    return JudgeCard(
        judge=judge,
        reference=named,
        pairs=len(verdicts),
        invalid=rate([float(o.p is None) for o in verdicts], [o.cluster for o in verdicts]),
        ties=share([(o, float(won(o) == 0.5)) for o in valid]),
        agreement=share([(o, float(w == r)) for o, w, r in both]),
        kappa=kappa([(w, r) for _, w, r in both]),
        calibration=calibration([(o.p or 0.0, r) for o, _, r in both]),
        prefers_longer=share([(o, float(o.longer == w)) for o, w in by_length]),
        reference_prefers_longer=share([(o, float(o.longer == r)) for o, r in truly]),
        swap_consistency=share([(o, float(consistent(o))) for o in shown]),
        first_place=share([(o, first) for o, first in turned if first != 0.5]),
        length_coefficient=length_coefficient(valid),
        self_preference=self_preference(valid, reference, own),
    )


def won(one: Judged) -> float:
    """Return 1 for a win of the row's answer, 0 for a loss, 1/2 for a tie or no verdict."""
    p = 0.5 if one.p is None else one.p
    return 0.5 if abs(p - 0.5) <= TIE else float(p > 0.5)


def consistent(one: Judged) -> bool:
    """Say whether both orders prefer the same answer, as `Verdict.consistent` does."""
    return (places(one)[0] > 0.5) == (places(one)[1] > 0.5)


def first_place(one: Judged) -> float:
    """Return 1 where the answer shown first is preferred in both orders, 0 where the second is.

    1/2 where one order is a tie.
    """
    as_first, as_second = places(one)
    if 0.5 in (as_first, as_second):
        return 0.5
    return float(as_first > as_second)


def places(one: Judged) -> tuple[float, float]:
    """Return the probability that the row's answer wins when shown first, and when shown second."""
    if one.p_as_first is None or one.p_as_second is None:
        raise ValueError(f"the verdict on {one.pair} was given in one order; it has no places")
    return one.p_as_first, one.p_as_second


def share(values: Sequence[tuple[Judged, float]]) -> Estimate | None:
    """Return the mean of values in [0, 1], None of none."""
    if not values:
        return None
    return rate([value for _, value in values], [one.cluster for one, _ in values])


def kappa(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Return Cohen's kappa of wins and losses, None where chance alone would agree on all."""
    from statsmodels.stats.inter_rater import cohens_kappa

    table = [[sum(p == (a, b) for p in pairs) for b in (1.0, 0.0)] for a in (1.0, 0.0)]
    sides = [sum(table[0]), sum(table[1]), table[0][0] + table[1][0], table[0][1] + table[1][1]]
    if sides.count(0) > 1 or not pairs:
        return None
    return float(cohens_kappa(table, return_results=False))


def calibration(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Return how far a judge's certainty is from how often the reference agrees; None of nothing.

    pairs: the probability of a win, and whether the reference says that it is one. The expected
    calibration error of the side that the judge prefers (Guo et al. 2017, arXiv:1706.04599).
    """
    from harness.agreement import calibration_error

    if not pairs:
        return None
    sure = [max(p, 1 - p) for p, _ in pairs]
    return calibration_error(sure, [float((p > 0.5) == (r > 0.5)) for p, r in pairs])


def length_coefficient(valid: Sequence[Judged]) -> Estimate | None:
    """Return phi with its clustered error, None where lengths do not differ; see `JudgeCard`."""
    import numpy as np
    from statsmodels.api import GLM, families
    from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

    gaps = np.array([one.lengths[0] - one.lengths[1] for one in valid], dtype=float)
    if len(gaps) < 3 or np.ptp(gaps) == 0:
        return None
    known: dict[str, int] = {}
    groups = np.array([known.setdefault(one.cluster, len(known)) for one in valid])
    if len(known) < 3:
        return None
    p = np.clip([float(one.p or 0.0) for one in valid], SOFTEST, 1 - SOFTEST)
    design = np.column_stack([np.ones_like(gaps), np.tanh(gaps / gaps.std(ddof=1))])
    with warnings.catch_warnings():  # a perfect fit is no separation where p stays inside (0, 1)
        warnings.simplefilter("ignore", PerfectSeparationWarning)
        fit = GLM(p, design, family=families.Binomial()).fit(
            cov_type="cluster", cov_kwds={"groups": groups}
        )
    return estimate(
        float(fit.params[1]), float(fit.bse[1]), len(known) - 1,
        n=len(valid), clusters=len(known), seeds=1, claim="checkpoint",
    )  # fmt: skip


def self_preference(
    valid: Sequence[Judged], reference: Mapping[PairId, float], own: Collection[str]
) -> Estimate | None:
    """Return how much more than the reference a judge favours its own rows, prompt by prompt.

    None without rows of its own, or without other rows, on prompts that the reference judged too.
    """
    gaps: dict[str, tuple[str, list[float], list[float]]] = {}
    for one in valid:
        if one.pair in reference and one.p is not None:
            prompt = one.pair[5]
            _, ours, others = gaps.setdefault(prompt, (one.cluster, [], []))
            (ours if one.label in own else others).append(won(one) - reference[one.pair])
    both = [(c, ours, others) for c, ours, others in gaps.values() if ours and others]
    if not both:
        return None
    values = [sum(o) / len(o) - sum(others) / len(others) for _, o, others in both]
    return mean(values, [cluster for cluster, _, _ in both])
