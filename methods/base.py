"""The base model as it is: the zero point of every comparison.

Brown et al. 2020, "Language Models are Few-Shot Learners", arXiv:2005.14165. A pretrained model is
asked through the chat template that every other row uses, and nothing is trained. What this row
scores is what pretraining alone brings.

Differs from the paper: 1. No examples stand in the prompt: every row of a study answers the same
prompts. 2. The template's special tokens are part of the prompt, which the paper did not have.
"""

from __future__ import annotations

from harness import Policy, Shared, method


@method(paper="arXiv:2005.14165")
def base(shared: Shared) -> Policy:
    """Return the base policy, untrained."""
    return shared.base
