"""Best-of-n sampling: draw several answers, give the one that a reward model likes best.

Nakano et al. 2021, "WebGPT: Browser-assisted question-answering with human feedback",
arXiv:2112.09332, section 3.2; Stiennon et al. 2020, arXiv:2009.01325, appendix G.3. A reward model
learns from the preference pairs, and at inference it picks one of n answers of the SFT policy. No
policy is trained, so what this row gains is what the reward model knows, paid for at every answer.

Differs from the paper: 1. The reward model starts from the SFT policy of the cell, not from a
separate model that saw comparisons before. 2. Answers come from the policy alone, without a
browser. 3. The n draws are charged to the row as tokens generated. 4. An answer that did not finish
competes too, read as if it ended there.
"""

from __future__ import annotations

from harness import Policy, Reward, Shared, fit_reward, method
from harness import best_of_n as pick_best


@method(paper="arXiv:2112.09332")
def best_of_n(
    shared: Shared,
    n: int = 16,  # the paper's middle size: 4, 16 and 64, for its three models
    # No range: reward models stay as they are while methods are tuned, in all rows alike.
    reward_learning_rate: float = 1e-5,  # Touvron et al. 2023, 3.2.2: the paper states none
    reward_epochs: int = 1,  # more overfit: Ouyang et al. 2022, appendix C.2
    reward_batch_size: int = 64,  # Ouyang et al. 2022, appendix C.2
) -> Policy:
    """Draw n answers from the SFT policy and keep the one with the highest reward."""
    reward = Reward(
        fit_reward(
            shared.sft,
            shared.preferences,
            learning_rate=reward_learning_rate,
            epochs=reward_epochs,
            batch_size=reward_batch_size,
            seed=shared.seed,
        )
    )
    return pick_best(shared.sft, n=n, reward=reward)
