"""Judges: anything that can say how good an answer is, or which of two is better.

One type plays three parts. As a *reward* it is what a policy is optimised against; as a *labeller*
it makes the preferences that RLAIF and Constitutional AI train on; as a *judge* it decides the win
rates in a report. A judge is frozen plain data, so it is part of the identity of what it touched.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

from harness.artifacts import Policy, RewardModel
from harness.hamlet.forms import AXES


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


class Verdict(NamedTuple):
    """What a judge says of one pair; what a judge by rule or by grades has no notion of is None.

    p1 is the probability that the first answer is the better one, NaN where the judge did not
    answer. `label_mass` is the probability its labels had among all tokens, in the worse order.
    `axis` and `source` are what a judge decided on and as whom, where that is its own choice; else
    both are as the asker says.
    """

    p1: float
    p1_as_first: float | None = None
    p1_as_second: float | None = None
    label_mass: float | None = None
    rationales: tuple[str, ...] = ()
    axis: str | None = None
    source: str | None = None

    @property
    def valid(self) -> bool:
        """Whether the judge answered the question."""
        return not math.isnan(self.p1)

    @property
    def consistent(self) -> bool | None:
        """Whether both orders prefer the same answer; None where they were not both shown."""
        if self.p1_as_first is None or self.p1_as_second is None:
            return None
        return (self.p1_as_first > 0.5) == (self.p1_as_second > 0.5)


class Judge(ABC):
    """Grades answers and prefers one of two. Subclasses are frozen dataclasses of plain data."""

    kinds: ClassVar[dict[str, type[Judge]]] = {}

    def __init_subclass__(cls) -> None:
        from harness.owners import owner_of_type

        Judge.kinds[f"{owner_of_type(cls)}:{cls.__name__}"] = cls

    @abstractmethod
    def grade(self, answers: Sequence[Answer]) -> list[float]:
        """Return how good each answer is; higher is better, and the scale is the judge's own.

        NaN is no grade: the judge was asked, and did not answer.
        """

    def explained(self, answers: Sequence[Answer]) -> tuple[list[float], dict[str, float]]:
        """Return the grades, and what a training curve may say of them; most judges say nothing."""
        return self.grade(answers), {}

    def prefer(self, ours: Sequence[Answer], theirs: Sequence[Answer]) -> list[float]:
        """Return the probability in [0, 1] that each of our answers beats its opponent.

        Unless a judge compares for itself, this is Bradley-Terry on its grades.
        """
        pairs = zip(self.grade(ours), self.grade(theirs), strict=True)
        return [1 / (1 + math.exp(min(max(b - a, -700.0), 700.0))) for a, b in pairs]

    def verdicts(self, ours: Sequence[Answer], theirs: Sequence[Answer]) -> list[Verdict]:
        """Return what `prefer` says, with what stands behind it where the judge can tell."""
        return [Verdict(p1) for p1 in self.prefer(ours, theirs)]

    def on(self, axis: str) -> Judge:
        """Return the judge for answers of one axis; most judges ask the same of every axis."""
        return self

    def under(self, principle: str) -> Judge:
        """Return the judge asked by another principle; ValueError where it can read none."""
        raise ValueError(
            f"the judge {type(self).__name__} reads no principles; name one that does, such as "
            'plugin = "labeller"'
        )


@dataclass(frozen=True)
class Reward(Judge):
    """Grade with a reward model, on its own normalised scale."""

    model: RewardModel

    def grade(self, answers: Sequence[Answer]) -> list[float]:
        """Return the reward of each answer, read at EOS."""
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
class Letters(Judge):
    """Grade by how many letters an answer shares with a principle: a rule that reads principles."""

    principle: str

    def grade(self, answers: Sequence[Answer]) -> list[float]:
        """Return how many different characters stand in both the principle and each answer."""
        return [float(len({*self.principle} & {*answer.completion})) for answer in answers]

    def under(self, principle: str) -> Letters:
        """Return the rule for another principle."""
        return Letters(principle)


@dataclass(frozen=True)
class Rescaled(Judge):
    """Grade as another judge does, with its range from `low` to `high` mapped onto [-1, 1].

    The reward of direct RLAIF: 2 (s - 1) / 9 - 1 for ratings from 1 to 10 (Lee et al. 2023,
    arXiv:2309.00267v3, section 3.2.2; the affine form is the obvious reading).
    """

    judge: Judge
    low: float = 1.0
    high: float = 10.0

    def grade(self, answers: Sequence[Answer]) -> list[float]:
        """Return the mapped grade of each answer."""
        width = self.high - self.low
        return [2 * (grade - self.low) / width - 1 for grade in self.judge.grade(answers)]

    def on(self, axis: str) -> Rescaled:
        """Return the judge for answers of one axis, on the same scale."""
        return replace(self, judge=self.judge.on(axis))

    def under(self, principle: str) -> Rescaled:
        """Return the judge asked by another principle, on the same scale."""
        return replace(self, judge=self.judge.under(principle))


@dataclass(frozen=True)
class ByTag(Judge):
    """Ask one judge about answers of the red-team collection, and another about all others."""

    general: Judge
    red_team: Judge

    def grade(self, answers: Sequence[Answer]) -> list[float]:
        """Return the grade that the judge of each answer's collection gives."""
        grades = [0.0] * len(answers)
        for judge, is_red in ((self.general, False), (self.red_team, True)):
            places = [n for n, a in enumerate(answers) if (a.tag == "red-team") == is_red]
            for place, grade in zip(places, judge.grade([answers[n] for n in places]), strict=True):
                grades[place] = grade
        return grades


@dataclass(frozen=True)
class Prompted(Judge):
    """Ask a language model which of two answers is better; both orders are shown and averaged.

    With `rationale_tokens` it first writes so many tokens of reasons, greedily. One order alone, as
    in Bai et al. 2022, copies a model's liking for a place into its labels.
    """

    policy: Policy
    principle: str = ""
    rationale_tokens: int = 0
    both_orders: bool = True

    def grade(self, answers: Sequence[Answer]) -> list[float]:
        """Return the expected rating of each answer, from the label probabilities of 1 to 10."""
        from harness.comparator import ratings

        return ratings(self.policy, answers, self.principle)

    def prefer(self, ours: Sequence[Answer], theirs: Sequence[Answer]) -> list[float]:
        """Return the probability that each of our answers is the better one; NaN is no answer."""
        return [verdict.p1 for verdict in self.verdicts(ours, theirs)]

    def verdicts(self, ours: Sequence[Answer], theirs: Sequence[Answer]) -> list[Verdict]:
        """Return the verdict on each pair, with each order's, the label mass and the reasons."""
        from harness.comparator import compare

        return compare(
            self.policy,
            ours,
            theirs,
            self.principle,
            rationale_tokens=self.rationale_tokens,
            both_orders=self.both_orders,
        )

    def on(self, axis: str) -> Prompted:
        """Return the model asked for an axis, unless its own principle is about something else."""
        asks_for_an_axis = self.principle in ("", *AXES.values())
        return replace(self, principle=AXES[axis]) if asks_for_an_axis and axis in AXES else self

    def under(self, principle: str) -> Prompted:
        """Return the model asked by another principle."""
        return replace(self, principle=principle)


@dataclass(frozen=True)
class Flipped(Judge):
    """Compare as another judge does, a share of the verdicts turned round: a worse labeller.

    Which pairs are turned belongs to their prompt and texts, whichever answer stands first.
    """

    judge: Judge
    share: float

    def grade(self, answers: Sequence[Answer]) -> list[float]:
        """Return the other judge's grades: verdicts alone are turned round."""
        return self.judge.grade(answers)

    def prefer(self, ours: Sequence[Answer], theirs: Sequence[Answer]) -> list[float]:
        """Return the probability that each of our answers is the better one."""
        return [verdict.p1 for verdict in self.verdicts(ours, theirs)]

    def verdicts(self, ours: Sequence[Answer], theirs: Sequence[Answer]) -> list[Verdict]:
        """Return the other judge's verdicts, those of the chosen pairs turned round."""
        found = self.judge.verdicts(ours, theirs)
        return [
            turned(verdict) if self.turns(one, other) else verdict
            for verdict, one, other in zip(found, ours, theirs, strict=True)
        ]

    def turns(self, one: Answer, other: Answer) -> bool:
        """Say whether a pair's verdict is turned round."""
        texts = sorted((one.completion, other.completion))
        return random.Random(f"flip/{one.prompt_id}/{texts}").random() < self.share

    def on(self, axis: str) -> Flipped:
        """Return the judge for answers of one axis."""
        return replace(self, judge=self.judge.on(axis))

    def under(self, principle: str) -> Flipped:
        """Return the judge asked by another principle."""
        return replace(self, judge=self.judge.under(principle))


def turned(verdict: Verdict) -> Verdict:
    """Return a verdict that prefers the other answer; NaN and None stay."""
    first, second = verdict.p1_as_first, verdict.p1_as_second
    return verdict._replace(
        p1=1 - verdict.p1,
        p1_as_first=None if first is None else 1 - first,
        p1_as_second=None if second is None else 1 - second,
    )
