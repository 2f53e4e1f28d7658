"""Episodes for policy gradients: answers drawn from the policy, and what networks say of them.

Sequences are padded on the right, so no position ids are needed; logits are looked at where an
answer's tokens stand and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from harness.divergence import is_repetitive, shares
from harness.policy_gradient import explained_variance, gae, k1, k3, whiten
from harness.ppo_settings import Settings
from harness.sampling import Decoding, Wanted, batches, draw
from harness.shared import derived_seed

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

PACK_TOKENS = 1 << 12  # in one forward pass where the device sets no limit on rows
ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Asked:
    """A prompt as the policy reads it, its row, and the number of the pass over the prompts."""

    prompt_id: str
    ids: tuple[int, ...]
    row: Any
    number: int = 0


@dataclass(frozen=True)
class Episode:
    """One answer: its ids up to and including the stop id, if it came to one.

    `logp` is what the sampler says, in nats at the sampling temperature.
    """

    asked: Asked
    token_ids: tuple[int, ...]
    finished: bool
    logp: float

    @property
    def length(self) -> int:
        """The tokens of prompt and answer together."""
        return len(self.asked.ids) + len(self.token_ids)


@dataclass(frozen=True)
class Pack:
    """Episodes that go through a network together; tensors are (rows, ...), padded on the right.

    ids: (rows, length). tokens, positions, is_token: (rows, tokens), an answer's ids, the positions
    whose logits and values are about them, and whether there is a token at all.
    """

    numbers: tuple[int, ...]
    ids: Tensor
    tokens: Tensor
    positions: Tensor
    is_token: Tensor


@dataclass(frozen=True)
class Rollout:
    """A pack of episodes and what is fixed while it is trained on.

    old_logp, log_ratio, advantages: (rows, tokens). old_values, rewards, returns: as many columns
    as `states` has, the pack itself or, `with_ends`, the pack and one slot after each EOS.
    """

    pack: Pack
    states: Pack
    old_logp: Tensor
    old_values: Tensor
    log_ratio: Tensor
    rewards: Tensor
    advantages: Tensor
    returns: Tensor


def wanted(asked: Sequence[Asked]) -> list[Wanted]:
    """Return the draws that prompts ask for, one each."""
    return [Wanted(one.ids, one.prompt_id, one.number) for one in asked]


def rows_together(model: Any, asked: Sequence[Asked], rows: int | None = None) -> int:
    """Return how many rows the largest batch has in which `collect` decodes these prompts."""
    return max(len(batch) for _, batch in batches(model, wanted(asked), rows or ROWS_AT_ONCE))


def collect(
    model: Any, asked: Sequence[Asked], decoding: Decoding, rows: int | None = None
) -> list[Episode]:
    """Return one answer to each prompt, in order; the draws depend on no batch."""
    found: dict[int, Episode] = {}
    for numbers, batch in batches(model, wanted(asked), rows or ROWS_AT_ONCE):
        for number, drawn in zip(numbers, draw(model, batch, decoding), strict=True):
            answer = (drawn.token_ids, drawn.finished, drawn.logp)
            found[number] = Episode(asked[number], *answer)
    return [found[number] for number in range(len(asked))]


def packs_of(
    episodes: Sequence[Episode], numbers: Iterable[int], device: str, rows: int | None = None
) -> list[Pack]:
    """Return the numbered episodes in packs of like length, at most `rows` episodes each."""
    groups: list[list[int]] = []
    for number in sorted(numbers, key=lambda number: -episodes[number].length):
        wide = episodes[groups[-1][0]].length if groups else 0
        limit = rows or max(1, PACK_TOKENS // max(wide, 1))
        if groups and len(groups[-1]) < limit:
            groups[-1].append(number)
        else:
            groups.append([number])
    return [packed(episodes, group, device) for group in groups]


def pack_rows(episodes: Sequence[Episode], parts: int, rows: int | None) -> int:
    """Return how many of the longest of these episodes, cut into parts, share a pack."""
    longest = max(one.length for one in episodes)
    return min(math.ceil(len(episodes) / parts), rows or max(1, PACK_TOKENS // longest))


def cut(rollouts: Sequence[Rollout], rows: int | None) -> list[Rollout]:
    """Return rollouts of at most so many rows each; those that are small enough stay."""
    found: list[Rollout] = []
    for one in rollouts:
        count = len(one.pack.numbers)
        if rows is None or count <= rows:
            found.append(one)
            continue
        for start in range(0, count, rows):
            here = slice(start, start + rows)
            rest = [getattr(one, field.name)[here] for field in fields(Rollout)[2:]]
            found.append(Rollout(part_of(one.pack, here), part_of(one.states, here), *rest))
    return found


def part_of(pack: Pack, here: slice) -> Pack:
    """Return some rows of a pack."""
    return Pack(*(getattr(pack, field.name)[here] for field in fields(Pack)))


def packed(episodes: Sequence[Episode], numbers: Sequence[int], device: str) -> Pack:
    """Return the numbered episodes as one pack."""
    import torch

    chosen = [episodes[number] for number in numbers]
    length = max(one.length for one in chosen)
    width = max(len(one.token_ids) for one in chosen)
    whole = [[*one.asked.ids, *one.token_ids] for one in chosen]
    ids = torch.tensor([[*row, *[0] * (length - len(row))] for row in whole], device=device)
    lengths = torch.tensor([len(one.token_ids) for one in chosen], device=device)[:, None]
    starts = torch.tensor([len(one.asked.ids) for one in chosen], device=device)[:, None]
    columns = torch.arange(width, device=device)[None]
    places = (starts + columns).clamp(max=length - 1)
    return Pack(tuple(numbers), ids, ids.gather(1, places), places - 1, columns < lengths)


def with_ends(pack: Pack, episodes: Sequence[Episode]) -> Pack:
    """Return a pack with one more slot for each answer that ended: the state after its EOS.

    An answer that was cut off has none, and no token stands in the slot.
    """
    import torch

    ended = torch.tensor([episodes[number].finished for number in pack.numbers])
    lengths = pack.is_token.sum(1, keepdim=True) + ended.to(pack.ids.device)[:, None]
    columns = torch.arange(pack.is_token.shape[1] + 1, device=pack.ids.device)[None]
    positions = (pack.positions[:, :1] + columns).clamp(max=pack.ids.shape[1] - 1)
    tokens = torch.nn.functional.pad(pack.tokens, (0, 1))
    return replace(pack, tokens=tokens, positions=positions, is_token=columns < lengths)


def in_rows(tokens: Tensor, is_token: Tensor) -> Tensor:
    """Return numbers of all tokens, (all tokens,), where they stand: (rows, tokens), else 0."""
    import torch

    return torch.zeros(is_token.shape, device=tokens.device).masked_scatter(is_token, tokens)


def shuffled(count: int, seed: int, *names: str | int) -> list[int]:
    """Return the numbers below `count` in an order that belongs to a seed and names."""
    order: list[int] = generator(seed, *names).permutation(count).tolist()
    return order


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return a generator of its own for one use."""
    import numpy as np

    return np.random.Generator(np.random.Philox(derived_seed(seed, *names)))


def final_scores(episodes: Sequence[Episode], scores: Sequence[float], s: Settings) -> list[float]:
    """Return what each answer earns: its score, whitened if asked, after the rule on missing EOS.

    Whether an answer ended is read off its own tokens: a prompt may hold EOS too.
    """
    import numpy as np

    earned = np.array(scores, dtype=np.float64)
    if s.whiten_scores:
        earned = (earned - earned.mean()) / np.sqrt(earned.var() + 1e-8)
    finished = np.array([one.finished for one in episodes])
    if s.missing_eos == "replace":
        earned = np.where(finished, earned, s.missing_eos_score)
    elif s.missing_eos == "subtract":
        earned = np.where(finished, earned, earned - abs(s.missing_eos_score))
    found: list[float] = earned.astype(np.float32).tolist()
    return found


def with_advantages(rollout: Rollout, lam: float) -> Rollout:
    """Return a rollout with its advantages and returns; the discount is 1."""
    is_state, tokens = rollout.states.is_token, rollout.pack.is_token.shape[1]
    advantages, returns = gae(rollout.rewards, rollout.old_values, is_state, lam=lam)
    return replace(rollout, advantages=advantages[:, :tokens], returns=returns)


def whitened(rollouts: Sequence[Rollout], name: Literal["rewards", "advantages"]) -> list[Rollout]:
    """Return rollouts with one of their tensors whitened over all of them; rewards keep the mean.

    Ziegler et al. 2019's code.
    """
    import torch

    masks = [(one.states if name == "rewards" else one.pack).is_token for one in rollouts]
    tokens = [getattr(one, name)[mask] for one, mask in zip(rollouts, masks, strict=True)]
    flat = torch.cat(tokens)[None]
    white = whiten(flat, torch.ones_like(flat, dtype=torch.bool), shift_mean=name != "rewards")[0]
    parts = torch.split(white, [len(one) for one in tokens])
    rows = [in_rows(part, mask) for part, mask in zip(parts, masks, strict=True)]
    both = list(zip(rollouts, rows, strict=True))
    if name == "rewards":
        return [replace(one, rewards=row) for one, row in both]
    return [replace(one, advantages=row) for one, row in both]


def measurements(
    episodes: Sequence[Episode], scores: Sequence[float], rollouts: Sequence[Rollout]
) -> dict[str, float]:
    """Return what a batch shows: means over answers, in nats, tokens and the score's own unit."""
    import torch

    count = len(episodes)
    flat = {
        name: torch.cat([getattr(one, name)[one.states.is_token] for one in rollouts])
        for name in ("rewards", "old_values", "returns")
    }
    flat["log_ratio"] = torch.cat([one.log_ratio[one.pack.is_token] for one in rollouts])
    proxy = torch.tensor(scores, dtype=torch.float64)
    gaps = [
        abs(float(logp) - episodes[number].logp)
        for one in rollouts
        for number, logp in zip(one.pack.numbers, one.old_logp.sum(1), strict=True)
    ]
    each = torch.cat([k1(one.log_ratio).sum(1) for one in rollouts])  # of whole answers
    everywhere = torch.ones_like(flat["returns"], dtype=torch.bool)
    answers = [one.token_ids for one in episodes]
    finished = [one.finished for one in episodes]
    return {
        **shares([one.asked.ids for one in episodes], answers, finished),
        "proxy": float(proxy.mean()),
        "proxy_std": float(proxy.std(correction=0)),
        "reward": float(flat["rewards"].sum()) / count,
        "kl": float(k1(flat["log_ratio"]).sum()) / count,
        "kl_error": float(each.std(correction=0)) / math.sqrt(count),
        "kl_k3": float(k3(flat["log_ratio"]).sum()) / count,
        "length": sum(map(len, answers)) / count,
        "eos_rate": sum(finished) / count,
        "repeating": sum(map(is_repetitive, answers)) / count,  # of few answers too
        "explained_variance": explained_variance(flat["old_values"], flat["returns"], everywhere),
        "sampler_gap": max(gaps),
    }
