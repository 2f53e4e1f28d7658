"""Constitutional AI: a model revises its answers by written principles and learns from AI labels.

Bai et al. 2022, "Constitutional AI: Harmlessness from AI Feedback", arXiv:2212.08073. SL-CAI
(`stage = "sl"`): answers to red-team prompts are criticised and revised by drawn principles, and
the base model imitates all revisions and the helpful answers. RL-CAI: that model answers twice, the
labeller says which answer keeps a drawn principle better, and reinforcement learning follows a
preference model of these labels and of human labels for helpfulness.

Differs from the paper: 1. The dataset's assistant criticises and revises, the labeller compares,
and the first answers are the SFT policy's; the paper asks one model. 2. Both orders are shown and
averaged, unless the labeller is told otherwise. 3. Human labels are the helpful-axis rows of the
budget. 4. Instead of reinforcement learning, `stage2` may be DPO on the same labels, or on last
revisions against first answers with human labels (Hugging Face 2024, who split the prompts).
5. Where the paper is silent PPO is that of Huang et al. 2024, with smaller batches. 6. In SL-CAI
the learning rate falls by a cosine, a prompt for helpfulness has one answer in place of two, and
unfinished answers are left out. 7. The preference model starts from the SFT policy; its scores have
deviation 1, so `beta` is in that unit. 8. The labeller compares without worked examples.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from harness import (
    PRESETS,
    Examples,
    LogRange,
    Policy,
    Reward,
    Shared,
    finetune,
    first_answers,
    fit_reward,
    method,
    only,
    optimise,
    own_pairs,
    pool,
    prefer,
    revision_pairs,
    self_revised,
    together,
)
from harness import constitution as written


@method(paper="arXiv:2212.08073")
def cai(
    shared: Shared,
    stage: Literal["rl", "sl"] = "rl",
    stage2: Literal["pm_ppo", "dpo_revision", "dpo_ai_labels"] = "pm_ppo",
    constitution: Annotated[str, Examples("null", "general")] = "hamlet",  # or a YAML file
    revisions: int = 4,  # section 3.2
    critique: bool = True,  # section 3.5: it helps small models
    critic_temperature: float = 1.0,  # section 3.2
    imitate: Literal["revisions", "first_answers"] = "revisions",  # the other is a control
    sl_learning_rate: float = 2e-5,  # Touvron et al. 2023: the paper's is half of pretraining's
    sl_batch_size: int = 64,  # the paper's 1024 would be a handful of steps here
    clamp: float = 0.0,  # section 4.1: 0.4 after a chain of thought
    pm_learning_rate: float = 1e-5,  # Touvron et al. 2023, section 3.2.2
    pm_epochs: int = 1,  # section 3.2.2 there: more overfits
    pm_batch_size: int = 64,
    beta: Annotated[float | None, LogRange(1e-4, 1.0)] = None,  # 0.001 in Bai et al. 2022a; DPO 0.1
    learning_rate: Annotated[float, LogRange(3e-7, 3e-5)] = 3e-6,  # Huang et al. 2024
    value_learning_rate: float = 3e-6,  # Huang et al. 2024
    batch_size: int = 64,
    passes: float = 8.0,  # of reinforcement learning over the prompts: Ouyang et al. 2022
) -> Policy:
    """Imitate revisions of the SFT policy's answers, then learn from labels by principles."""
    principles = written(constitution)
    steps = self_revised(
        shared, principles, revisions=revisions, critique=critique, temperature=critic_temperature
    )
    safe = steps if imitate == "revisions" else (first_answers(shared, "red-team", n=revisions),)
    taught = pool((*safe, first_answers(shared, "general")))
    imitate_by: dict[str, Any] = {"learning_rate": sl_learning_rate, "batch_size": sl_batch_size}
    # One epoch: section 3.2.
    sl = finetune(shared.base, taught, **imitate_by, epochs=1, seed=shared.seed)
    if stage == "sl":
        return sl
    if stage2 == "dpo_revision" and not steps:
        raise ValueError('stage2 = "dpo_revision" needs revisions; set revisions to at least 1')
    if stage2 == "dpo_revision":
        harmless = revision_pairs(steps[-1], axis="safe", source="ai_revision")
    else:
        harmless = own_pairs(shared, sl, principles, clamp=clamp)
    pairs = together((harmless, only(shared.preferences, axis="helpful")))
    fit: dict[str, Any] = {"learning_rate": learning_rate, "batch_size": batch_size}
    fit |= {"seed": shared.seed}
    if stage2 != "pm_ppo":
        return prefer(sl, pairs, beta=0.1 if beta is None else beta, **fit)
    pm: dict[str, Any] = {"learning_rate": pm_learning_rate, "epochs": pm_epochs}
    model = fit_reward(shared.sft, pairs, **pm, batch_size=pm_batch_size, seed=shared.seed)
    rl = {**PRESETS["n_plus"], **fit, "kl": 0.001 if beta is None else beta, "passes": passes}
    rl |= {"max_new_tokens": shared.max_new_tokens, "value_learning_rate": value_learning_rate}
    return optimise(sl, shared.prompts, reward=Reward(model), value=model, **rl)
