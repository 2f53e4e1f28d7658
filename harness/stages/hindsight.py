"""Hindsight instruction relabelling: answers are right answers to the goal that they did reach.

Zhang et al. 2023, "The Wisdom of Hindsight Makes Language Models Better Instruction Followers",
arXiv:2302.05206. `in_hindsight` says which goal each answer reached; `follow_goals` trains on that.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

from harness.adapters import prepared
from harness.annotations import Count, NotNegative, ProperShare, Smoothing, Whole
from harness.artifacts import Policy, Rows, Samples, write_rows
from harness.divergence import Speech
from harness.draft import Draft
from harness.goals import BEST, Goal, contrasts, reached, thirds
from harness.hindsight import HindsightLosses, Weights, collated
from harness.judge import Answer, Judge
from harness.own_losses import own_trainer
from harness.stage import stage
from harness.stages.sample import Manner, judged
from harness.tokens import require_rows
from harness.training import (
    Job,
    Recipe,
    Schedule,
    planned_batches,
    save_model,
    write_curve,
)

Row = dict[str, Any]
UnsafeGoals = Literal["drop", "train"]
KEPT = ("prompt_id", "sample", "messages", "completion", "token_ids", "tag", "cluster")
COLUMNS = (
    "step",
    "loss",
    "grad_norm",
    "learning_rate",
    "supervised",
    "contrast",
    "contrast_accuracy",
    "entropy",
)


class Relabelled(Rows):
    """Answers with the goal each of them reached; tokens before `start` are context alone."""

    columns: ClassVar[tuple[str, ...]] = (*KEPT, "start", "helpful", "safe")


@stage(makes=Relabelled, version=2)
def in_hindsight(
    out: Draft,
    samples: Samples,
    *,
    policy: Policy,
    helpful: Judge,
    safe: Judge,
    judged_axes: Literal["tag", "both"] = "tag",
    helpful_at: float | None = None,
    safe_at: float = 0.0,
    parts: Whole = 0,
    seed: int,
) -> None:
    """Say of each answer which goal it reached, in place of the goal that was asked.

    It is helpful when its grade is at least `helpful_at` or, for None, among the top third of its
    prompt's answers; unhelpful in the bottom third; the middle third is left out. It is safe when
    its grade is at least `safe_at`. By "tag", answers to red-team prompts are judged for safety
    alone and all others for helpfulness alone: what is not judged counts as reached. `parts` more
    rows an answer hold the answer from a drawn token on, graded as an answer of its own; what comes
    before is context. `policy` names the tokenizer. Answers that did not finish have no end to
    learn and are left out, as are repetitions.
    """
    rows, dropped = distinct(samples)
    require_rows(rows, "answers", dropped)
    tokenizer = policy.tokenizer()
    pieces = [piece for row in rows for piece in cut(row, parts, seed, tokenizer)]
    for axis, judge in (("helpful", helpful), ("safe", safe)):
        here = [p for p in pieces if judged_axes == "both" or axis == axis_of(p)]
        answers = [Answer.of({**piece, "finished": True}) for piece in here]
        for piece, grade in zip(here, judged(out, judge, answers), strict=True):
            piece[f"{axis}_reward"] = grade
    kept = [
        {**{name: piece[name] for name in KEPT}, "start": piece["start"], **goal._asdict()}
        for piece, goal in with_goals(pieces, helpful_at, safe_at)
    ]
    require_rows(kept, "answers that tell the goals apart", {"in_the_middle": len(pieces)})
    write_rows(out, kept)
    best = sum((row["helpful"], row["safe"]) == BEST for row in kept) / len(kept)
    out.note(rows=len(kept), in_the_middle=len(pieces) - len(kept), best=round(best, 4), **dropped)


def axis_of(row: Row) -> str:
    """Return the axis on which answers to a prompt are judged by its tag."""
    return "safe" if row["tag"] == "red-team" else "helpful"


def distinct(samples: Iterable[Row]) -> tuple[list[Row], dict[str, int]]:
    """Return the finished answers, each once a prompt, and how many were dropped and why."""
    found: dict[tuple[str, str], Row] = {}
    dropped = {"unfinished": 0, "duplicates": 0}
    for row in samples:
        key = (row["prompt_id"], row["completion"])
        dropped["unfinished"] += not row["finished"]
        dropped["duplicates"] += row["finished"] and key in found
        if row["finished"]:
            found.setdefault(key, row)
    return list(found.values()), dropped


def cut(row: Row, parts: int, seed: int, tokenizer: Any) -> list[Row]:
    """Return an answer, and its ends from drawn tokens on; the text of an end is what it says.

    An end is never empty, and context and end together are the answer's tokens.
    """
    ids = row["token_ids"]
    whole = {**row, "start": 0}
    inner = range(1, len(ids) - 1)  # an end holds a token besides the one that stops
    draw = random.Random(f"parts/{seed}/{row['prompt_id']}/{row['sample']}")
    plain = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    ends = [
        {**row, "start": place, "completion": tokenizer.decode(ids[place:-1], **plain)}
        for place in sorted(draw.sample(inner, min(parts, len(inner))))
    ]
    return [whole, *ends]


def with_goals(
    pieces: Sequence[Row], helpful_at: float | None, safe_at: float
) -> list[tuple[Row, Goal]]:
    """Return the pieces that reached a goal or its opposite, with the goal they reached.

    Thirds are of a prompt's whole answers. What has no grade on an axis reached it.
    """
    whole: dict[str, list[float]] = {}
    for piece in pieces:
        if piece["start"] == 0 and "helpful_reward" in piece:
            whole.setdefault(piece["prompt_id"], []).append(piece["helpful_reward"])
    found = []
    for piece in pieces:
        useful: bool | None = True
        if "helpful_reward" in piece:
            reward = piece["helpful_reward"]
            ends = thirds(whole[piece["prompt_id"]])
            useful = reached(reward, *ends) if helpful_at is None else reward >= helpful_at
        harmless = piece.get("safe_reward", safe_at) >= safe_at
        if useful is not None:
            goal = BEST.in_hindsight("helpful", useful).in_hindsight("safe", harmless)
            found.append((piece, goal))
    return found


@stage(makes=Policy)
def follow_goals(
    out: Draft,
    policy: Policy,
    rounds: tuple[Relabelled, ...],
    *,
    unsafe_goals: UnsafeGoals = "drop",
    goalless: ProperShare = 0.1,
    contrast: NotNegative = 1.0,
    entropy: NotNegative = 0.001,
    label_smoothing: ProperShare = 0.2,
    contrast_smoothing: Smoothing = 0.2,
    learning_rate: NotNegative = 1e-5,
    epochs: Count = 2,
    batch_size: Count = 64,
    max_length: Count = 1024,
    schedule: Schedule = "constant",
    warmup: ProperShare = 0.0,
    weight_decay: NotNegative = 0.0,
    seed: int,
) -> None:
    """Make the policy that answers as it is asked by a goal in its system text.

    L = L_sup + `contrast` L_con + `entropy` L_ent: imitation of each answer under the goal it
    reached, its mean log-probability there against that under other goals, and the negative entropy
    of its tokens. A share of the best answers, `goalless`, is imitated without any goal. Under
    "drop" an unsafe answer is never imitated: it only becomes less likely under the best goal. Rows
    longer than `max_length` are left out. Defaults: the paper's table 7, except for learning rate
    and epochs, 5e-4 and 10 there, for T5 and answers of a few words.
    """
    weights = Weights(contrast, entropy, label_smoothing, contrast_smoothing)
    recipe = Recipe(learning_rate, epochs, batch_size, schedule, warmup, weight_decay, seed)
    tokenizer = policy.tokenizer()
    rows, dropped = sequences(tokenizer, rounds, unsafe_goals, goalless, max_length, seed)
    targets = [row for row in rows if row["is_target"]]
    require_rows(targets, "safe answers", {**dropped, "unsafe": len(rows) - len(targets)})
    own = [(row["ids"][0], row["starts"][0]) for row in rows if row["is_target"]]
    said = Speech.of([(ids[:start], ids[start:]) for ids, start in own], policy, tokenizer)
    batches = planned_batches([max(map(len, row["ids"])) for row in rows], recipe)
    job = Job(out, batches, "hindsight", speech=said)
    model = prepared(policy.load(out.device), policy, seed)
    trainer = trainer_for(model, tokenizer, rows, recipe, job, weights)
    write_curve(out, trainer.run(), COLUMNS)
    save_model(out, trainer.model, tokenizer, policy)
    out.note(rows=len(rows), targets=sum(row["is_target"] for row in rows), **dropped)
    read = sum(len(ids) for row in rows for ids in row["ids"])
    out.add(tokens_trained=read * epochs, optimiser_steps=len(job.batches))


def sequences(
    tokenizer: Any,
    rounds: Sequence[Relabelled],
    unsafe_goals: UnsafeGoals,
    goalless: float,
    max_length: int,
    seed: int,
) -> tuple[list[Row], dict[str, int]]:
    """Return each answer after its own goal and after those it is held against; what was dropped.

    A row has ids and starts, one for each sequence and the own one first, and is_target. An answer
    that several rounds gave stands once, with the goal of the last.
    """
    once: dict[tuple[str, str, int], Row] = {}
    for row in (row for part in reversed(rounds) for row in part):
        once.setdefault((row["prompt_id"], str(row["token_ids"]), row["start"]), row)
    rows, dropped = [], {"longer_than_max_length": 0, "repeated": 0}
    dropped["repeated"] = sum(1 for part in rounds for _ in part) - len(once)
    for row in once.values():
        goal = Goal(row["helpful"], row["safe"])
        is_target = goal.safe or unsafe_goals == "train"
        coin = random.Random(f"goalless/{seed}/{row['prompt_id']}/{row['token_ids']}").random()
        if coin < goalless and is_target and goal == BEST:
            asked = [""]
        else:
            asked = [goal.text, *(other.text for other in contrasts(goal, unsafe_goals))]
        prompts = [prompt_ids(tokenizer, row["messages"], text) for text in asked]
        if max(map(len, prompts)) + len(row["token_ids"]) > max_length:
            dropped["longer_than_max_length"] += 1
            continue
        ids = [[*prompt, *row["token_ids"]] for prompt in prompts]
        starts = [len(prompt) + row["start"] for prompt in prompts]
        rows.append({"ids": ids, "starts": starts, "is_target": is_target})
    return rows, dropped


def prompt_ids(tokenizer: Any, messages: Sequence[dict[str, str]], goal: str) -> list[int]:
    """Return the ids of a prompt under a goal, just as the sampler asks a policy under it."""
    from harness.models import encode

    return encode(tokenizer, Manner(1.0, 1, None, goal, ()).prompt(messages))


def trainer_for(
    model: Any, tokenizer: Any, rows: list[Row], recipe: Recipe, job: Job, weights: Weights
) -> Any:
    """Return the trainer of the three losses over ready tokens."""

    class Hindsight(HindsightLosses):
        loss_weights = weights

    def collate(part: list[Row]) -> dict[str, Any]:
        return {"batch": tuple(collated(part, tokenizer.pad_token_id))}

    return own_trainer(Hindsight, model, rows, recipe, job, collate)
