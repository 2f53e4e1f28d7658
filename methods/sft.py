"""Supervised fine-tuning: the start of every other method, and the opponent in every win rate.

Ouyang et al. 2022, "Training language models to follow instructions with human feedback",
arXiv:2203.02155, section 3.5 and appendix C.1. The base model imitates demonstrations, with the
loss on the answers alone. Every method of a cell starts from this same policy, so it is trained
once and shared.

Differs from the paper: 1. Its settings stand in the study's [sft] table instead of here, because a
row with its own SFT would differ in more than its method. 2. The paper trains 16 epochs and picks a
checkpoint by a reward model; here the epochs are fixed and nothing is picked. 3. No dropout.
"""

from __future__ import annotations

from harness import Policy, Shared, method


@method(paper="arXiv:2203.02155")
def sft(shared: Shared) -> Policy:
    """Return the SFT policy that all methods of the cell start from."""
    return shared.sft
