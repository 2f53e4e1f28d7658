"""A trainer of a loss that TRL lacks: transformers' Trainer over planned batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.training import Job, PlannedTraining, Recipe

OF_TRL = ("max_length", "activation_checkpointing")  # arguments that transformers does not know


class OwnLoss:
    """Mixed into a trainer of planned batches: what a loss measured joins its step's curve row.

    A loss appends what it measured of each part of a batch to `seen`: its rows, and values by name.
    """

    seen: list[dict[str, float]]

    def shown(self) -> dict[str, float]:
        """Return a step's values by name: means over the rows of its parts."""
        rows = sum(part["rows"] for part in self.seen)
        names = [name for name in self.seen[0] if name != "rows"]
        return {name: sum(p["rows"] * p[name] for p in self.seen) / rows for name in names}

    def undo_step(self, model: Any, measured: Mapping[str, int]) -> None:
        """Take back what a step that did not come to its end measured, too."""
        super().undo_step(model, measured)  # type: ignore[misc]
        self.seen = []

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what was measured to a step's row of the curve."""
        if "loss" in logs:
            logs |= self.shown()
            self.seen = []
        super().log(logs, start_time)  # type: ignore[misc]


def own_trainer(
    loss: type[OwnLoss],
    model: Any,
    rows: list[dict[str, Any]],
    recipe: Recipe,
    job: Job,
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
) -> Any:
    """Return the trainer of a loss over ready tokens; `collate` makes rows a batch."""
    from transformers import Trainer, TrainingArguments

    class OwnTrainer(loss, PlannedTraining, Trainer):  # type: ignore[misc, valid-type]
        pass

    known = {k: v for k, v in recipe.arguments(job).items() if k not in OF_TRL}
    made = OwnTrainer(
        job=job,
        model=model,
        args=TrainingArguments(**known),
        train_dataset=rows,
        data_collator=collate,
    )
    made.seen = []
    return made
