"""Choose among policies by noisy judgements of their answers to validation prompts; never by gold.

Every judgement is paid for like any other label. What is chosen is a pointer, without weights.
"""

from __future__ import annotations

import json
from statistics import fmean

from harness.artifacts import Policy, Preferences, Prompts, Samples, write_rows
from harness.draft import Draft
from harness.judge import Answer, Judge, Verdict
from harness.shared import Shared
from harness.stage import stage
from harness.stages.label import Row, judged, labelled
from harness.stages.sample import sample


@stage(makes=Policy)
def checkpoint(out: Draft, policy: Policy, *, number: int) -> None:
    """Make the policy that training had reached at its number-th kept checkpoint, from 1.

    A pointer without weights. Checkpoints are counted, since steps are known only after training.
    Raises ValueError where the policy kept fewer.
    """
    kept = [f.name for f in (policy.path / "checkpoints").glob("step-*")]
    kept.sort(key=lambda name: int(name.removeprefix("step-")))
    if not 1 <= number <= len(kept):
        raise ValueError(
            f"{policy.id} keeps {len(kept)} checkpoints and has no number {number}; ask for one of "
            "these, or train with a higher `checkpoints` setting"
        )
    place = f"{policy.id}/checkpoints/{kept[number - 1]}"
    (out / "same_as.json").write_text(json.dumps({"same_as": place}) + "\n")
    (out / "generation.json").write_text(json.dumps(policy.generation(), sort_keys=True) + "\n")
    out.note(step=int(kept[number - 1].removeprefix("step-")))


@stage(makes=Preferences)
def validate(out: Draft, ours: Samples, theirs: Samples, *, judge: Judge, source: str) -> None:
    """Have a judge compare answers with an opponent's to the same prompts, `chosen` being ours.

    Red-team prompts are judged for safety, the others for helpfulness, by their (at times wrong)
    tag, unless the judge chooses axes itself. Equal answers are a tie that costs no judgement, so
    their p1 is 1/2; a pair without a verdict has no row. Raises ValueError unless prompts and
    sample numbers match.
    """
    pairs = list(zip(ours.rows(), theirs.rows(), strict=True))
    for a, b in pairs:
        if (a["prompt_id"], a["sample"]) != (b["prompt_id"], b["sample"]):
            raise ValueError(f"{ours.id} and {theirs.id} answer different prompts; draw both alike")
    rows, calls, invalid = [], 0, 0
    for axis in ("helpful", "safe"):
        on_axis = [(a, b) for a, b in pairs if axis == axis_of(str(a["tag"]))]
        differ = [(a, b) for a, b in on_axis if not is_tie(a, b)]
        asked = [(Answer.of(a), Answer.of(b)) for a, b in differ]
        for (a, b), verdict in zip(differ, judged(out, judge.on(axis), asked), strict=True):
            invalid += not verdict.valid
            if verdict.valid:
                rows.append(labelled(a, b, verdict, axis, source))
        rows += [labelled(a, b, Verdict(0.5), axis, "tie") for a, b in on_axis if is_tie(a, b)]
        calls += len(differ)
    write_rows(out, rows)
    out.add(labels_used=calls - invalid, judge_calls=calls)
    out.note(pairs=len(rows), ties=len(pairs) - calls, no_verdict=invalid)


def is_tie(ours: Row, theirs: Row) -> bool:
    """Say whether two answers are the same text."""
    return bool(ours["completion"] == theirs["completion"])


def axis_of(tag: str) -> str:
    """Return the axis on which answers to prompts of a collection are judged."""
    return "safe" if tag == "red-team" else "helpful"


@stage(makes=Policy)
def pick(out: Draft, candidates: tuple[Policy, ...], judgements: tuple[Preferences, ...]) -> None:
    """Make a pointer at the candidate that won most of its judgements, the first of equal ones.

    `judgements` stand in the order of the candidates. Raises ValueError for none at all.
    """
    if not candidates or len(candidates) != len(judgements):
        raise ValueError("give at least one candidate, and judgements of each")
    shares = [win_share(pairs) for pairs in judgements]
    best = shares.index(max(shares))
    (out / "same_as.json").write_text(json.dumps({"same_as": candidates[best].id}) + "\n")
    manner = candidates[best].generation()
    (out / "generation.json").write_text(json.dumps(manner, sort_keys=True) + "\n")
    out.note(chosen=candidates[best].id, shares=[round(share, 6) for share in shares])


def win_share(pairs: Preferences) -> float:
    """Return the mean probability that ours was the better answer; ValueError without a verdict."""
    chances = [float(row["p1"]) for row in pairs]
    if not chances:
        raise ValueError(f"{pairs.id} holds no verdict; name another annotator")
    return fmean(chances)


def validation_judgements(policy: Policy, shared: Shared) -> Preferences:
    """Plan noisy judgements of a policy's answers to validation prompts against the SFT policy's.

    One answer a prompt at temperature 1, of one seed for all policies of the cell, so that they are
    compared prompt by prompt. Raises ValueError where the dataset has no annotator.
    """
    if shared.annotator is None:
        raise ValueError(
            "selection by validation asks the dataset's annotator, and this dataset offers none; "
            'use rule = "last", and do not tune on it'
        )
    drawn = [answers(one, shared.validation, shared) for one in (policy, shared.sft)]
    return validate(drawn[0], drawn[1], judge=shared.annotator, source="human")


def answers(policy: Policy, prompts: Prompts, shared: Shared) -> Samples:
    """Plan one answer at temperature 1 to every prompt."""
    return sample(
        policy,
        prompts,
        n=1,
        temperature=1.0,
        max_new_tokens=shared.max_new_tokens,
        seed=shared.seed_for("validation"),
    )


def choose(candidates: tuple[Policy, ...], shared: Shared) -> Policy:
    """Plan the pointer at the candidate that validation judgements prefer to the others."""
    judgements = tuple(validation_judgements(policy, shared) for policy in candidates)
    return pick(candidates, judgements)
