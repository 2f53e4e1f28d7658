"""Reinforced self-training: grow a set of own answers, then imitate ever better parts of it.

Gulcehre et al. 2023, "Reinforced Self-Training (ReST) for Language Modeling", arXiv:2308.08998.
Grow draws many answers to each prompt and scores them once. Improve fine-tunes the policy on those
above a threshold, several times with a rising threshold and a falling learning rate, so one costly
set of samples serves many steps.

Differs from the paper: 1. Thresholds are quantiles of each prompt's own answers; the paper's are
`scale = "pooled"`, one for all prompts, under which hard prompts may lose every answer. 2. A reward
at the threshold is kept, so 0 keeps all. 3. The number of steps is fixed; the paper stops and picks
checkpoints by reward on validation prompts. 4. The loss is imitation, the best of the paper's five.
5. Other settings give its relatives: ReST-EM (Singh et al. 2023, arXiv:2312.06585; one threshold on
the reward's own scale, `init = "base"`, `at_most = 10`, no demonstrations), RAFT (Dong et al. 2023,
arXiv:2304.06767; `thresholds = [1 - 1/n]`, no demonstrations) and expert iteration (the same with
`init = "sft"`). 6. Unfinished answers and repetitions are left out. 7. The reward model is fitted
to the study's pairs; the paper's are given.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from harness import (
    Feedback,
    LogRange,
    Policy,
    Range,
    Reward,
    Shared,
    as_answers,
    finetune,
    fit_reward,
    keep_above,
    keep_quantile,
    method,
    portion,
    sample,
    score,
)


@method(paper="arXiv:2308.08998")
def rest(
    shared: Shared,
    feedback: Feedback = "human",
    grow: int = 1,  # the step that people judged best; the paper goes up to 2
    thresholds: tuple[float, ...] = (0.0, 0.5, 0.7, 0.8, 0.9),  # one Improve step each
    scale: Literal["quantile", "pooled", "prompt", "raw"] = "quantile",  # of the thresholds
    at_most: int | None = None,  # answers a prompt; 10 in ReST-EM
    init: Literal["previous", "sft", "base"] = "previous",
    demonstrations: bool = True,  # equation 3: scored and filtered like samples
    n: int = 8,  # 25 to 1,000 in the paper, by task; fewer suit fewer prompts
    temperature: float = 0.8,
    share: float = 1.0,  # of the prompts that are answered
    # Touvron et al. 2023, section 3.1: the paper states none; tuned within a decade either way.
    learning_rate: Annotated[float, LogRange(2e-6, 2e-4)] = 2e-5,
    decay: float = 0.5,  # of the learning rate from one Improve step to the next
    epochs: Annotated[int, Range(1, 3)] = 1,
    batch_size: int = 64,
    reward_learning_rate: float = 1e-5,  # Touvron et al. 2023, section 3.2.2
    reward_epochs: int = 1,
    reward_batch_size: int = 64,
) -> Policy:
    """Imitate own answers above rising thresholds of a learnt reward."""
    if grow < 1 or not thresholds or any(b <= a for a, b in pairwise(thresholds)):
        raise ValueError("rest needs a Grow step, and Improve steps with rising thresholds")
    reward = fit_reward(
        shared.sft,
        shared.labelled(feedback),
        learning_rate=reward_learning_rate,
        epochs=reward_epochs,
        batch_size=reward_batch_size,
        seed=shared.seed,
    )
    prompts = portion(shared.prompts, start=0.0, end=share, seed=shared.seed_for("prompts"))
    given = (as_answers(shared.demonstrations, policy=shared.sft),) if demonstrations else ()
    fit: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "seed": shared.seed}
    policy = shared.sft
    for number in range(grow):
        seed = shared.seed_for("grow", number)
        draws: dict[str, Any] = {"max_new_tokens": shared.max_new_tokens, "seed": seed}
        grown = sample(policy, prompts, n=n, temperature=temperature, **draws)
        pools = tuple(score(answers, judge=Reward(reward)) for answers in (grown, *given))
        for step, least in enumerate(thresholds):
            start = {"previous": policy, "sft": shared.sft, "base": shared.base}[init]
            kept = (
                keep_quantile(pools, quantile=least, at_most=at_most)
                if scale == "quantile"
                else keep_above(pools, threshold=least, scale=scale, at_most=at_most)
            )
            policy = finetune(start, kept, learning_rate=learning_rate * decay**step, **fit)
    return policy
