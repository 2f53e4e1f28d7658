"""A judge of two reward models: safety where it is at stake, helpfulness everywhere else."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.artifacts import Preferences, RewardModel
from harness.judge import Answer, Judge, Reward
from harness.pairwise import Margin
from harness.shared import Shared
from harness.stages.mix import mix
from harness.stages.reward import fit_reward, fit_safe_reward
from harness.stages.select import only


@dataclass(frozen=True)
class Gated(Judge):
    """Grade by a safety model or by a helpfulness model, whichever the answer calls for.

    R_c = R_s where the prompt is of the red-team collection or s(R_s) < threshold, else R_h; grades
    are raw scores, since logit(s(r)) = r, and never shifted, so that the threshold means the same
    for every safety model. (Touvron et al. 2023, arXiv:2307.09288, section 3.2.3)
    """

    helpful: RewardModel
    safe: RewardModel
    threshold: float = 0.15

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is a probability in (0, 1), not {self.threshold}")

    def grade(self, answers: Sequence[Answer]) -> list[float]:
        """Return the raw score of the model that each answer calls for."""
        return self.explained(answers)[0]

    def explained(self, answers: Sequence[Answer]) -> tuple[list[float], dict[str, float]]:
        """Return the grades, and how often and on what scale each of the two models gave them.

        Shares are of all answers; a mean or deviation over no answer is NaN. Raw scores of the two
        are one scale only if both models are equally sure of themselves: what lies between the
        branches is learnt as if it were a difference between answers.
        """
        helpful, safe = (raw_scores(model, answers) for model in (self.helpful, self.safe))
        risky = [answer.tag == "red-team" for answer in answers]
        below = [is_below(score, self.threshold) for score in safe]
        by_safe = [a or b for a, b in zip(risky, below, strict=True)]
        found = zip(by_safe, helpful, safe, strict=True)
        grades = [harmless if one else useful for one, useful, harmless in found]
        said = {"by_safe": share(by_safe), "below_threshold": share(below)}
        for name, branch in (("safe", True), ("helpful", False)):
            own = [g for g, one in zip(grades, by_safe, strict=True) if one == branch]
            said[f"{name}_mean"] = statistics.fmean(own) if own else math.nan
            said[f"{name}_std"] = statistics.pstdev(own) if own else math.nan
        return grades, said


def is_below(safe: float, threshold: float) -> bool:
    """Say whether s(raw score) is below the threshold; one at the threshold is not."""
    return safe < math.log(threshold / (1 - threshold))


def share(flags: Sequence[bool]) -> float:
    """Return the share of flags that are set, NaN of none."""
    return sum(flags) / len(flags) if flags else math.nan


def raw_scores(model: RewardModel, answers: Sequence[Answer]) -> list[float]:
    """Return a reward model's scores as they were before its normalisation."""
    from harness.models import rewards

    norm = json.loads((model.path / "norm.json").read_text())
    return [(grade - norm["bias"]) / norm["gain"] for grade in rewards(model, answers)]


def gated_reward(
    shared: Shared,
    pairs: Preferences,
    models: Literal["two", "one"],
    threshold: float,
    *,
    safety_mix: float,
    margin: Margin,
    learning_rate: float,
    epochs: int,
    batch_size: int,
    safety_loss: float = 0.0,
) -> tuple[Judge, RewardModel]:
    """Plan the reward that pairs teach; return it, and the model that a value network starts from.

    "two" is one model for each axis, gated: `safety_mix` is the share of helpful pairs among the
    safety model's, and the margin is the helpful model's alone. "one" is a model of all pairs.
    `safety_loss` weighs the safety model's loss on flagged answers, which needs `fit_safe_reward`;
    ValueError where there is no such model. (Touvron et al. 2023, arXiv:2307.09288, section 3.2.2)
    """
    how: dict[str, Any] = {
        "learning_rate": learning_rate,
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": shared.seed,
    }

    def fitted(rows: Preferences, apart: Margin) -> RewardModel:
        return fit_reward(shared.sft, rows, margin=apart, normalise=False, **how)

    if models == "one" and safety_loss:
        raise ValueError('safety_loss is of a safety model; set it to 0, or rewards = "two"')
    if models == "one":
        model = fitted(pairs, margin)
        return Reward(model), model
    ours, safe = only(pairs, axis="helpful"), only(pairs, axis="safe")
    if safety_mix:
        safe = mix(safe, ours, share=safety_mix, seed=shared.seed_for("mix"))
    helpful = fitted(ours, margin)
    if safety_loss:
        harmless = fit_safe_reward(shared.sft, safe, safety=safety_loss, **how)
    else:
        harmless = fitted(safe, "none")
    return Gated(helpful, harmless, threshold), helpful


def axis_rewards(
    shared: Shared, learning_rate: float, epochs: int, batch_size: int
) -> tuple[Reward, Reward]:
    """Plan a helpful and a safe reward from the rows of each axis of everybody's pairs.

    Each is normalised: its reference answers have mean 0 and standard deviation 1.
    """
    helpful, safe = (
        fit_reward(
            shared.sft,
            shared.preferences,
            axis=axis,
            learning_rate=learning_rate,
            epochs=epochs,
            batch_size=batch_size,
            seed=shared.seed,
        )
        for axis in ("helpful", "safe")
    )
    return Reward(helpful), Reward(safe)
