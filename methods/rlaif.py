"""RLAIF: a language model labels the pairs, a reward model learns its labels, and RL earns them.

Lee et al. 2023, "RLAIF vs. RLHF: Scaling Reinforcement Learning from Human Feedback with AI
Feedback", arXiv:2309.00267, section 3.2.1. The labeller sees each pair in both orders; the average
of its two probabilities is a soft label. A reward model is fitted to the soft labels by
cross-entropy, and the policy earns its reward by REINFORCE with a learnt baseline and a KL penalty.

Differs from the paper: 1. The labeller is the study's, asked about helpfulness or harm as each pair
is; its chain of thought is a setting of the labeller. 2. The reward model starts from the SFT
policy and is normalised; a fixed number of epochs stands for training until a plateau. 3. AdamW
instead of Adafactor. 4. The value network starts from the SFT policy with a head of zeros. 5. No
checkpoint is picked unless the study's selection rule does. 6. The row that differs from PPO in
nothing but who labels is `ppo` with `feedback = "ai"`; this one follows the paper's own RL.
7. Answers are judged as they stand; the paper strips stray symbols from their ends before.
"""

from __future__ import annotations

from typing import Annotated, Literal

from harness import (
    PRESETS,
    LogRange,
    Policy,
    Reward,
    Shared,
    first_answers,
    fit_reward,
    method,
    optimise,
    relabel,
)


@method(paper="arXiv:2309.00267")
def rlaif(
    shared: Shared,
    pair_source: Literal["dataset", "self_sampled"] = "dataset",  # the paper relabels known pairs
    soft: bool = True,  # section 2.1
    reward_learning_rate: float = 1e-5,  # appendix on reward models
    reward_epochs: int = 3,  # appendix on reward models: 2 to 3 until a plateau
    reward_batch_size: int = 128,  # appendix on reward models, summarisation
    # Appendix on RL: the objective is (1 - beta) r - beta KL. Tuned within a decade either way.
    beta: Annotated[float, LogRange(0.005, 0.5)] = 0.05,
    learning_rate: Annotated[float, LogRange(1e-6, 1e-4)] = 1e-5,  # appendix on RL
    value_learning_rate: float = 1e-5,  # appendix on RL: policy and value are trained alike
    batch_size: int = 128,  # appendix on RL
    passes: float = 8.0,  # appendix on RL: 8 epochs
) -> Policy:
    """Fit a reward model to the labeller's soft labels and optimise the SFT policy against it."""
    if not 0 <= beta < 1:
        raise ValueError(f"beta is a share of the objective in [0, 1), not {beta}")
    own = pair_source == "self_sampled"
    model = fit_reward(
        shared.sft,
        relabel(
            first_answers(shared, n=2) if own else shared.preferences,
            judge=shared.asked("rlaif"),
            source="ai",
            soft=soft,
            seed=shared.seed_for("relabel"),
        ),
        learning_rate=reward_learning_rate,
        epochs=reward_epochs,
        batch_size=reward_batch_size,
        seed=shared.seed,
    )
    settings = {
        **PRESETS["reinforce_v"],
        "kl": beta / (1 - beta),
        "learning_rate": learning_rate,
        "value_learning_rate": value_learning_rate,
        "batch_size": batch_size,
    }
    return optimise(
        shared.sft,
        shared.prompts,
        reward=Reward(model),
        value=None,
        **settings,
        passes=passes,
        max_new_tokens=shared.max_new_tokens,
        seed=shared.seed,
    )
