"""The mathematics of policy-gradient alignment, as pure functions with shapes.

Tensors are (batch, tokens): column t is about the t-th token of an answer. `is_token` is true on an
answer's tokens up to and including EOS; what stands elsewhere, NaN included, changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def k1(log_ratio: Tensor) -> Tensor:
    """Return log pi/ref on draws of pi: unbiased for KL(pi || ref), and negative at times.

    log_ratio: any shape, log pi minus log ref. Schulman 2020, "Approximating KL Divergence".
    """
    return log_ratio


def k2(log_ratio: Tensor) -> Tensor:
    """Return half the square of log pi/ref: never negative, biased; as a loss it is k1 in reward.

    log_ratio: any shape, log pi minus log ref. Schulman 2020, "Approximating KL Divergence".
    """
    return log_ratio**2 / 2


def k3(log_ratio: Tensor) -> Tensor:
    """Return ref/pi - 1 + log pi/ref: unbiased for KL(pi || ref), and never negative.

    log_ratio: any shape, log pi minus log ref. Schulman 2020, "Approximating KL Divergence".
    """
    import torch

    return torch.expm1(-log_ratio) + log_ratio


def masked_sum(values: Tensor, is_token: Tensor) -> Tensor:
    """Return the sum over tokens, a scalar in float32 or wider; masked values are not looked at."""
    return values.masked_fill(~is_token, 0.0).sum()


def masked_mean(values: Tensor, is_token: Tensor, tokens: float | None = None) -> Tensor:
    """Return the sum over tokens divided by `tokens`, by default by how many there are here.

    A micro-batch is given the count of its whole batch, so that the parts add up to its mean.
    """
    return masked_sum(values, is_token) / (is_token.sum() if tokens is None else tokens)


def whiten(values: Tensor, is_token: Tensor, *, shift_mean: bool = True) -> Tensor:
    """Return values of variance one over the tokens, mean 0 or, unshifted, their own mean.

    The variance is the population's (division by n), as in Ziegler et al. 2019. Elsewhere 0.
    """
    mean = masked_mean(values, is_token)
    variance = masked_mean((values - mean) ** 2, is_token)
    white = (values - mean) * (variance + 1e-8).rsqrt()
    return (white if shift_mean else white + mean).masked_fill(~is_token, 0.0)


def token_rewards(
    log_ratio: Tensor,
    scores: Tensor,
    is_token: Tensor,
    is_state: Tensor,
    beta: float,
) -> Tensor:
    """Return -beta k1 on every token plus the answer's score on its last state.

    log_ratio: (batch, tokens), log pi minus log ref. scores: (batch,). Ouyang et al. 2022, eq. 2.
    is_state: (batch, states), as `is_token` or, for a score one slot after EOS as in Huang et al.
    2024 (arXiv:2403.17031) and TRL, true on that slot too; rewards have its shape.
    """
    import torch

    penalties = (-beta * k1(log_ratio)).masked_fill(~is_token, 0.0)
    penalties = torch.nn.functional.pad(penalties, (0, is_state.shape[1] - is_token.shape[1]))
    last = is_state.sum(1) - 1
    return penalties.scatter_add(1, last[:, None], scores[:, None].to(penalties))


def gae(
    rewards: Tensor, values: Tensor, is_token: Tensor, *, gamma: float = 1.0, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Return advantages and returns, (batch, tokens) each, and 0 off the tokens.

    delta_t = R_t + gamma V_{t+1} - V_t and A_t = delta_t + gamma lam A_{t+1}, with V = 0 after the
    last token; a return is A_t + V_t. Schulman et al. 2016 (arXiv:1506.02438), eq. 16.
    """
    import torch

    rewards = rewards.masked_fill(~is_token, 0.0)
    values = values.masked_fill(~is_token, 0.0)
    following = torch.nn.functional.pad(values[:, 1:], (0, 1))
    deltas = rewards + gamma * following - values
    ahead = torch.zeros_like(values[:, 0])
    columns = []
    for t in reversed(range(values.shape[1])):
        ahead = torch.where(is_token[:, t], deltas[:, t] + gamma * lam * ahead, 0.0)
        columns.append(ahead)
    advantages = torch.stack(columns[::-1], dim=1)
    return advantages, advantages + values


def policy_losses(
    logp: Tensor, old_logp: Tensor, advantages: Tensor, clip: float | None
) -> tuple[Tensor, Tensor]:
    """Return each token's clipped surrogate, to be minimised, and where the clip holds it.

    max(-A rho, -A clip(rho, 1 - clip, 1 + clip)), rho = pi/pi_old: Schulman et al. 2017
    (arXiv:1707.06347), eq. 7. Without a clip it is -A rho, whose gradient at pi_old is REINFORCE's.
    """
    import torch

    ratio = (logp - old_logp).exp()
    free = -advantages * ratio
    if clip is None:
        return free, torch.zeros_like(free, dtype=torch.bool)
    held = -advantages * ratio.clamp(1 - clip, 1 + clip)
    return torch.maximum(free, held), held > free


def value_losses(
    values: Tensor, old_values: Tensor, returns: Tensor, clip: float | None
) -> tuple[Tensor, Tensor]:
    """Return half the squared error of each value, and where the clip holds it.

    With a clip, the larger of the error and that of the value kept within `clip` of its old one:
    Ziegler et al. 2019's code, after OpenAI baselines.
    """
    import torch

    free = (values - returns) ** 2 / 2
    if clip is None:
        return free, torch.zeros_like(free, dtype=torch.bool)
    near = old_values + (values - old_values).clamp(-clip, clip)
    held = (near - returns) ** 2 / 2
    return torch.maximum(free, held), held > free


def adapted_beta(beta: float, kl: float, *, target: float, gain: float) -> float:
    """Return the coefficient of the KL penalty after a batch whose mean KL was `kl`.

    kl and target: nats per answer. gain: the batch's episodes over the horizon (512 / 10,000), or
    0.1 as in AlpacaFarm's code. Ziegler et al. 2019 (arXiv:1909.08593), section 2.2.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return beta * (1 + gain * error)


def explained_variance(values: Tensor, returns: Tensor, is_token: Tensor) -> float:
    """Return 1 - Var(returns - values) / Var(returns) over tokens; 0 where returns do not vary."""
    error, spread = (returns - values)[is_token], returns[is_token]
    if float(spread.var(correction=0)) == 0:
        return 0.0
    return float(1 - error.var(correction=0) / spread.var(correction=0))
