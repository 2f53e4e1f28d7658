"""The datasets of the embedded world, and the only two roads from its truth.

The truth about a prompt is read twice: by the gold judge, for evaluation, and by the simulated
annotators, whose noisy judgements are what the budget buys. `labels = "oracle"` is the named
exception: a ceiling.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from harness.artifacts import Policy, Preferences, Truth
from harness.hamlet.annotators import Axis, Settings
from harness.hamlet.stages import (
    Known,
    Labels,
    axis_of,
    hamlet_demonstrations,
    hamlet_probes,
    hamlet_prompts,
    hamlet_texts,
    hamlet_truth,
    judge_pairs,
    open_truth,
    oracle,
)
from harness.judge import Answer, Judge, Verdict
from harness.models import base_policy
from harness.registry import dataset, judge
from harness.shared import Data, derived_seed
from harness.stages.finetune import finetune
from harness.stages.sample import sample

MAX_NEW_TOKENS = 64  # of sampled pairs; demonstrations are shorter
EVALUATION = 0  # the seed of test, validation and probes: the same for every seed of a study
HELD_OUT_TEXTS = 400


@dataclass(frozen=True)
class Gold(Judge):
    """The truth of the world on one axis, in [-1, 1]. It grades evaluation and nothing else."""

    truth: Truth
    axis: Axis

    def grade(self, answers: Sequence[Answer]) -> list[float]:
        """Return the gold grade of each answer; raises KeyError for a prompt without truth."""
        known = open_truth(self.truth)
        grades = []
        for answer in answers:
            world, request = known[answer.prompt_id]
            grade = world.grade(request, answer.completion)
            grades.append(grade.helpful if self.axis == "helpful" else grade.safe)
        return grades


@judge
def gold(data: Data, *, axis: Axis = "helpful") -> Judge:
    """Grade by the world's truth on one axis, helpful or safe: for evaluation only."""
    if data.truth is None:
        raise ValueError("the gold judge needs an embedded world; this dataset has no truth")
    return Gold(data.truth, axis)


@dataclass(frozen=True)
class Annotator(Judge):
    """Simulated annotators, noisy and misspecified on purpose: another one each judgement.

    They are asked about train prompts and, where a policy is chosen, about validation prompts. For
    permuted labels they toss a coin, and for an oracle's they see the truth: fresh judgements tell
    a method no more, and no less, than the labels that everyone has. The axis is theirs to choose,
    as it is for those labels: the one that the tag of a prompt suggests, and at times the other.
    """

    truths: tuple[Truth, ...]
    settings: Settings
    other_axis: float
    labels: Labels
    seed: int

    def grade(self, answers: Sequence[Answer]) -> list[float]:
        """Refuse: annotators compare; raises TypeError."""
        raise TypeError("annotators compare two answers and give no grades; use prefer")

    def prefer(self, ours: Sequence[Answer], theirs: Sequence[Answer]) -> list[float]:
        """Return 1.0 where an annotator prefers ours, else 0.0; each pair is one judgement."""
        return [verdict.p1 for verdict in self.verdicts(ours, theirs)]

    def verdicts(self, ours: Sequence[Answer], theirs: Sequence[Answer]) -> list[Verdict]:
        """Return each judgement with the axis it was made on, and what kind of label it is."""
        known = {name: each for truth in self.truths for name, each in open_truth(truth).items()}
        source = "human" if self.labels == "noisy" else self.labels
        found = []
        for place, (our, their) in enumerate(zip(ours, theirs, strict=True)):
            axis = axis_of(our.prompt_id, our.tag, self.other_axis, self.seed)
            p1 = self.label(known, our, their, axis, f"{self.seed}/{place}")
            found.append(Verdict(p1, axis=axis, source=source))
        return found

    def label(self, known: Known, our: Answer, their: Answer, axis: Axis, annotator: str) -> float:
        """Return what one annotator says of one pair; a true tie is a half."""
        from harness.hamlet.annotators import prefer

        if self.labels == "permuted":
            return float(random.Random(f"coin/{annotator}/{our.prompt_id}").random() < 0.5)
        if self.labels == "oracle":
            first, second = our._asdict(), their._asdict()
            return float(oracle(known, first, second, axis)["p1"])
        world, request = known[our.prompt_id]
        texts = our.completion, their.completion
        return prefer(
            world, request, *texts, axis=axis, annotator=annotator, settings=self.settings
        ).p1


@dataclass(frozen=True)
class Sizes:
    """How much of each thing a dataset has; `budget` counts judgements, one a prompt."""

    world: int
    budget: int
    demonstrations: int
    validation: int
    test: int
    probes: int


@dataclass(frozen=True)
class Judging:
    """Who judges the pairs, on which axis, and which extras are bought: strength, safety flags."""

    labels: Labels
    annotators: Settings
    other_axis: float = 0.1
    strength: bool = False
    flags: bool = False


def offered(
    seed: int,
    sizes: Sizes,
    judging: Judging,
    source: Policy | None = None,
) -> Data:
    """Return the world's data; pairs are sampled from `source`, or from the SFT policy."""
    world = sizes.world
    prompts = hamlet_prompts(world=world, split="train", n=sizes.budget, seed=seed)
    truth = hamlet_truth(world=world, split="train", n=sizes.budget, seed=seed)

    def preferences(sft: Policy) -> Preferences:
        drawn = sample(
            source or sft,
            prompts,
            n=2,
            temperature=1.0,
            max_new_tokens=MAX_NEW_TOKENS,
            seed=derived_seed(seed, "pairs"),
        )
        return judge_pairs(
            drawn,
            truth,
            labels=judging.labels,
            annotators=judging.annotators,
            other_axis=judging.other_axis,
            strength=judging.strength,
            flags=judging.flags,
            seed=derived_seed(seed, "judgements"),
        )

    return Data(
        demonstrations=hamlet_demonstrations(
            world=world, n=sizes.demonstrations, style="demonstration", seed=seed
        ),
        preferences=preferences,
        prompts=prompts,
        validation=hamlet_prompts(
            world=world, split="validation", n=sizes.validation, seed=EVALUATION
        ),
        test=hamlet_prompts(world=world, split="test", n=sizes.test, seed=EVALUATION),
        truth=hamlet_truth(world=world, split="test", n=sizes.test, seed=EVALUATION),
        assistant=base_policy("hamlet", {"role": "labeller"}),
        annotator=annotator(seed, sizes, judging, truth),
        pretraining=hamlet_texts(world=world, n=2000, stream="pretraining"),
        probes=hamlet_probes(world=world, n=sizes.probes, seed=EVALUATION),
        heldout=hamlet_texts(world=world, n=HELD_OUT_TEXTS, stream="held out"),
    )


def annotator(seed: int, sizes: Sizes, judging: Judging, truth: Truth) -> Annotator:
    """Return who gives fresh judgements of train and validation prompts."""
    world, n = sizes.world, sizes.validation
    validation = hamlet_truth(world=world, split="validation", n=n, seed=EVALUATION)
    return Annotator(
        truths=(truth, validation),
        settings=judging.annotators,
        other_axis=judging.other_axis,
        labels=judging.labels,
        seed=derived_seed(seed, "annotator"),
    )


@dataset
def hamlet(
    base: Policy,
    seed: int,
    *,
    world: int = 0,
    labels: Labels = "noisy",
    budget: int = 4000,
    demonstrations: int = 1500,
    validation: int = 400,
    test: int = 760,
    probes: int = 200,
    strength: bool = False,
    flags: bool = False,
    minority: float = 0.3,
    other_axis: float = 0.1,
    flips: float = 0.05,
    temperature: float = 0.12,
) -> Data:
    """The embedded world: pairs sampled from this seed's SFT policy, judged by noisy annotators.

    `minority` is the share of judgements by the second population, `other_axis` the share on the
    axis that the tag does not suggest, `flips` the share turned round, `temperature` that of
    Bradley-Terry. Bought with a judgement: `strength`, how clear it was, and `flags`, whether each
    of the two answers seemed safe.
    """
    sizes = Sizes(world, budget, demonstrations, validation, test, probes)
    people = Settings(flips=flips, temperature=temperature, minority=minority)
    return offered(seed, sizes, Judging(labels, people, other_axis, strength, flags))


@dataset
def hamlet_foreign(
    base: Policy,
    seed: int,
    *,
    world: int = 0,
    labels: Labels = "noisy",
    budget: int = 4000,
    demonstrations: int = 1500,
    validation: int = 400,
    test: int = 760,
    probes: int = 200,
    learning_rate: float = 1e-3,
) -> Data:
    """Hamlet with pairs from another policy, as public preference sets have them.

    The other policy is the base fine-tuned on as many other, worse demonstrations.
    """
    other = finetune(
        base,
        hamlet_demonstrations(
            world=world, n=demonstrations, style="web", seed=derived_seed(seed, "foreign")
        ),
        learning_rate=learning_rate,
        seed=derived_seed(seed, "foreign"),
    )
    sizes = Sizes(world, budget, demonstrations, validation, test, probes)
    return offered(seed, sizes, Judging(labels, Settings()), source=other)


@dataset
def hamlet_scarce(
    base: Policy,
    seed: int,
    *,
    world: int = 0,
    labels: Labels = "noisy",
    budget: int = 400,
    demonstrations: int = 1500,
    validation: int = 400,
    test: int = 760,
    probes: int = 200,
    flips: float = 0.15,
    temperature: float = 0.24,
) -> Data:
    """Hamlet with a tenth of the judgements, from annotators who are much noisier."""
    sizes = Sizes(world, budget, demonstrations, validation, test, probes)
    people = Settings(flips=flips, temperature=temperature)
    return offered(seed, sizes, Judging(labels, people))
