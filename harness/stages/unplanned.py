"""Stand-ins for what a plugin failed to plan, so that only its own cells fail."""

from __future__ import annotations

from harness.artifacts import Policy, Scores
from harness.draft import Draft
from harness.stage import stage


@stage(makes=Policy)
def unplanned_policy(out: Draft, *, plugin: str, reason: str) -> None:
    """Fail with the reason why a method planned no policy. Raises RuntimeError, always."""
    raise RuntimeError(f"{plugin} planned nothing, so its cells fail: {reason}")


@stage(makes=Scores)
def unplanned_scores(out: Draft, *, plugin: str, reason: str) -> None:
    """Fail with the reason why a suite planned no scores. Raises RuntimeError, always."""
    raise RuntimeError(f"{plugin} planned nothing, so its scores fail: {reason}")
