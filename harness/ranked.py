"""Reward models from rankings: all pairs of a prompt's answers are one element of a batch.

Ouyang et al. 2022 (arXiv:2203.02155), section 3.5: K answers are read once for K (K - 1) / 2 pairs,
and one pass over the data does not see an answer many times, which overfitted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

from harness.losses import agreement, k_wise
from harness.own_losses import OwnLoss, own_trainer
from harness.tokens import encoded
from harness.training import Job, Recipe

if TYPE_CHECKING:
    from torch import Tensor

Row = dict[str, Any]


def encoded_rankings(
    tokenizer: Any, rankings: Iterable[Mapping[str, Any]], max_length: int
) -> tuple[list[Row], dict[str, int]]:
    """Return token ids of each prompt's ranked answers, and what was dropped by reason.

    A row has prompt_ids, answers (ids of K), ranks (K, smaller is better) and prompt_id. An answer
    that is too long leaves its ranking; one of fewer than two answers, or of ties alone, is none.
    """
    rows, dropped = [], {"answers_longer_than_max_length": 0, "nothing_ranked": 0}
    for one in rankings:
        prompt, _ = encoded(tokenizer, one, "")
        found = [encoded(tokenizer, one, answer)[1] for answer in one["responses"]]
        short = [n for n, ids in enumerate(found) if len(prompt) + len(ids) <= max_length]
        dropped["answers_longer_than_max_length"] += len(found) - len(short)
        ranks = [float(one["ranks"][n]) for n in short]
        if len(set(ranks)) < 2:
            dropped["nothing_ranked"] += 1
            continue
        answers = [found[n] for n in short]
        known = {"prompt_id": one["prompt_id"], "prompt_ids": prompt}
        rows.append({**known, "answers": answers, "ranks": ranks})
    return rows, dropped


def implied_pairs(rows: Iterable[Row]) -> list[Row]:
    """Return every pair of answers of which one is ranked before the other, the better one first.

    As rows of `encoded_pairs`, which a calibration reads.
    """
    found = []
    for row in rows:
        for one, other in combinations(range(len(row["ranks"])), 2):
            if row["ranks"][one] == row["ranks"][other]:
                continue
            best, worst = sorted((one, other), key=row["ranks"].__getitem__)
            sides = {"chosen_ids": row["answers"][best], "rejected_ids": row["answers"][worst]}
            known = {name: row[name] for name in ("prompt_id", "prompt_ids")}
            found.append({**known, **sides, "p1": 1.0, "strength": None})
    return found


def longest(row: Row) -> int:
    """Return the tokens of a ranking's longest sequence."""
    return len(row["prompt_ids"]) + max(map(len, row["answers"]))


def ranking_tokens(rows: Iterable[Row]) -> int:
    """Return how many tokens the sequences of all rankings have together."""
    return sum(len(row["prompt_ids"]) + len(ids) for row in rows for ids in row["answers"])


def collated(rows: Sequence[Row], pad: int) -> dict[str, Tensor]:
    """Return rankings as one batch, padded on the right.

    input_ids, attention_mask: (all answers, length), prompt after prompt. ranks: (all answers,).
    prompt: (all answers,), the number of each answer's prompt in the batch.
    """
    import torch

    from harness.models import right_padded

    whole = [[*row["prompt_ids"], *ids] for row in rows for ids in row["answers"]]
    ids, mask = right_padded(whole, pad, "cpu")
    counts = torch.tensor([len(row["answers"]) for row in rows])
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "ranks": torch.tensor([rank for row in rows for rank in row["ranks"]]),
        "prompt": torch.repeat_interleave(torch.arange(len(rows)), counts),
    }


class RankedLosses(OwnLoss):
    """Mixed into a trainer of planned batches: the K-wise loss, and what TRL measures of pairs."""

    centre: float

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Return the mean over prompts of the mean loss over each prompt's pairs, ()."""
        import torch

        read = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        scores = model(**read).logits[:, 0].float()
        prompts = int(inputs["prompt"].max()) + 1
        places = [inputs["prompt"] == number for number in range(prompts)]
        each = [(scores[here], inputs["ranks"][here]) for here in places]
        loss = torch.stack([k_wise(*one) for one in each]).mean()
        if self.centre:
            sums = [(untied(*one).sum(1) ** 2).mean() for one in each]
            loss = loss + self.centre * torch.stack(sums).mean()
        gaps = torch.cat([untied(*one) for one in each]).detach() @ scores.new_tensor([1.0, -1.0])
        mean = scores.detach().mean()
        shown = {"accuracy": agreement(gaps), "margin": gaps.mean(), "mean_reward": mean}
        known = {name: float(value) for name, value in shown.items()}
        self.seen.append({"rows": float(prompts), **known})
        return loss


def untied(scores: Tensor, ranks: Tensor) -> Tensor:
    """Return the scores of the better and the worse answer of each untied pair, (pairs, 2)."""
    import torch

    better, worse = (ranks[:, None] < ranks[None, :]).nonzero(as_tuple=True)
    return torch.stack([scores[better], scores[worse]], dim=1)


def trainer_for(
    model: Any, tokenizer: Any, rows: list[Row], recipe: Recipe, job: Job, weight: float
) -> Any:
    """Return the trainer of the K-wise loss over ready tokens; `weight` is of squared sums."""

    class Ranked(RankedLosses):
        centre = weight

    collate = partial(collated, pad=tokenizer.pad_token_id)
    return own_trainer(Ranked, model, rows, recipe, job, collate)
