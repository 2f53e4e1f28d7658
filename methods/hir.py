"""Hindsight instruction relabelling: every answer is the right one to the goal that it did reach.

Zhang et al. 2023, "The Wisdom of Hindsight Makes Language Models Better Instruction Followers",
arXiv:2302.05206. The policy answers under the best goal, in words; each answer is relabelled by the
goal it turned out to reach, and the policy learns to answer so under that goal, and rather under it
than under the opposite one. No value network and no reference policy are needed.

Differs from the paper: 1. Goals are about helpfulness and safety; two reward models fitted to the
pairs say which one an answer reached, as exact match cannot. 2. Goals stand in the system turn, and
some of the best answers are imitated without any. 3. Unsafe answers are never imitated, under any
goal, unless `unsafe_goals = "train"`; then attacks that ask for them belong in the report. 4. The
contrast is between goals for one answer, by mean log-probability a token, as in the authors' code.
5. Fewer rounds and epochs, on more prompts. 6. Parts of answers are relabelled only with `parts`.
7. Answers that are neither among the most nor the least helpful third of their prompt's are left
out, as are unfinished ones and repetitions.
With `rounds = 0` it is the SFT policy under the goal text; `goal = False` answers without a goal.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from harness import (
    BEST,
    Count,
    LogRange,
    Policy,
    Relabelled,
    Shared,
    Whole,
    axis_rewards,
    follow_goals,
    in_hindsight,
    method,
    portion,
    sample,
    under_goal,
)


@method(paper="arXiv:2302.05206")
def hir(
    shared: Shared,
    goal: bool = True,  # whether the policy is asked by the best goal when it is used
    rounds: Whole = 3,  # 30 in table 7, of a few hundred queries each
    n: int = 4,  # table 7: answers a prompt and round
    temperature: float = 1.0,  # table 7
    share: float = 1.0,  # of the prompts that are answered
    judged_axes: Literal["tag", "both"] = "tag",  # as the pairs of a study are judged
    unsafe_goals: Literal["drop", "train"] = "drop",  # "train" teaches harm on demand
    parts: int = 0,  # ends of an answer that are relabelled too
    replay: Count = 4,  # rounds trained on; the authors' code keeps all
    goalless: float = 0.1,  # of the best answers
    contrast: Annotated[float, LogRange(0.1, 10.0)] = 1.0,  # table 7
    entropy: float = 0.001,  # table 7
    label_smoothing: float = 0.2,  # table 7
    contrast_smoothing: float = 0.2,  # the authors' code
    learning_rate: Annotated[
        float, LogRange(1e-6, 1e-4)
    ] = 1e-5,  # 5e-4 in table 7, for an encoder and decoder
    epochs: int = 2,  # 10 in table 7, for answers of a few words
    batch_size: int = 64,  # the authors' code
    reward_learning_rate: float = 1e-5,  # Touvron et al. 2023, section 3.2.2
    reward_epochs: int = 1,  # section 3.2.2 there: more overfits
    reward_batch_size: int = 64,
) -> Policy:
    """Learn to follow goals from own answers, each relabelled by the goal that it reached."""
    helpful, safe = axis_rewards(shared, reward_learning_rate, reward_epochs, reward_batch_size)
    prompts = portion(shared.prompts, start=0.0, end=share, seed=shared.seed_for("prompts"))
    terms: dict[str, Any] = {"goalless": goalless, "contrast": contrast, "entropy": entropy}
    terms |= {"unsafe_goals": unsafe_goals, "learning_rate": learning_rate, "epochs": epochs}
    terms |= {"label_smoothing": label_smoothing, "contrast_smoothing": contrast_smoothing}
    terms["batch_size"] = batch_size
    draws: dict[str, Any] = {"temperature": temperature, "max_new_tokens": shared.max_new_tokens}
    by: dict[str, Any] = {"helpful": helpful, "safe": safe, "judged_axes": judged_axes}
    by["parts"] = parts
    policy = shared.sft
    seen: tuple[Relabelled, ...] = ()
    for number in range(rounds):
        asked = under_goal(policy, goal=BEST.text)
        drawn = sample(asked, prompts, n=n, **draws, seed=shared.seed_for("grow", number))
        seen += (in_hindsight(drawn, policy=policy, **by, seed=shared.seed_for("parts", number)),)
        seed = shared.seed_for("hindsight", number)
        policy = follow_goals(policy, seen[-replay:], **terms, seed=seed)
    return under_goal(policy, goal=BEST.text if goal else "")
