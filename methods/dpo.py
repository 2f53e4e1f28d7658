"""Direct preference optimisation: a classification loss on pairs, no reward model, no sampling.

Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is Secretly a Reward
Model", arXiv:2305.18290. The optimal policy of KL-constrained reward maximisation fixes the reward
up to a term that cancels in a pair, so the policy itself can be fitted to preferences. Training
raises the log-probability of the better answer over the worse one, both relative to the reference.

Differs from the paper: 1. AdamW instead of RMSprop. 2. The learning rate warms up over a tenth of
the steps and then falls linearly to zero; the paper warms up over 150 steps and stays level. 3. A
soft label (0 < p1 < 1) enters the loss as a probability, as in Mitchell's cDPO note. 4. Other
losses of the family, and terms against length and forgetting, are settings that are off. 5. With
`rounds`, the budget is divided: each later round judges two answers of the last round's policy to
prompts of its own, and starts from that policy, which is also its reference. 6. `axis` trains on
the pairs of one axis alone: a control that shows what the other axis's labels hold in check.
7. `goal` asks the policy by HIR's best goal when it is used: a control for the row `hir`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from harness import (
    BEST,
    HARD_LABELS,
    Feedback,
    LogRange,
    Policy,
    PreferenceLoss,
    Range,
    Shared,
    fresh_pairs,
    method,
    only,
    prefer,
    under_goal,
)


@method(paper="arXiv:2305.18290")
def dpo(
    shared: Shared,
    feedback: Feedback = "human",
    axis: Literal["both", "helpful", "safe"] = "both",  # of the pairs that are trained on
    loss: PreferenceLoss = "sigmoid",
    beta: Annotated[float, LogRange(0.01, 1.0)] = 0.1,  # tuned within a decade either way
    label_smoothing: float = 0.0,  # above 0 it is cDPO
    length_penalty: float = 0.0,  # above 0 it is R-DPO: Park et al. 2024, arXiv:2403.19159
    nll: float = 0.0,  # 1 in Pang et al. 2024, arXiv:2404.19733
    learning_rate: Annotated[float, LogRange(1e-7, 1e-5)] = 1e-6,  # as far either way
    epochs: Annotated[int, Range(1, 3)] = 1,  # the authors' code has 1; the paper states none
    batch_size: int = 64,
    rounds: int = 1,  # above 1 it is iterative DPO
    goal: bool = False,  # true is a row to read `hir` by: the same text, without its training
) -> Policy:
    """Raise the better answer's probability over the worse one's, relative to the SFT policy."""
    if feedback != "human" and loss in HARD_LABELS:
        raise ValueError(
            f"feedback = {feedback!r} gives soft labels, and loss {loss!r} takes hard ones"
        )
    policy = shared.sft
    for number in range(max(rounds, 1)):
        pairs = fresh_pairs(shared, policy, number=number, of=rounds, feedback=feedback)
        policy = prefer(
            policy,
            pairs if axis == "both" else only(pairs, axis=axis),
            beta=beta,
            loss=loss,
            label_smoothing=label_smoothing,
            length_penalty=length_penalty,
            nll=nll,
            learning_rate=learning_rate,
            epochs=epochs,
            batch_size=batch_size,
            seed=shared.seed_for("dpo", number) if number else shared.seed,
        )
    return under_goal(policy, goal=BEST.text) if goal else policy
