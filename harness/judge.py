"""Judges: anything that can say how good an answer is, or which of two is better.

One type plays three parts. As a *reward* it is what a policy is optimised against; as a *labeller*
it makes the preferences that RLAIF and Constitutional AI train on; as a *judge* it decides the win
rates in a report. A judge is frozen plain data, so it is part of the identity of what it touched.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from harness.artifacts import Policy, RewardModel


class Answer(NamedTuple):
    """One answer to one prompt, as a judge sees it: text cut at EOS, no padding, no goal text."""

    prompt_id: str
    messages: list[dict[str, str]]
    completion: str
    finished: bool = True
    tag: str = "general"

    @classmethod
    def of(cls, row: dict[str, Any]) -> Answer:
        """Return the answer in a row of Samples."""
        return cls(
            row["prompt_id"], row["messages"], row["completion"], row["finished"], row["tag"]
        )


class Judge(ABC):
    """Grades answers and prefers one of two. Subclasses are frozen dataclasses of plain data."""

    kinds: ClassVar[dict[str, type[Judge]]] = {}

    def __init_subclass__(cls) -> None:
        from harness.stage import owner_of_type

        Judge.kinds[f"{owner_of_type(cls)}:{cls.__name__}"] = cls

    @abstractmethod
    def grade(self, answers: Sequence[Answer]) -> list[float]:
        """Return how good each answer is; higher is better, and the scale is the judge's own."""

    def prefer(self, ours: Sequence[Answer], theirs: Sequence[Answer]) -> list[float]:
        """Return the probability in [0, 1] that each of our answers beats its opponent.

        Unless a judge compares for itself, this is Bradley-Terry on its grades.
        """
        pairs = zip(self.grade(ours), self.grade(theirs), strict=True)
        return [1 / (1 + math.exp(min(max(b - a, -700.0), 700.0))) for a, b in pairs]


@dataclass(frozen=True)
class Reward(Judge):
    """Grade with a reward model, on its own normalised scale."""

    model: RewardModel

    def grade(self, answers: Sequence[Answer]) -> list[float]:
        """Return the reward of each answer, read at its last token."""
        from harness.models import rewards

        return rewards(self.model, answers)


@dataclass(frozen=True)
class Contains(Judge):
    """Grade 1 for an answer that contains a word, else 0: a judge by rule."""

    word: str

    def grade(self, answers: Sequence[Answer]) -> list[float]:
        """Return 1.0 where the word stands in the answer, else 0.0."""
        return [float(self.word in answer.completion) for answer in answers]


@dataclass(frozen=True)
class Prompted(Judge):
    """Ask a language model which of two answers is better; both orders are shown and averaged."""

    policy: Policy
    principle: str = ""

    def grade(self, answers: Sequence[Answer]) -> list[float]:
        """Return the expected rating of each answer, from the label probabilities of 1 to 10."""
        from harness.comparator import ratings

        return ratings(self.policy, answers, self.principle)

    def prefer(self, ours: Sequence[Answer], theirs: Sequence[Answer]) -> list[float]:
        """Return the probability that each of our answers is the better one, orders averaged."""
        from harness.comparator import verdicts

        return verdicts(self.policy, ours, theirs, self.principle)
