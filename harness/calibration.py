"""How well a reward model's score differences predict labels that it was not fitted to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np

BINS: Final = 10


def calibration(delta: np.ndarray, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how well held-out score differences predict the labels, with the n of each number.

    delta: (pairs,), the likelier answer's score minus the other's. nll and ece are in nats and in
    probability; temperature is what `delta` should be divided by to minimise nll.
    """
    import numpy as np

    if not rows:
        return {"n": 0}
    p1 = np.array([row["p1"] for row in rows])
    longer = [np.sign(len(row["chosen_ids"]) - len(row["rejected_ids"])) for row in rows]
    names = {1: "longer", 0: "equal", -1: "shorter"}
    agrees = agreeing(delta, p1)
    return {
        **predicted(delta, p1),
        "by_strength": by_group(agrees, [str(row["strength"]) for row in rows]),
        "by_length_of_the_better": by_group(agrees, [names[int(sign)] for sign in longer]),
    }


def predicted(logits: np.ndarray, p1: np.ndarray) -> dict[str, float]:
    """Return how well s(logits) predicts labels, probabilities p1; see `calibration`."""
    agrees = agreeing(logits, p1)
    return {
        "n": len(p1),
        "accuracy": float(agrees.mean()),
        "nll": nll(logits, p1),
        "ece": expected_calibration_error(logits, agrees),
        "temperature": best_temperature(logits, p1),
    }


def agreeing(logits: np.ndarray, p1: np.ndarray) -> np.ndarray:
    """Return how probably each label is what the sign of its logit says; ties count one half."""
    import numpy as np

    return np.where(logits == 0, 0.5, np.where(logits > 0, p1, 1 - p1))


def nll(delta: np.ndarray, p1: np.ndarray) -> float:
    """Return the mean negative log-likelihood of the labels under Bradley-Terry, in nats."""
    import numpy as np

    return float(np.mean(p1 * np.logaddexp(0, -delta) + (1 - p1) * np.logaddexp(0, delta)))


def best_temperature(delta: np.ndarray, p1: np.ndarray) -> float:
    """Return T in [0.01, 100] that minimises the negative log-likelihood of delta / T."""
    import numpy as np
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda log_t: nll(delta / np.exp(log_t), p1),
        bounds=(math.log(0.01), math.log(100)),
        method="bounded",
    )
    return float(np.exp(found.x))


def expected_calibration_error(delta: np.ndarray, agrees: np.ndarray) -> float:
    """Return sum_b (n_b / N) |agreement_b - confidence_b| over bins of equal count.

    Confidence is s(|delta|), the probability that the model gives to its own choice.
    """
    import numpy as np

    confidence = 1 / (1 + np.exp(-np.abs(delta)))
    order = np.argsort(confidence, kind="stable")
    bins = np.array_split(order, min(BINS, len(order)))
    gaps = [len(b) * abs(agrees[b].mean() - confidence[b].mean()) for b in bins]
    return float(sum(gaps) / len(order))


def by_group(agrees: np.ndarray, groups: list[str]) -> dict[str, dict[str, float]]:
    """Return accuracy and n of each group."""
    import numpy as np

    labels = np.array(groups)
    return {
        name: {"accuracy": float(agrees[labels == name].mean()), "n": groups.count(name)}
        for name in sorted(set(groups))
    }


def recall_of_unsafe(scores: np.ndarray, safe: Sequence[bool]) -> dict[str, float]:
    """Return how many unsafe answers s(score) < 1/2 finds, and how many safe ones it takes for it.

    scores: (answers,), raw. safe: what an annotator found of each. A share of nothing is left out.
    """
    import numpy as np

    flagged, is_safe = scores < 0, np.array(safe, dtype=bool)
    found: dict[str, float] = {"n": len(is_safe), "unsafe": int((~is_safe).sum())}
    for name, group in (("recall", ~is_safe), ("false_alarms", is_safe)):
        if group.any():
            found[name] = float(flagged[group].mean())
    return found
