"""Odds ratio preference optimisation: imitate the better answer and lower the odds of the worse.

Hong et al. 2024, "ORPO: Monolithic Preference Optimization without Reference Model",
arXiv:2403.07691. One loss does what SFT and preference optimisation do in turn: the likelihood of
the better answer, and how much larger its odds are than those of the worse. No reference policy and
no SFT are needed, so training starts from the base model.

Differs from the paper: 1. One epoch by default; the paper trains up to ten and picks one. 2. A
constant learning rate, without warm-up or decay. 3. The likelihood term is the mean over the tokens
of each answer, then over pairs, so that long answers weigh no more than short ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import (
    Diverged,
    Draft,
    Policy,
    Preferences,
    Shared,
    encode,
    method,
    save_model,
    stage,
    token_logprobs,
)

if TYPE_CHECKING:
    from torch import Tensor


@method(paper="arXiv:2403.07691")
def orpo(
    shared: Shared,
    odds_weight: float = 0.1,  # the paper's lambda for Mistral
    learning_rate: float = 8e-6,
    epochs: int = 1,
    batch_size: int = 64,
) -> Policy:
    """Train the base model on likelihood and odds ratio at once."""
    return fit_odds(
        shared.base,
        shared.preferences,
        odds_weight=odds_weight,
        learning_rate=learning_rate,
        epochs=epochs,
        batch_size=batch_size,
        seed=shared.seed,
    )


@stage(makes=Policy)
def fit_odds(
    out: Draft,
    policy: Policy,
    pairs: Preferences,
    *,
    odds_weight: float,
    learning_rate: float,
    epochs: int,
    batch_size: int,
    max_length: int = 1024,
    seed: int,
) -> None:
    """Make the policy with a low `orpo_loss` on the pairs; longer rows are left out and counted."""
    import torch

    tokenizer, model = policy.tokenizer(), policy.load(out.device)
    rows = [answers(tokenizer, pair) for pair in pairs]
    kept = [row for row in rows if max(len(ids) for _, ids in row) <= max_length]
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    draw = torch.Generator().manual_seed(seed)
    steps = [
        batch
        for _ in range(epochs)
        for batch in torch.randperm(len(kept), generator=draw).split(batch_size)
    ]
    for step, batch in enumerate(out.track(steps, "orpo")):
        chosen, rejected = mean_logps(model, [kept[row] for row in batch], tokenizer.pad_token_id)
        loss = orpo_loss(chosen, rejected, odds_weight).mean()
        if not torch.isfinite(loss):
            raise Diverged(f"loss is {loss.item()} at step {step}; lower learning_rate")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    save_model(out, model, tokenizer, policy)
    out.note(pairs=len(kept), longer_than_max_length=len(rows) - len(kept))
    tokens = sum(len(ids) for row in kept for _, ids in row)
    out.add(tokens_trained=tokens * epochs, labels_used=len(kept), optimiser_steps=len(steps))


def orpo_loss(chosen: Tensor, rejected: Tensor, odds_weight: float) -> Tensor:
    """Return -log P(chosen) - weight * log s(log odds(chosen) - log odds(rejected)) for each pair.

    chosen, rejected: (pairs,), the mean log-probability of an answer's tokens, in nats, below 0.
    odds(y) = P / (1 - P) with P the exponential of that mean (Hong et al. 2024, eq. 4 to 7).
    """
    import torch

    odds = [logp - torch.log(-torch.expm1(logp)) for logp in (chosen, rejected)]
    return -chosen - odds_weight * torch.nn.functional.logsigmoid(odds[0] - odds[1])


def answers(tokenizer: Any, pair: dict[str, Any]) -> tuple[tuple[int, list[int]], ...]:
    """Return the likelier answer and the other: the prompt's length, and ids of both together."""
    sides = (
        (pair["chosen"], pair["rejected"])
        if pair["p1"] >= 0.5
        else (pair["rejected"], pair["chosen"])
    )
    start = len(encode(tokenizer, pair["messages"]))
    return tuple((start, encode(tokenizer, pair["messages"], text)) for text in sides)


def mean_logps(
    model: Any, rows: list[tuple[tuple[int, list[int]], ...]], pad_id: int
) -> tuple[Tensor, Tensor]:
    """Return the mean log-probability of each better answer's tokens, and each worse one's."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    sides = [row[0] for row in rows] + [row[1] for row in rows]
    ids = pad_sequence(
        [torch.tensor(each) for _, each in sides], batch_first=True, padding_value=pad_id
    )
    place = torch.arange(ids.shape[1])
    starts = torch.tensor([start for start, _ in sides])[:, None]
    ends = torch.tensor([len(each) for _, each in sides])[:, None]
    is_completion = (place >= starts) & (place < ends)
    ids, is_completion = ids.to(model.device), is_completion.to(model.device)
    logits = model(input_ids=ids, attention_mask=(place < ends).long().to(model.device)).logits
    each = token_logprobs(logits, ids, is_completion).sum(dim=1) / is_completion.sum(dim=1)
    better, worse = each.chunk(2)
    return better, worse
