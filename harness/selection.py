"""Which policy of a training run stands for its row: one rule for all rows of a study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.artifacts import Policy
from harness.stage import Artifact
from harness.stages.choose import checkpoint, choose, validate
from harness.study_file import AT_CHECKPOINT

if TYPE_CHECKING:
    from harness.shared import Shared
    from harness.study_file import Selection


def selected(policy: Policy, shared: Shared, selection: Selection) -> Policy:
    """Return the policy that a study's rule takes from a method's run: as it is, or a pointer.

    By validation, the last policy stands among the candidates with the latest of the checkpoints it
    keeps on the way. A run that keeps none has nothing to choose from, and stays as it is.
    """
    kept = kept_checkpoints(policy)
    if selection.rule == "last" or not kept:
        return policy
    earlier = range(max(1, kept - selection.candidates + 2), kept + 1)
    return choose((policy, *(checkpoint(policy, number=n) for n in earlier)), shared)


def reached(policy: Policy, number: object) -> Policy:
    """Return a pointer to the policy at a run's number-th kept checkpoint, from 1.

    Raises ValueError where the run is not told to keep so many.
    """
    kept = kept_checkpoints(policy)
    if type(number) is not int or not 1 <= number <= kept:
        raise ValueError(
            f"{AT_CHECKPOINT} = {number!r}: the row keeps {kept} policies on the way; name one of "
            "them, from 1, or raise its `checkpoints`"
        )
    return checkpoint(policy, number=number)


def kept_checkpoints(policy: Policy) -> int:
    """Return how many policies on the way the stage that makes this one is told to keep."""
    told = policy.recipe.arguments.get("checkpoints", 0) if policy.recipe else 0
    return told if isinstance(told, int) else 0


def is_validation(artifact: Artifact) -> bool:
    """Say whether an artifact is judgements that choose among policies and train none."""
    return artifact.recipe is not None and artifact.recipe.stage is validate
