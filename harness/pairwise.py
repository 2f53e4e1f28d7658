"""Reward models from pairs: TRL's loss, with margins, soft labels and flags of safety."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from harness.artifacts import FLAGS
from harness.losses import agreement, bradley_terry, safe_or_not
from harness.training import Job, PlannedTraining, Recipe

Margin = Literal["none", "small", "large"]
# By strength, 1 for negligibly to 4 for significantly better: Touvron et al. 2023, table 27.
MARGINS = {
    "small": {1: 0.0, 2: 1 / 3, 3: 2 / 3, 4: 1.0},
    "large": {1: 0.0, 2: 1.0, 3: 2.0, 4: 3.0},
}


def with_margins(rows: list[dict[str, Any]], margin: Margin) -> list[dict[str, Any]]:
    """Return rows with TRL's columns; a margin needs strengths, and none at all is an error."""
    columns = []
    for row in rows:
        prompt = row["prompt_ids"]
        sides = {f"{side}_ids": prompt + row[f"{side}_ids"] for side in ("chosen", "rejected")}
        wide = {} if margin == "none" else {"margin": margin_of(row["strength"], margin)}
        columns.append({**sides, **wide, "p1": row["p1"]})
    if margin != "none" and all(row["strength"] is None for row in rows):
        raise ValueError(f'margin={margin!r} needs pairs with a strength; set margin="none"')
    return columns


def margin_of(strength: int | None, margin: Literal["small", "large"]) -> float:
    """Return how far apart a pair of a strength should be; 0 where no strength was bought."""
    if strength is None:
        return 0.0
    if strength not in MARGINS[margin]:
        raise ValueError(f"strength is {strength!r}: 1 (negligibly better) to 4 (significantly)")
    return MARGINS[margin][strength]


def with_flags(
    ready: list[dict[str, Any]], rows: list[dict[str, Any]], safety: float
) -> list[dict[str, Any]]:
    """Return ready rows with flags as 1, 0 or NaN for none; no flags at all is an error."""
    if not safety:
        return ready
    if not any(is_flagged(row) for row in rows):
        raise ValueError(
            "no pair has the flags chosen_safe and rejected_safe that a safety loss needs; buy "
            "them in the dataset's table (flags = true, or the columns that hold them), or fit "
            "without that loss"
        )
    return [
        {**row, **{f: float(known[f]) if is_flagged(known) else math.nan for f in FLAGS}}
        for row, known in zip(ready, rows, strict=True)
    ]


def is_flagged(row: Mapping[str, Any]) -> bool:
    """Say whether an annotator said of both answers of a pair whether they are safe."""
    return all(row.get(flag) is not None for flag in FLAGS)


def without_unsafe_preferred(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Return rows without those whose unsafe answer was preferred to a safe one, and their count.

    Touvron et al. 2023, section 3.2.1.
    """
    kept = [row for row in rows if [row.get(flag) for flag in FLAGS] != [False, True]]
    return kept, len(rows) - len(kept)


class RewardLosses:
    """Mixed into TRL's RewardTrainer: soft labels, a safety loss, and ties count one half."""

    args: Any
    safety: float
    _metrics: dict[str, dict[str, list[float]]]

    def micro_batches(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return a batch in parts that fit the device, each with the flags of its answers."""
        import torch

        found: dict[str, Any] = super().micro_batches(rows)  # type: ignore[misc]
        flags = [[row[flag] for flag in FLAGS] for row in rows] if self.safety else []
        start = 0
        for size, inputs in found["parts"] if flags else ():
            inputs["flags"] = torch.tensor(flags[start : start + size])
            start += size
        return found

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return TRL's loss for hard labels, ours on the same scores where a label is soft."""
        p1, flags = inputs.pop("p1"), inputs.pop("flags", None)
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True)  # type: ignore[misc]
        chosen, rejected = outputs.logits.squeeze(-1).chunk(2)
        self._metrics["train"]["accuracy"][-1] = agreement((chosen - rejected).detach()).item()
        if flags is not None:
            safe = safe_or_not(chosen, rejected, flags[:, 0], flags[:, 1])
            safe = self.safety * safe.where(~flags.isnan().any(1), 0.0).mean()
            return bradley_terry(chosen - rejected, p1, inputs.get("margin", 0.0)).mean() + safe
        if (p1 == 1).all():
            return loss
        soft = bradley_terry(chosen - rejected, p1, inputs.get("margin", 0.0)).mean()
        centre = self.args.center_rewards_coefficient
        return soft if centre is None else soft + centre * ((chosen + rejected) ** 2).mean()


def trainer_for(
    model: Any,
    tokenizer: Any,
    rows: list[dict[str, Any]],
    recipe: Recipe,
    job: Job,
    centre: float,
    weight: float = 0.0,
) -> Any:
    """Return TRL's RewardTrainer over ready tokens; `weight` is of the safety loss."""
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    class Trainer(RewardLosses, PlannedTraining, RewardTrainer):  # type: ignore[misc]
        safety = weight

    return Trainer(
        job=job,
        model=model,
        args=RewardConfig(
            **recipe.arguments(job),
            center_rewards_coefficient=centre or None,
            disable_dropout=False,  # `without_dropout` does, and leaves an adapter its own
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
