"""Llama 2's RLHF: two reward models, versions of rejection sampling, then PPO on a gated reward.

Touvron et al. 2023, "Llama 2: Open Foundation and Fine-Tuned Chat Models", arXiv:2307.09288,
section 3. One reward model learns helpfulness and one safety. Every version answers each prompt
many times, the current reward models score these answers and those of versions before, and the best
are imitated. PPO follows, on the safety model's score where safety is at stake and on the other's
elsewhere, whitened.

Differs from the paper: 1. Reward models start from the SFT policy and are fitted once; `rounds`
divides the budget among so many versions, each of which judges the last one's answers and fits them
anew to all pairs so far. 2. A margin takes pairs whose strength was bought, so it is off. 3. The
safety loss on single answers takes flags that were bought, so it is off, and its weight is ours;
without it the threshold is of a pairwise score, which is no probability of being safe. 4. No open
data: the helpful model reads helpful pairs alone, not half of other axes, and the safety model a
share of helpful ones. 5. All versions sample themselves, at one temperature; unfinished answers are
not imitated. 6. Where the paper is silent, fine-tuning is as SFT's and starts from the SFT policy,
and PPO is as in Huang et al. 2024, its values zero at first; it stops with its passes, not on
held-out prompts. 7. Neither ghost attention nor context distillation, which are about system text.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from harness import (
    PRESETS,
    Count,
    LogRange,
    Margin,
    Policy,
    Samples,
    Shared,
    finetune,
    fresh_pairs,
    gated_reward,
    keep_best,
    method,
    optimise,
    portion,
    sample,
    score,
    together,
)


@method(paper="arXiv:2307.09288")
def llama2(
    shared: Shared,
    rewards: Literal["two", "one"] = "two",
    stages: Literal["both", "rs", "ppo"] = "both",
    versions: Count = 5,  # section 3.2: RLHF-V1 to V5
    pool_from: int = 4,  # section 3.2.3: from V4 on the best of all versions count
    rounds: Count = 1,  # of judgements; in section 3.2.1 each version has fresh ones, weekly
    n: int = 16,  # figure 7 shows 1 to 100
    temperature: float = 1.0,  # figure 8: the best one after SFT
    share: float = 1.0,  # of the prompts that are answered for rejection sampling
    init: Literal["sft", "base", "previous"] = "sft",
    rs_learning_rate: Annotated[float, LogRange(2e-6, 2e-4)] = 2e-5,  # section 3.1, as SFT
    rs_epochs: int = 2,  # section 3.1, as SFT
    margin: Margin = "none",  # table 27: "small" and "large"
    threshold: float = 0.15,  # section 3.2.3, of the probability of being safe
    safety_loss: float = 0.0,  # section 3.2.2 has one, and states no weight
    safety_mix: float = 0.1,  # section 3.2.2: helpful pairs among the safety model's
    reward_learning_rate: float = 1e-5,  # section 3.2.2
    reward_epochs: int = 1,  # section 3.2.2: more overfits
    reward_batch_size: int = 64,  # the paper's 512 would be a handful of steps here
    kl: Annotated[float, LogRange(0.005, 0.2)] = 0.01,  # section 3.2.3, 7B and 13B
    passes: float = 8.0,  # over the prompts; the paper has 200 to 400 batches of 512
    batch_size: int = 512,  # section 3.2.3
    learning_rate: Annotated[float, LogRange(1e-7, 1e-5)] = 1e-6,  # section 3.2.3
    value_learning_rate: float = 1e-6,  # section 3.2.3 names one rate
) -> Policy:
    """Imitate the best answers by two reward models, version by version, then optimise by PPO."""
    fit: dict[str, Any] = {"margin": margin, "safety_mix": safety_mix, "safety_loss": safety_loss}
    fit |= {"learning_rate": reward_learning_rate, "batch_size": reward_batch_size}
    rs: Any = {"learning_rate": rs_learning_rate, "epochs": rs_epochs, "seed": shared.seed}
    prompts = portion(shared.prompts, start=0.0, end=share, seed=shared.seed_for("prompts"))
    if rounds > (1 if stages == "ppo" else versions):
        raise ValueError(f"rounds = {rounds}: each precedes a version of rejection sampling")
    policy, pairs = shared.sft, fresh_pairs(shared, shared.sft, number=0, of=rounds)
    drawn: tuple[Samples, ...] = ()
    for version in range(versions):
        if 0 < version < rounds:
            pairs = together((pairs, fresh_pairs(shared, policy, number=version, of=rounds)))
        reward, value = gated_reward(shared, pairs, rewards, threshold, epochs=reward_epochs, **fit)
        if stages == "ppo":
            break
        limit = {"max_new_tokens": shared.max_new_tokens, "seed": shared.seed_for("grow", version)}
        drawn += (sample(policy, prompts, n=n, temperature=temperature, **limit),)
        pool = drawn if version + 1 >= pool_from else drawn[-1:]
        kept = keep_best(tuple(score(answers, judge=reward) for answers in pool))
        policy = finetune({"sft": shared.sft, "base": shared.base}.get(init, policy), kept, **rs)
    rl = {**PRESETS["llama2"], "kl": kl, "batch_size": batch_size, "learning_rate": learning_rate}
    rl |= {"passes": passes, "max_new_tokens": shared.max_new_tokens, "seed": shared.seed}
    rl |= {"reward": reward, "value": value, "value_learning_rate": value_learning_rate}
    return policy if stages == "rs" else optimise(policy, shared.prompts, **rl)
