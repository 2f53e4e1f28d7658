"""Direct Nash optimisation: rounds of DPO on who beats whom among the policy's own answers.

Rosset et al. 2024, "Direct Nash Optimization: Teaching Language Models to Self-Improve with General
Preferences", arXiv:2404.03715, Algorithm 2. Each round draws several answers a prompt from the
current policy, has them judged against each other, and pairs those whose win rates lie far apart.
DPO from the current policy, which is also its reference, raises the winners; so preferences that no
reward could express, such as rock, paper, scissors, are respected.

Differs from the paper: 1. No teacher's answers compete. 2. The judge compares two answers at a
time, where GPT-4 graded all from 1 to 6; by default it is the study's annotators, and a round
spends its share of the budget. 3. No nucleus: answers are draws from the policy itself. 4. Repeated
n-grams are not penalised. 5. The last round's policy is returned unless the study's selection rule
picks one. 6. The learning rate is DPO's; the paper's 5e-5 is large for all weights. 7. The better
answer of a pair need not be good: the paper's has at least 5 of 6, so bad answers are not raised.
"""

from __future__ import annotations

from typing import Annotated, Literal

from harness import (
    LogRange,
    Policy,
    Preferences,
    Shared,
    contest,
    method,
    portion,
    prefer,
    sample,
    winners,
    with_replay,
)


@method(paper="arXiv:2404.03715")
def dno(
    shared: Shared,
    oracle: Literal["human", "ai"] = "human",  # fresh judgements, by annotators or the labeller
    rounds: int = 3,
    n: int = 5,  # answers a prompt
    spend: float = 1.0,  # judgements, in shares of the budget of one a prompt
    margin: float = 0.5,  # of win rates; the paper's: from 5 down by 2, on a scale from 1 to 6
    targets: Literal["hard", "soft"] = "hard",  # "soft" is Algorithm 1's loss
    replay: tuple[float, ...] = (0.3, 0.15),  # of the last round's pairs, of the one before
    temperature: float = 0.7,
    beta: Annotated[float, LogRange(0.01, 1.0)] = 0.1,  # tuned within a decade either way
    learning_rate: Annotated[float, LogRange(1e-7, 1e-5)] = 1e-6,  # as far either way
    epochs: int = 1,
    batch_size: int = 64,
) -> Policy:
    """Raise, round after round, the answers that win most contests among the policy's own."""
    if rounds < 1 or n < 2 or not 0 < spend <= n * (n - 1) / 2 * rounds:
        raise ValueError("dno needs a round, two answers a prompt, and judgements to spend")
    judge = shared.annotator if oracle == "human" else shared.asked('oracle = "ai"')
    if judge is None:
        raise ValueError('this dataset offers no fresh human judgements; set oracle = "ai"')
    width = spend / (n * (n - 1) / 2) / rounds  # so that all rounds' judgements are the budget's
    policy = shared.sft
    earlier: tuple[Preferences, ...] = ()
    for number in range(rounds):
        ends = {"start": width * number, "end": width * (number + 1)}
        drawn = sample(
            policy,
            portion(shared.prompts, **ends, seed=shared.seed_for("dno", "prompts")),
            n=n,
            temperature=temperature,
            max_new_tokens=shared.max_new_tokens,
            seed=shared.seed_for("dno", number),
        )
        judged = contest(drawn, judge=judge, source=oracle, seed=shared.seed_for("contest", number))
        pairs = winners(judged, margin=margin, targets=targets)
        policy = prefer(
            policy,
            with_replay(pairs, earlier, shares=replay, seed=shared.seed_for("replay", number)),
            beta=beta,
            learning_rate=learning_rate,
            epochs=epochs,
            batch_size=batch_size,
            warmup=0.0,  # a round may be a few steps, and the first of a warm-up moves nothing
            seed=shared.seed_for("dno", "training", number),
        )
        earlier = (pairs, *earlier)
    return policy
