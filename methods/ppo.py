"""PPO-RLHF: a reward model learnt from pairs, and a policy that earns it without going far.

Ouyang et al. 2022, "Training language models to follow instructions with human feedback",
arXiv:2203.02155, section 3.5 and appendix C. A reward model is fitted to the preference pairs. The
policy then draws answers, the reward model scores them, and clipped policy-gradient steps raise
what scored better than a learnt value foresaw, at a price for every nat away from the SFT policy.

Differs from the paper: 1. Reward model and value network are of the policy's size, not 6B for all.
2. Pairs are independent rows, not all pairs of one ranking in one element. 3. Where the paper is
silent (lambda, value clipping, missing EOS) the values of Huang et al. 2024 stand. 4. No moving
average of the weights, and no pretraining text in the SFT policy that it starts from. 5. The
pretraining loss is off unless weighted; its weight is on a mean over tokens, since what the paper's
27.8 is on is not stated. 6. The length of training is in passes over the study's prompts: the
paper's 256,000 answers are eight passes over its 31,000. 7. With `rounds` the budget and the passes
are divided: each later round judges answers of the last round's policy, fits the reward model anew
to all pairs so far, and goes on from that policy. 8. Rewards are scaled too, not only shifted: over
answers of the pairs their deviation is 1, so `kl` is in that unit. 9. The value network starts as
the reward model but for its head, which starts at zeros.
"""

from __future__ import annotations

from typing import Annotated, Any

from harness import (
    PRESETS,
    EarlyStop,
    Feedback,
    LogRange,
    Policy,
    Preferences,
    Preset,
    Reward,
    Shared,
    fit_reward,
    fresh_pairs,
    method,
    optimise,
    together,
)


@method(paper="arXiv:2203.02155")
def ppo(
    shared: Shared,
    feedback: Feedback = "human",
    preset: Preset = "instructgpt",  # what None below stands for, and all other settings of PPO
    kl: Annotated[float | None, LogRange(0.005, 0.2)] = None,  # presets: 0.01 to 0.053
    passes: float = 8.0,  # 256k episodes of 31k prompts: section 3.5
    batch_size: int | None = None,
    learning_rate: Annotated[float | None, LogRange(3e-7, 3e-5)] = None,  # presets: 1e-6 to 1e-5
    value_learning_rate: float | None = None,
    whiten_advantages: bool | None = None,  # off in the poor baseline of Xu et al. 2024, table 3
    value_warmup: int = 0,  # iterations; Zheng et al. 2023, arXiv:2307.04964, advise it
    pretraining_weight: float = 0.0,  # "PPO"; above 0 it is "PPO-ptx"
    reward_learning_rate: float = 9e-6,  # appendix C.2
    reward_epochs: int = 1,  # appendix C.2: more overfit
    reward_batch_size: int = 64,  # appendix C.2
    checkpoints: int = 3,
    patience: int = 0,  # Touvron et al. 2023, arXiv:2307.09288, stop early on held-out prompts
    rounds: int = 1,  # section 3.1: labels on the best policy's answers, again and again
) -> Policy:
    """Raise a learnt reward by policy gradients, with a penalty on leaving the SFT policy."""
    fit: dict[str, Any] = {"learning_rate": reward_learning_rate, "epochs": reward_epochs}
    fit |= {"batch_size": reward_batch_size, "seed": shared.seed}
    given: dict[str, Any] = {"kl": kl, "batch_size": batch_size, "learning_rate": learning_rate}
    given |= {"value_learning_rate": value_learning_rate}
    given |= {"whiten_advantages": whiten_advantages}
    chosen = {**PRESETS[preset], **{k: v for k, v in given.items() if v is not None}}
    policy = shared.sft
    pairs: tuple[Preferences, ...] = ()
    for number in range(max(rounds, 1)):
        fresh = fresh_pairs(shared, policy, number=number, of=rounds, feedback=feedback)
        pairs = (*pairs, fresh)
        judged = together(pairs) if number else fresh
        reward = fit_reward(shared.sft, judged, **fit)
        policy = optimise(
            policy,
            shared.prompts,
            reward=Reward(reward),
            value=reward,
            reference=shared.sft if number else None,
            pretraining=shared.pretraining if pretraining_weight else None,
            **chosen,
            passes=passes / rounds,
            value_warmup=value_warmup,
            pretraining_weight=pretraining_weight,
            checkpoints=checkpoints,
            early_stop=EarlyStop(shared.validation, patience=patience) if patience else None,
            max_new_tokens=shared.max_new_tokens,
            seed=shared.seed_for("ppo", number) if number else shared.seed,
        )
    return policy
