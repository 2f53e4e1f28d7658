"""Losses of preference learning and hindsight relabelling, as pure functions with shapes."""

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


def k_wise(scores: Tensor, ranks: Tensor) -> Tensor:
    """Return the mean Bradley-Terry loss over all untied pairs of one prompt's K answers, ().

    scores, ranks: (K,); a smaller rank is better. All pairs of a prompt are one element of a batch:
    as independent rows they overfit in one pass. A prompt with only ties gives 0.
    (Ouyang et al. 2022, arXiv:2203.02155, eq. 1)
    """
    wins = ranks[:, None] < ranks[None, :]
    each = bradley_terry(scores[:, None] - scores[None, :])
    return each.masked_fill(~wins, 0.0).sum() / wins.sum().clamp(min=1)


def safe_or_not(
    chosen: Tensor, rejected: Tensor, chosen_safe: Tensor, rejected_safe: Tensor
) -> Tensor:
    """Return 1/2 [BCE(s(r_c), safe_c) + BCE(s(r_r), safe_r)] for each pair, in nats.

    chosen, rejected: (pairs,), raw scores. chosen_safe, rejected_safe: (pairs,), 1 where an
    annotator found the answer safe, else 0. It makes s(r) a probability of being safe, so that a
    threshold on it means something. (Touvron et al. 2023, arXiv:2307.09288, section 3.2.2 names
    the loss; the formula is not published.)
    """
    return 0.5 * (bradley_terry(chosen, chosen_safe) + bradley_terry(rejected, rejected_safe))


def robust_dpo(delta: Tensor, flips: float) -> Tensor:
    """Return [-(1 - e) log s(delta) + e log s(-delta)] / (1 - 2 e) for each pair, in nats.

    Unbiased when each label is flipped with probability e = `flips` < 1/2; it can be negative.
    delta: (pairs,), beta times h. (Chowdhury et al. 2024, arXiv:2403.00409)
    """
    if not 0 <= flips < 0.5:
        raise ValueError(f"flips must lie in [0, 0.5), but is {flips}")
    kept, flipped = bradley_terry(delta), bradley_terry(-delta)
    return ((1 - flips) * kept - flips * flipped) / (1 - 2 * flips)


def ipo(h: Tensor, beta: float) -> Tensor:
    """Return (h - 1 / (2 beta))**2 for each pair. (Azar et al. 2023, arXiv:2310.12036)

    h: (pairs,), the difference of two log-ratios: of their sums over tokens, or of their means over
    tokens, which is what the paper's numbers come from.
    """
    return (h - 1 / (2 * beta)) ** 2


def difference(
    chosen: Tensor, rejected: Tensor, lengths: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Return the first answer's sum minus the second's, (pairs,); with `lengths`, of token means.

    chosen, rejected: (pairs,), sums over an answer's tokens, EOS included: log-ratios for DPO,
    log-probabilities for SimPO. lengths: (pairs,) each, the two answers' tokens.
    """
    if lengths is None:
        return chosen - rejected
    return chosen / lengths[0] - rejected / lengths[1]


def length_margin(lengths: tuple[Tensor, Tensor], alpha: float) -> Tensor:
    """Return alpha (tokens of the first - tokens of the second), (pairs,): a margin for DPO.

    A better answer that is longer must be that much better: -log s(beta h - alpha (len_c - len_r)).
    (R-DPO: Park et al. 2024, arXiv:2403.19159)
    """
    return alpha * (lengths[0] - lengths[1])


def mean_nll(logps: Tensor, tokens: Tensor) -> Tensor:
    """Return -log pi(y) / tokens of each answer, in nats a token: what keeps DPO from forgetting y.

    logps, tokens: (answers,). (Pang et al. 2024, arXiv:2404.19733)
    """
    return -logps / tokens


def own_goal(own: Tensor, opposite: Tensor, label_smoothing: float = 0.2) -> Tensor:
    """Return (1 - e)(-log P_own) + e(-log P_opposite) for each answer, in nats.

    own, opposite: (answers,), the answer's mean log-probability a token under its own goal and
    under the opposite one; P is the softmax over the two, so the loss is lowest where they differ
    by logit(1 - e). (HIR: Zhang et al. 2023, arXiv:2302.05206; the two goals of one
    query and the length normalisation are those of the authors' code.)
    """
    return bradley_terry(own - opposite, 1 - label_smoothing)


def smoothed_nll(logits: Tensor, ids: Tensor, is_completion: Tensor, smoothing: float) -> Tensor:
    """Return the mean loss of completion tokens, in nats, towards labels smoothed over all tokens.

    (1 - e)(-log p of the token) + e (mean over the vocabulary of -log p), e = `smoothing`. Shapes
    as in `token_logprobs`; returns (). Raises ValueError where no token is a completion's.
    """
    from torch import log_softmax

    picked = is_completion[:, 1:].bool()
    if not picked.any():
        raise ValueError("no token of the batch is a completion's, so there is nothing to learn")
    each = log_softmax(logits[:, :-1][picked].float(), dim=-1)
    right = each.gather(-1, ids[:, 1:][picked][:, None])[:, 0]
    return -((1 - smoothing) * right + smoothing * each.mean(-1)).mean()


def negative_entropy(logits: Tensor, is_completion: Tensor) -> Tensor:
    """Return the mean of sum_v p log p over completion tokens, in nats: lower is more exploring.

    logits: (batch, length, vocabulary). is_completion: (batch, length). Returns ().
    (Zhang et al. 2023, arXiv:2302.05206)
    """
    from torch import log_softmax

    picked = is_completion[:, 1:].bool()
    if not picked.any():
        raise ValueError("no token of the batch is a completion's, so it has no entropy")
    each = log_softmax(logits[:, :-1][picked].float(), dim=-1)
    return (each.exp() * each).sum(-1).mean()
