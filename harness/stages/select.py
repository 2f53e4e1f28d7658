"""Choose: the manner in which a policy answers, parts of prompts and pairs, the better answers."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from statistics import fmean
from typing import Annotated, Any, Literal

from annotated_types import Gt, Le

from harness.annotations import Count, Positive, ProperShare, Share
from harness.artifacts import (
    Demonstrations,
    Policy,
    Preferences,
    Prompts,
    Samples,
    ScoredSamples,
    write_rows,
)
from harness.draft import Draft
from harness.judge import Judge
from harness.stage import plain, stage

Row = dict[str, Any]


@stage(makes=Policy)
def best_of_n(out: Draft, policy: Policy, *, n: Count, reward: Judge) -> None:
    """Make the policy that draws n answers and gives the one with the highest reward.

    A pointer without weights. The n draws are charged wherever it is sampled; at temperature 0 they
    would be equal, so it answers as `policy` does. (Stiennon et al. 2020, section 4.2)
    """
    point(out, policy, n=n, reward=plain(reward, whole=True))


@stage(makes=Policy)
def tempered(out: Draft, policy: Policy, *, temperature: Positive) -> None:
    """Make the policy that is sampled at its own temperature wherever another would be drawn from.

    A pointer without weights. Greedy answers stay the same.
    """
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


@stage(makes=Policy)
def under_goal(out: Draft, policy: Policy, *, goal: str) -> None:
    """Make the policy that reads a goal as its system text before every prompt it answers.

    A pointer without weights. The goal is no part of the messages that its samples keep, so no
    judge sees it; an empty one is no goal.
    """
    point(out, policy, system=goal)


@stage(makes=Prompts)
def portion(
    out: Draft, prompts: Prompts, *, start: Share, end: Annotated[float, Gt(0), Le(1)], seed: int
) -> None:
    """Keep the prompts between two shares of a seeded order; portions that only touch are disjoint.

    Kept prompts stand in their own order. Raises ValueError where none is left.
    """
    rows = prompts.rows()
    kept = drawn_between({row["prompt_id"] for row in rows}, start, end, seed)
    write_rows(out, [row for row in rows if row["prompt_id"] in kept])


@stage(makes=Preferences)
def pairs_to(out: Draft, pairs: Preferences, prompts: Prompts) -> None:
    """Keep the pairs of answers to the given prompts; raise ValueError when there are none."""
    asked = {row["prompt_id"] for row in prompts}
    rows = [row for row in pairs if row["prompt_id"] in asked]
    if not rows:
        raise ValueError(f"no pair of {pairs.id} answers a prompt of {prompts.id}")
    write_rows(out, rows)


def drawn_between(ids: set[str], start: float, end: float, seed: int) -> set[str]:
    """Return the ids that stand between two shares of an order that belongs to the seed."""
    if not 0 <= start < end <= 1:
        raise ValueError(f"a portion lies in [0, 1] and has a width, unlike {start} to {end}")
    order = sorted(ids)
    random.Random(f"portion/{seed}").shuffle(order)
    kept = set(order[round(start * len(order)) : round(end * len(order))])
    if not kept:
        raise ValueError(f"{len(order)} prompts leave none between the shares {start} and {end}")
    return kept


@stage(makes=Samples)
def as_answers(out: Draft, demonstrations: Demonstrations, *, policy: Policy) -> None:
    """Make demonstrations into finished answers that can be scored and kept like samples.

    `policy` names the tokenizer. Nobody drew them, so `logp` is null.
    """
    from harness.models import encode_answer

    tokenizer = policy.tokenizer()
    write_rows(
        out,
        (
            {
                "prompt_id": row["prompt_id"],
                "sample": 0,
                "messages": row["messages"],
                "completion": row["completion"],
                "token_ids": encode_answer(tokenizer, row["completion"]),
                "logp": None,
                "finished": True,
                "tag": row.get("tag", "general"),
                "cluster": row.get("cluster", row["prompt_id"]),
            }
            for row in demonstrations
        ),
    )


@stage(makes=ScoredSamples)
def keep_best(out: Draft, pools: tuple[ScoredSamples, ...], *, count: Count = 1) -> None:
    """Keep the `count` answers to each prompt that have the highest reward in all pools together.

    One judge must have scored all pools: `score` anew what an earlier reward model scored. Answers
    that did not finish, or say what a better one says, are left out; ties go to the shortest.
    (Touvron et al. 2023, arXiv:2307.09288, section 3.2.3; the rules are ours)
    """
    write_kept(out, [answers[:count] for answers in ranked(out, pools)])


@stage(makes=ScoredSamples)
def keep_quantile(
    out: Draft,
    pools: tuple[ScoredSamples, ...],
    *,
    quantile: ProperShare,
    at_most: Count | None = None,
) -> None:
    """Keep ceil((1 - quantile) K) of each prompt's K answers, those with the highest reward.

    And `at_most` so many. No prompt loses all its answers, as it may under one threshold for all. K
    counts the answers that `keep_best` would choose among. (Gulcehre et al. 2023, arXiv:2308.08998)
    """
    write_kept(out, [a[: kept_of(len(a), quantile)][:at_most] for a in ranked(out, pools)])


def kept_of(answers: int, quantile: float) -> int:
    """Return ceil((1 - quantile) K); 1 - 0.7 is a bit above 0.3 in floats, and adds no answer."""
    return math.ceil(round((1 - quantile) * answers, 9))


Scale = Literal["pooled", "prompt", "raw"]


@stage(makes=ScoredSamples)
def keep_above(
    out: Draft,
    pools: tuple[ScoredSamples, ...],
    *,
    threshold: float,
    scale: Scale = "pooled",
    at_most: Count | None = None,
) -> None:
    """Keep the answers whose reward is at least a threshold, `at_most` so many a prompt.

    "pooled" is a reward's place between the lowest, 0, and the highest, 1, of all pools; "prompt"
    the place between the prompt's mean and its highest; "raw" the judge's own scale. A pooled
    threshold may leave a hard prompt without answers. Raises ValueError where nothing is left.
    (Gulcehre et al. 2023, arXiv:2308.08998; Singh et al. 2023, arXiv:2312.06585, keep at most 10)
    """
    groups = ranked(out, pools)
    rewards = [row["reward"] for answers in groups for row in answers]
    kept: list[list[Row]] = []
    for answers in groups:
        own = [row["reward"] for row in answers]
        low = least(threshold, scale, own, rewards) if answers else 0.0
        kept.append([row for row in answers if row["reward"] >= low][:at_most])
    if rewards and not any(kept):
        raise ValueError(
            f"no answer of {', '.join(pool.id for pool in pools)} reaches the threshold "
            f"{threshold} on the scale {scale!r}; lower it"
        )
    write_kept(out, kept)


def least(threshold: float, scale: Scale, own: Sequence[float], pooled: Sequence[float]) -> float:
    """Return the lowest reward that is kept, on the judge's scale; own: the prompt's rewards."""
    if scale == "raw":
        return threshold
    low, high = (min(pooled), max(pooled)) if scale == "pooled" else (fmean(own), max(own))
    # At 1 it is the highest itself: low + (high - low) may be a bit above.
    return high if threshold == 1 else low + threshold * (high - low)


def ranked(out: Draft, pools: Sequence[ScoredSamples]) -> list[list[Row]]:
    """Return each prompt's answers, the best first, without unfinished ones and repetitions.

    Prompts stand in the order they are first met. Equal rewards: the shortest, then the first met.
    """
    groups: dict[str, list[Row]] = {}
    dropped = {"unfinished": 0, "duplicates": 0}
    for pool in pools:
        for row in pool:
            group = groups.setdefault(row["prompt_id"], [])
            dropped["unfinished"] += not row["finished"]
            if row["finished"]:
                group.append(row)
    found = []
    for group in groups.values():
        group.sort(key=lambda row: (-row["reward"], len(row["token_ids"])))
        once: dict[str, Row] = {}
        for row in group:
            once.setdefault(row["completion"], row)
        dropped["duplicates"] += len(group) - len(once)
        found.append(list(once.values()))
    out.note(answers=sum(map(len, found)), **dropped)
    return found


def write_kept(out: Draft, groups: Sequence[Sequence[Row]]) -> None:
    """Write the answers kept of each prompt, with how many prompts keep none."""
    rows = [row for group in groups for row in group]
    if not rows:
        raise ValueError("no answer is finished, so none can be kept; raise max_new_tokens")
    write_rows(out, rows)
    out.note(
        kept=len(rows),
        prompts_without_answer=sum(not group for group in groups),
        mean_reward_kept=round(fmean(row["reward"] for row in rows), 6),
    )
