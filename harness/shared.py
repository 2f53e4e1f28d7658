"""What every method starts from, what a dataset must offer, and what a suite may look at."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from harness.artifacts import (
    Demonstrations,
    Policy,
    Preferences,
    Probes,
    Prompts,
    Samples,
    Texts,
    Truth,
)
from harness.constitution import Constitution
from harness.constitution_file import constitution as written
from harness.judge import Judge
from harness.stages.label import relabel

Feedback = Literal["human", "ai", "ai_principle"]


def derived_seed(seed: int, *names: str | int) -> int:
    """Return a seed in [0, 2**31) hashed from a seed and names, so that neighbours never meet.

    (seed 0, step 1) and (seed 1, step 0) draw differently, which adding would not give.
    """
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


@dataclass(frozen=True)
class Data:
    """What a dataset offers, each part as an artifact or a way to plan one.

    `preferences` takes the SFT policy because an embedded world samples its pairs from it; fixed
    data ignores it. `truth` is opened by the gold judge alone.
    """

    demonstrations: Demonstrations
    preferences: Callable[[Policy], Preferences]
    prompts: Prompts
    validation: Prompts
    test: Prompts
    truth: Truth | None = None
    assistant: Policy | None = None
    annotator: Judge | None = None
    pretraining: Texts | None = None
    probes: Probes | None = None
    heldout: Texts | None = None
    reserved: Preferences | None = None  # kept from all methods, for a labeller to learn from


@dataclass(frozen=True)
class Shared:
    """What every method in a cell starts from. Test prompts are not in it: none can reach them."""

    base: Policy
    sft: Policy
    demonstrations: Demonstrations
    preferences: Preferences
    prompts: Prompts
    validation: Prompts
    labeller: Judge | None
    assistant: Policy | None
    annotator: Judge | None
    pretraining: Texts | None
    max_new_tokens: int
    seed: int
    constitution: str = "hamlet"  # by whose principles "ai_principle" labels: a name, or a file

    def seed_for(self, *names: str | int) -> int:
        """Return a seed for one use, hashed from the cell's seed and the names given."""
        return derived_seed(self.seed, *names)

    def labelled(self, feedback: Feedback) -> Preferences:
        """Return the budget's pairs as people labelled them, or with the labeller's soft labels.

        The rows, prompts and answers are the same for all three. "ai" asks the labeller about each
        row's own axis; "ai_principle" by a principle drawn for each pair from the constitution.
        Raises ValueError where the study names no labeller, or one that reads no principles.
        """
        if feedback == "human":
            return self.preferences
        judge, principles = self.who_labels(feedback)
        return relabel(
            self.preferences,
            judge=judge,
            source=feedback,
            constitution=principles,
            seed=self.seed_for("relabel"),
        )

    def who_labels(self, feedback: Feedback) -> tuple[Judge, Constitution | None]:
        """Return who gives fresh labels, and the principles that pairs are judged by, if any.

        Raises ValueError where the dataset offers no annotator, the study names no labeller, or the
        labeller reads no principles.
        """
        if feedback == "human":
            if self.annotator is None:
                raise ValueError(
                    "fresh judgements ask the dataset's annotator, and this dataset offers none; "
                    "train on the pairs it has"
                )
            return self.annotator, None
        judge = self.asked(f"feedback = {feedback!r}")
        if feedback == "ai":
            return judge, None
        judge.under("")  # a labeller that reads no principles is refused here, while planning
        return judge, written(self.constitution)

    def asked(self, purpose: str) -> Judge:
        """Return the study's labeller; raise ValueError that says what for, where there is none."""
        if self.labeller is None:
            raise ValueError(
                f"{purpose} needs a labeller, and this study names none: add a [labeller] table, "
                'such as plugin = "labeller"'
            )
        return self.labeller


@dataclass(frozen=True)
class Subject:
    """What a suite may look at: one cell's policy and answers, and SFT's to the same prompts.

    `samples` and `opponent` are keyed by decoding: "T=1" (several samples a prompt) and "greedy".
    """

    policy: Policy
    base: Policy
    sft: Policy
    samples: Mapping[str, Samples]
    opponent: Mapping[str, Samples]
    test: Prompts
    truth: Truth | None
    probes: Probes | None
    heldout: Texts | None
    judge: Judge | None
    seed: int
