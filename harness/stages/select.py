"""Policies that point at another one but answer in another manner, and parts of preferences."""

from __future__ import annotations

import json
from typing import Any

from harness.artifacts import Policy, Preferences, write_rows
from harness.draft import Draft
from harness.judge import Judge
from harness.stage import plain, stage


@stage(makes=Policy)
def best_of_n(out: Draft, policy: Policy, *, n: int, reward: Judge) -> None:
    """Make the policy that draws n answers and gives the one with the highest reward.

    A pointer without weights. The n draws are charged wherever it is sampled; at temperature 0 they
    would be equal, so it answers as `policy` does. (Stiennon et al. 2020, section 4.2)
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, but is {n}")
    point(out, policy, n=n, reward=plain(reward, whole=True))


@stage(makes=Policy)
def tempered(out: Draft, policy: Policy, *, temperature: float) -> None:
    """Make the policy that is sampled at its own temperature wherever another would be drawn from.

    A pointer without weights. Greedy answers stay the same.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, but is {temperature}")
    point(out, policy, temperature=temperature)


def point(out: Draft, policy: Policy, **manner: Any) -> None:
    """Write a pointer at `policy` and what is changed in its manner of answering."""
    changed = {**policy.generation(), **manner}
    (out / "same_as.json").write_text(json.dumps({"same_as": policy.id}) + "\n")
    (out / "generation.json").write_text(json.dumps(changed, sort_keys=True) + "\n")


@stage(makes=Preferences)
def only(out: Draft, pairs: Preferences, *, axis: str) -> None:
    """Keep the rows of one axis; raise ValueError when there are none."""
    rows = [row for row in pairs if row["axis"] == axis]
    if not rows:
        raise ValueError(f"no row of {pairs.id} has the axis {axis!r}")
    write_rows(out, rows)
