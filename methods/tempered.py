"""SFT at a temperature of its own: what drawing likelier answers buys, before anything is learnt.

Huang et al. 2024, "Self-Improvement in Language Models: The Sharpening Mechanism",
arXiv:2412.01951. Much of what training on preferences gains at temperature 1 is that a policy puts
more of its mass on answers it already gave most. A lower temperature does so for nothing; what a
method gains beyond this row is more than sharpening.

Differs from the paper: 1. Each token is sharpened; the paper's policy has its mass on the likeliest
whole answers. 2. Nothing is trained. 3. Greedy answers, and what reads weights, are SFT's.
"""

from __future__ import annotations

from typing import Annotated

from harness import Policy, Range, Shared, method
from harness import tempered as drawn_at


@method(paper="arXiv:2412.01951")
def tempered(
    shared: Shared,
    temperature: Annotated[float, Range(0.1, 1.0)] = 0.7,  # Huang et al. 2024, arXiv:2403.17031
) -> Policy:
    """Draw the SFT policy's answers at a temperature of its own, wherever another row's is 1."""
    return drawn_at(shared.sft, temperature=temperature)
