"""Direct RLAIF: the policy is trained on the ratings of a language model, without a reward model.

Lee et al. 2023, "RLAIF vs. RLHF: Scaling Reinforcement Learning from Human Feedback with AI
Feedback", arXiv:2309.00267, section 3.2.2 (d-RLAIF). The labeller rates each sampled answer from 1
to 10; the expectation of its rating, mapped to [-1, 1], is the reward. There are no pairs, and no
reward model that could grow stale as the policy moves away from what it was trained on.

Differs from the paper: 1. Answers to red-team prompts are rated for safety and all others for
helpfulness, by the (at times wrong) collection of the prompt, as the pairs of a study are judged.
2. AdamW instead of Adafactor. 3. No checkpoint is picked unless the study's selection rule does.
4. The value network starts from the SFT policy with a head of zeros. 5. Of a labeller that does not
rate from 1 to 10 the reward is its own grade, under the same map.
"""

from __future__ import annotations

from typing import Annotated

from harness import PRESETS, ByTag, LogRange, Policy, Rescaled, Shared, method, optimise


@method(paper="arXiv:2309.00267")
def rlaif_direct(
    shared: Shared,
    # Appendix on RL: the objective is (1 - beta) r - beta KL. Tuned within a decade either way.
    beta: Annotated[float, LogRange(0.005, 0.5)] = 0.05,
    learning_rate: Annotated[float, LogRange(1e-6, 1e-4)] = 1e-5,  # appendix on RL
    value_learning_rate: float = 1e-5,  # appendix on RL: policy and value are trained alike
    batch_size: int = 128,  # appendix on RL
    passes: float = 8.0,  # appendix on RL: 8 epochs
) -> Policy:
    """Optimise the SFT policy by REINFORCE against the labeller's expected ratings."""
    if not 0 <= beta < 1:
        raise ValueError(f"beta is a share of the objective in [0, 1), not {beta}")
    labeller = shared.asked("rlaif_direct")
    reward = ByTag(
        general=Rescaled(labeller.on("helpful")),
        red_team=Rescaled(labeller.on("safe")),
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
        reward=reward,
        value=None,
        **settings,
        passes=passes,
        max_new_tokens=shared.max_new_tokens,
        seed=shared.seed,
    )
