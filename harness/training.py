"""What the trainers share: the order of the data, micro-batches, checkpoints, curves, NaN stop.

TRL computes the losses. We decide the batches, because a planned order makes a resumed run equal to
an uninterrupted one, and we write the checkpoints, because Hugging Face's are pickles in which a
missing part goes unnoticed.
"""

from __future__ import annotations

import csv
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from harness.adapters import Setup, has_adapter, save_adapter, setup_of, write_setup
from harness.artifacts import Policy
from harness.checkpoints import WholeCheckpoints
from harness.device import training_dtype
from harness.divergence import KL_A_TOKEN, SILENT, WINDOW, Speech, not_finite, surge
from harness.draft import Diverged, Draft
from harness.memory import given_room, rows_at_once
from harness.networks import without_dropout

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import DataLoader

Curve = Sequence[Mapping[str, float]]
Schedule = Literal["cosine", "linear", "constant"]
SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}

FROM_REFERENCE = "nats_a_token_from_reference"  # what a trainer with a reference measures
GROUP = 50  # batches whose rows are sorted by length together


@dataclass(frozen=True)
class Recipe:
    """The optimiser's settings: AdamW, warm-up over a share of the steps, then to zero or level."""

    learning_rate: float
    epochs: int
    batch_size: int
    schedule: Schedule
    warmup: float
    weight_decay: float
    seed: int

    def arguments(self, job: Job) -> dict[str, Any]:
        """Return the keywords that SFTConfig, RewardConfig and DPOConfig have in common."""
        return {
            "output_dir": str(job.out.path / "unused"),  # made by transformers, removed by us
            "learning_rate": self.learning_rate,
            "num_train_epochs": 1,  # the plan holds all epochs
            "per_device_train_batch_size": self.batch_size,
            "lr_scheduler_type": SCHEDULES[self.schedule],
            "warmup_steps": self.warmup if len(job.batches) > 1 else 0,  # one step has no rise
            "weight_decay": self.weight_decay,
            "max_grad_norm": 1.0,
            "seed": self.seed,
            "use_cpu": job.out.device == "cpu",
            "bf16": training_dtype(job.out.device) == "bfloat16",
            "activation_checkpointing": False,
            "logging_steps": 1,
            "logging_nan_inf_filter": False,
            "save_strategy": "no",  # ours, see PlannedTraining.log
            "report_to": "none",
            "disable_tqdm": True,
            "dataloader_pin_memory": job.out.device != "cpu",
            "max_length": None,  # rows that are too long were left out, never cut
        }


@dataclass(frozen=True)
class Job:
    """One training run: its draft, its batches as row numbers, its name.

    `speech` is what the policy is listened to before and after; a reward model says nothing.
    """

    out: Draft
    batches: tuple[tuple[int, ...], ...]
    label: str
    epochs: int = 1
    speech: Speech = SILENT

    @property
    def first_epoch(self) -> tuple[tuple[int, ...], ...]:
        """The batches of the first epoch: every row once."""
        return self.batches[: len(self.batches) // self.epochs]


@dataclass(frozen=True)
class Batch:
    """The rows of a batch as they came, for cutting it anew; opaque to what moves tensors."""

    rows: list[dict[str, Any]]


def planned_batches(
    lengths: Sequence[int], recipe: Recipe, group: int = GROUP
) -> tuple[tuple[int, ...], ...]:
    """Return the batches of all epochs: every row once an epoch, rows of a batch of like length.

    Sizes within an epoch differ by at most one, so no small last batch has an outsized say. The
    order depends on lengths and recipe alone: a resumed run needs no more than its step.
    """
    import numpy as np

    draw = np.random.Generator(np.random.Philox(recipe.seed))
    count = math.ceil(len(lengths) / recipe.batch_size)
    batches: list[tuple[int, ...]] = []
    for _ in range(recipe.epochs):
        parts = np.array_split(draw.permutation(len(lengths)), count)
        epoch: list[tuple[int, ...]] = []
        for first in range(0, count, group):
            near = parts[first : first + group]
            rows = iter(sorted(np.concatenate(near).tolist(), key=lengths.__getitem__))
            epoch += [tuple(islice(rows, len(part))) for part in near]
        batches += [epoch[index] for index in draw.permutation(count)]
    return tuple(batches)


@contextmanager
def tamed_trl() -> Iterator[None]:
    """Have TRL project completion positions alone on a CPU too; silence what it causes, by name.

    TRL leaves prompts and padding out of the projection to the vocabulary only where Triton runs;
    on a CPU they take a fifth of a step's time.
    """
    from trl.trainer import utils

    everywhere = utils._use_triton
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", ".(is_)?gradient_checkpointing(_enable|_disable)?. is deprec", FutureWarning
        )
        utils._use_triton = lambda device: True
        try:
            yield
        finally:
            utils._use_triton = everywhere


class PlannedTraining(WholeCheckpoints):
    """Mixed into a TRL trainer: our batches, micro-batches, checkpoints and stop, TRL's loss.

    The methods are overrides of `transformers.Trainer`; a test for each claim stands in
    tests/test_training.py, since private names of a library may move.
    """

    args: Any
    control: Any
    data_collator: Callable[[list[dict[str, Any]]], dict[str, Any]]
    train_dataset: Any
    current_gradient_accumulation_steps: float
    # What TRL averages into the next row of the curve; transformers' own trainer has none.
    _metrics: Mapping[str, dict[str, list[float]]] = MappingProxyType({"train": {}})

    def __init__(self, *, job: Job, model: Any, **kwargs: Any) -> None:
        from transformers import PrinterCallback

        self.job = job
        with tamed_trl():
            super().__init__(model=without_dropout(model), **kwargs)  # type: ignore[call-arg]
        Path(self.args.output_dir).rmdir()
        self.remove_callback(PrinterCallback)  # type: ignore[attr-defined]
        if self.args.bf16:
            job.out.note(dtype="bfloat16")

    def run(self) -> list[dict[str, float]]:
        """Train from the last verified checkpoint or the beginning; return one row per step.

        Raises Diverged where a weight is not finite in the end, or the policy speaks no more.
        """
        found, speech, seed = self.job.out.resume(), self.job.speech, self.args.seed
        before = speech.heard(self.job.out, self.model, seed)
        with tamed_trl():
            self.train(resume_from_checkpoint=str(found.path) if found else None)  # type: ignore[attr-defined]
        if wrong := not_finite(self.model) or speech.worse(self.job.out, self.model, seed, before):
            self.diverge(wrong, self.state.global_step)
        return [row for row in self.state.log_history if "loss" in row]

    def _send_telemetry(self) -> None:
        """Tell nobody."""

    def floating_point_ops(self, inputs: Any) -> int:
        """Return 0: the ledger counts tokens."""
        return 0

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the planned batches, each as a list of micro-batches that fit the device."""
        from torch.utils.data import DataLoader

        return DataLoader(
            self.train_dataset,
            batch_sampler=[list(batch) for batch in self.job.batches],
            collate_fn=self.micro_batches,
        )

    def micro_batches(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return a batch as micro-batches of nearly equal size, with the rows that each holds."""
        import torch

        size = rows_at_once(self.job.out, "training") or len(rows)
        count = math.ceil(len(rows) / size)
        bounds = [round(i * len(rows) / count) for i in range(count + 1)]
        parts = [rows[a:b] for a, b in pairwise(bounds)]
        collated = [self.data_collator(part) for part in parts]
        if "p1" in rows[0]:
            for part, inputs in zip(parts, collated, strict=True):
                inputs["p1"] = torch.tensor([row["p1"] for row in part])
        return {"parts": list(zip(map(len, parts), collated, strict=True)), "batch": Batch(rows)}

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Add the gradient of the whole batch's loss and return the loss.

        Where memory runs out, once more in smaller parts. Raises Diverged for a loss that is not
        finite.
        """
        import torch

        loss = given_room(
            self.job.out,
            "training",
            max(size for size, _ in inputs["parts"]),
            partial(self.whole_step, model, inputs, num_items_in_batch),
            partial(self.undo_step, model, self.measured()),
        )
        if not torch.isfinite(loss):
            self.diverge(f"loss is {loss.item()}", self.state.global_step + 1)
        return loss

    def whole_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any) -> Tensor:
        """Add the gradient of the whole batch's loss, micro-batch by micro-batch; return the loss.

        A mean over rows weighs each part by its rows; a mean over tokens (SFT) divides every part
        by the token count of the whole batch.
        """
        import torch

        parts = inputs["parts"]
        limit = rows_at_once(self.job.out, "training")
        if limit is not None and max(size for size, _ in parts) > limit:
            parts = self.micro_batches(inputs["batch"].rows)["parts"]
        rows = sum(size for size, _ in parts)
        if "labels" in parts[0][1]:
            num_items_in_batch = sum(part["labels"][:, 1:].ne(-100).sum() for _, part in parts)
        loss = torch.zeros((), device=self.job.out.device)
        for size, part in parts:
            self.current_gradient_accumulation_steps = rows / size
            loss += super().training_step(model, part, num_items_in_batch)  # type: ignore[misc]
        return loss

    def measured(self) -> dict[str, int]:
        """Return how many numbers TRL has of each of its metrics."""
        return {name: len(found) for name, found in self._metrics["train"].items()}

    def undo_step(self, model: Any, measured: Mapping[str, int]) -> None:
        """Take back the gradients and measurements of a step that did not come to its end."""
        model.zero_grad()
        for name, found in self._metrics["train"].items():
            del found[measured.get(name, 0) :]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Keep one row of the curve, show progress, and ask for a checkpoint when one is due."""
        super().log(logs, start_time)  # type: ignore[misc]
        if "loss" not in logs:
            return
        step, steps = self.state.global_step, len(self.job.batches)
        if not math.isfinite(logs["grad_norm"]):
            self.diverge(f"grad_norm is {logs['grad_norm']}", step)
        rows = self.state.log_history
        if (far := rows[-1].get(FROM_REFERENCE, 0.0)) > KL_A_TOKEN:
            self.diverge(f"the policy is {far:.4g} nats a token from its reference", step)
        if wrong := surge(rows[0]["loss"], [row["loss"] for row in rows[-WINDOW:]]):
            self.diverge(wrong, step)
        self.job.out.progress(self.job.label, step, steps)
        self.control.should_save = step < steps and self.job.out.save_is_due()

    def diverge(self, what: str, step: int) -> None:
        """Stop, saying the step and the last finite values; the curve so far stays in the draft."""
        history = [row for row in self.state.log_history if "loss" in row]
        finite = [row for row in history if all(map(math.isfinite, row.values()))]
        write_curve(self.job.out, finite, tuple(finite[-1]) if finite else ("step",))
        last = json.dumps(finite[-1]) if finite else "none"
        raise Diverged(
            f"{what} at step {step} of {len(self.job.batches)}; last finite values: {last}. Lower "
            "learning_rate or look at the data"
        )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.job.out.save(self.state.global_step, self.write_checkpoint)


def write_curve(out: Draft, rows: Curve, columns: Sequence[str], name: str = "curves.csv") -> None:
    """Write a curve: one row per optimiser step, the given columns of it."""
    with (out / name).open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([row[column] for column in columns] for row in rows)


def save_model(out: Draft, model: Any, tokenizer: Any, policy: Policy) -> None:
    """Write weights as safetensors, the tokenizer, and the stop ids of the policy it came from.

    A model with an adapter is kept as the adapter and the name of that policy, its parent. A
    temperature, an n or a goal text chosen for that policy is its own and not inherited.
    """
    from harness.models import quietly

    model.config.use_cache = True  # training switched it off
    if has_adapter(model):
        save_adapter(out, model, policy)
    else:
        quietly(model.save_pretrained, out.path)
    if (setup := setup_of(policy)) != Setup():
        write_setup(out, setup)
    if setup.attention:
        out.note(attention=setup.attention)
    tokenizer.save_pretrained(out.path)
    stops = policy.generation().get("stop_ids", [tokenizer.eos_token_id])
    (out / "generation.json").write_text(json.dumps({"stop_ids": stops}) + "\n")
