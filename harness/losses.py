"""Preference losses that TRL lacks, as pure functions with shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def bradley_terry(delta: Tensor, p1: Tensor | float = 1.0, margin: Tensor | float = 0.0) -> Tensor:
    """Return -p1 log s(delta - margin) - (1 - p1) log s(-delta - margin) for each pair, in nats.

    delta: (pairs,), the first answer's score minus the second's; for DPO it is beta times the
    difference of the two log-ratios (Rafailov et al. 2023, eq. 7), and p1 = 1 - eps is cDPO.
    p1: (pairs,), the probability that the first answer is the better one; 1 is a hard label.
    margin: (pairs,), how far apart the pair should at least be (Touvron et al. 2023, eq. 2).
    """
    from torch.nn.functional import softplus

    return p1 * softplus(margin - delta) + (1 - p1) * softplus(margin + delta)


def smoothed(p1: float, label_smoothing: float) -> float:
    """Return p1 after a flip of the label with probability `label_smoothing`, as in cDPO."""
    return p1 * (1 - label_smoothing) + (1 - p1) * label_smoothing


def token_logprobs(logits: Tensor, ids: Tensor, is_completion: Tensor) -> Tensor:
    """Return the log-probability of each completion token and 0 elsewhere, in float32.

    logits: (batch, length, vocabulary). ids: (batch, length). is_completion: (batch, length), true
    on completion tokens up to and including EOS. Returns (batch, length - 1): column t is about
    token t + 1, which the logits of position t predict.
    """
    from torch import log_softmax

    each = log_softmax(logits[:, :-1].float(), dim=-1)
    chosen = each.gather(-1, ids[:, 1:, None]).squeeze(-1)
    return chosen.masked_fill(~is_completion[:, 1:].bool(), 0.0)


def agreement(delta: Tensor) -> Tensor:
    """Return the share of pairs whose first answer scores higher; ties count one half.

    delta: (pairs,), the first answer's score minus the second's.
    """
    return ((delta > 0).float() + 0.5 * (delta == 0).float()).mean()
