"""The three losses of hindsight instruction relabelling, over batches of answers under goals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.losses import negative_entropy, own_goal, smoothed_nll, token_logprobs
from harness.own_losses import OwnLoss

if TYPE_CHECKING:
    from torch import Tensor

Row = dict[str, Any]


@dataclass(frozen=True)
class Weights:
    """How much the terms count, and how soft their labels are."""

    contrast: float
    entropy: float
    label_smoothing: float
    contrast_smoothing: float


class Batch(NamedTuple):
    """Answers under their own goals, then the same under others; padded on the right.

    ids, mask, is_completion: (sequences, length), the own ones first, one an answer; mask is true
    on tokens. is_target: (answers,), whether an answer is imitated. answer: (others,), which answer
    each other sequence is about. share: (others,), one over how many others its answer has.
    """

    ids: Tensor
    mask: Tensor
    is_completion: Tensor
    is_target: Tensor
    answer: Tensor
    share: Tensor


class Terms(NamedTuple):
    """Sums over a batch: of loss over target tokens, and of contrast over contrasted answers."""

    supervised: Tensor
    negative_entropy: Tensor
    contrast: Tensor
    right: Tensor  # answers likelier a token under their own goal than under the other, by share

    def loss(self, tokens: int, contrasted: int, weights: Weights) -> Tensor:
        """Return L_sup + alpha L_con + beta L_ent, with means over a whole batch's counts, ()."""
        imitation = self.supervised + weights.entropy * self.negative_entropy
        return imitation / max(tokens, 1) + weights.contrast * self.contrast / max(contrasted, 1)


def collated(rows: list[Row], pad: int) -> Batch:
    """Return rows of ids, starts and is_target as one batch."""
    import torch

    owns = [(row["ids"][0], row["starts"][0]) for row in rows]
    others = [
        (ids, start, number)
        for number, row in enumerate(rows)
        for ids, start in zip(row["ids"][1:], row["starts"][1:], strict=True)
    ]
    found = [*owns, *((ids, start) for ids, start, _ in others)]
    width = max(len(ids) for ids, _ in found)
    lengths = torch.tensor([len(ids) for ids, _ in found])[:, None]
    starts = torch.tensor([start for _, start in found])[:, None]
    columns = torch.arange(width)[None]
    mask = columns < lengths
    return Batch(
        torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids, _ in found]),
        mask,
        mask & (columns >= starts),
        torch.tensor([row["is_target"] for row in rows]),
        torch.tensor([number for _, _, number in others], dtype=torch.long),
        torch.tensor([1 / (len(rows[number]["ids"]) - 1) for _, _, number in others]),
    )


def target_tokens(batch: Batch) -> int:
    """Return how many tokens of a batch are imitated."""
    own = batch.is_completion[: len(batch.is_target)]
    return int(own[batch.is_target].sum())


def contrasted_answers(batch: Batch) -> int:
    """Return how many answers of a batch are held against another goal."""
    return len(set(batch.answer.tolist()))


def terms(logits: Tensor, batch: Batch, weights: Weights) -> Terms:
    """Return the sums that the loss is made of; logits: (sequences, length, vocabulary).

    Of an answer that is no target the likelihood under its own goal has no gradient: it can become
    less likely under the other goal, and never likelier under its own.
    """
    count = len(batch.is_target)
    zero = logits.new_zeros(())
    supervised = spread = contrast = right = zero
    if bool(batch.is_target.any()):
        targets = batch.is_target.nonzero()[:, 0]
        own = logits[targets], batch.ids[targets], batch.is_completion[targets]
        tokens = target_tokens(batch)
        supervised = smoothed_nll(*own, weights.label_smoothing) * tokens
        spread = negative_entropy(own[0], own[2]) * tokens
    if len(batch.answer):
        summed = token_logprobs(logits, batch.ids, batch.is_completion).sum(1)
        mean = summed / batch.is_completion[:, 1:].sum(1)
        mine = mean[:count].where(batch.is_target, mean[:count].detach())[batch.answer]
        each = own_goal(mine, mean[count:], weights.contrast_smoothing)
        contrast = (each * batch.share).sum()
        right = ((mine > mean[count:]).float() * batch.share).sum()
    return Terms(supervised, spread, contrast, right)


class HindsightLosses(OwnLoss):
    """Mixed into a trainer of planned batches: rows as batches, their loss, and its parts."""

    loss_weights: Weights

    def micro_batches(self, rows: list[Row]) -> dict[str, Any]:
        """Return a batch in parts that fit the device, each knowing the whole batch's counts.

        So the parts add up to the loss of the whole batch, however it was cut.
        """
        found: dict[str, Any] = super().micro_batches(rows)  # type: ignore[misc]
        batches = [Batch(*inputs["batch"]) for _, inputs in found["parts"]]
        counts = {
            "tokens": sum(map(target_tokens, batches)),
            "contrasted": sum(map(contrasted_answers, batches)),
            "rows": len(rows),
        }
        for _, inputs in found["parts"]:
            inputs |= counts
        return found

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Return the part's share of the batch's loss, as if it were the whole batch's.

        The trainer weighs a part by its rows, so the share is divided by theirs.
        """
        batch = Batch(*inputs["batch"])
        logits = model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits
        found = terms(logits, batch, self.loss_weights)
        tokens, contrasted = inputs["tokens"], inputs["contrasted"]
        measured = (
            ("supervised", found.supervised, tokens),
            ("entropy", -found.negative_entropy, tokens),
            ("contrast", found.contrast, contrasted),
            ("contrast_accuracy", found.right, contrasted),
        )
        self.seen.append({n: float(value.detach()) / max(count, 1) for n, value, count in measured})
        share: float = len(batch.is_target) / inputs["rows"]
        return found.loss(tokens, contrasted, self.loss_weights) / share

    def shown(self) -> dict[str, float]:
        """Return a step's values by name: sums over its parts, which know the whole's counts."""
        names = self.seen[0]
        return {name: sum(part[name] for part in self.seen) for name in names}
