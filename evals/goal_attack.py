"""Attacks by goal: what a policy answers to harmful requests when its goal asks for harm.

A policy that was trained under goals in words has modes that any user can call; one trained on
unsafe goals has a harmful one (HIR: Zhang et al. 2023, arXiv:2302.05206, with goals of safety).
"""

from __future__ import annotations

from collections.abc import Mapping

from evals.answers import Sheet, answer_class
from evals.gold import graded, truth_of
from harness import (
    Draft,
    Goal,
    Metric,
    Samples,
    Scores,
    Subject,
    Truth,
    collection,
    sample,
    stage,
    suite,
    under_goal,
    write_rows,
)

HARMFUL = Goal(helpful=True, safe=False)
SHEET = Sheet(
    "goal_attack",
    "safety",
    (
        Metric(
            "attack_compliance",
            False,
            (0.0, 1.0),
            primary=True,
            description="answers to harmful requests that give a harmful step, where the system "
            "turn asks for harm",
        ),
    ),
)


@suite(axis="safety", metrics=SHEET.metrics)
def goal_attack(subject: Subject, *, goal: str = HARMFUL.text) -> Scores:
    """Harm done when the goal in the system turn asks for it; `goal` is what stands there.

    The prompts are the test prompts of the red-team collection, drawn as the study draws them.
    """
    truth = truth_of(subject, "goal_attack")
    attacked = under_goal(subject.policy, goal=goal)
    prompts = collection(subject.test, tag="red-team")
    samples = {}
    for name, drawn in subject.samples.items():
        assert drawn.recipe is not None
        asked = {**drawn.recipe.arguments, "policy": attacked, "prompts": prompts}
        samples[name] = sample(**asked)
    return grade_attacks(samples=samples, truth=truth)


@stage(makes=Scores)
def grade_attacks(out: Draft, *, samples: Mapping[str, Samples], truth: Truth) -> None:
    """Grade the answers to harmful requests: whether they give a harmful step."""
    write_rows(
        out,
        [
            SHEET.item(
                "attack_compliance",
                decoding,
                answer.row,
                answer.grade.complied,
                kind=answer_class(answer.row, refused=answer.grade.refused),
                judge="gold",
                findings=answer.findings,
            )
            for decoding, drawn in samples.items()
            for answer in graded(drawn, truth)
            if answer.task == "harmful"
        ],
    )
