"""Supervised fine-tuning: imitate answers, with loss on the answer and its end alone."""

from __future__ import annotations

from typing import Any

from harness.adapters import prepared
from harness.annotations import Count, NotNegative, ProperShare
from harness.artifacts import Demonstrations, Policy, Samples
from harness.divergence import Speech
from harness.draft import Draft
from harness.stage import stage
from harness.tokens import encoded, require_rows
from harness.training import (
    Job,
    PlannedTraining,
    Recipe,
    Schedule,
    planned_batches,
    save_model,
    write_curve,
)

COLUMNS = ("step", "loss", "grad_norm", "learning_rate", "mean_token_accuracy", "entropy")


@stage(makes=Policy, version=2)
def finetune(
    out: Draft,
    policy: Policy,
    data: Demonstrations | Samples,
    *,
    learning_rate: NotNegative = 2e-5,
    epochs: Count = 2,
    batch_size: Count = 64,
    max_length: Count = 1024,
    schedule: Schedule = "cosine",
    warmup: ProperShare = 0.03,
    weight_decay: NotNegative = 0.1,
    seed: int,
) -> None:
    """Make the policy that imitates the answers in `data`, by TRL's SFTTrainer.

    The loss is the mean over the answer tokens, EOS included, of the whole optimiser batch; prompts
    carry none. Rows longer than `max_length` tokens are left out, never cut, since a cut answer has
    no end; so are samples that did not finish. Defaults: Touvron et al. 2023, section 3.1, with a
    warm-up as in Dubois et al. 2023.
    """
    recipe = Recipe(learning_rate, epochs, batch_size, schedule, warmup, weight_decay, seed)
    tokenizer = policy.tokenizer()
    rows, dropped = sequences(tokenizer, data, max_length)
    require_rows(rows, "answers", dropped)
    lengths = [len(row["input_ids"]) for row in rows]
    batches = planned_batches(lengths, recipe)
    job = Job(out, batches, "finetune", speech=speech_of(rows, tokenizer, policy))
    model = prepared(policy.load(out.device), policy, seed)
    trainer = trainer_for(model, tokenizer, rows, recipe, job)
    history = trainer.run()
    write_curve(out, history, COLUMNS)
    save_model(out, trainer.model, tokenizer, policy)
    out.note(rows=len(rows), **dropped)
    out.add(tokens_trained=sum(lengths) * epochs, optimiser_steps=len(job.batches))


def sequences(
    tokenizer: Any, data: Demonstrations | Samples, max_length: int
) -> tuple[list[dict[str, list[int]]], dict[str, int]]:
    """Return input ids with labels (-100 on the prompt), and how many rows were dropped and why."""
    rows = []
    dropped = {"longer_than_max_length": 0, "unfinished": 0}
    for row in data:
        if not row.get("finished", True):
            dropped["unfinished"] += 1
            continue
        prompt, completion = encoded(tokenizer, row, row["completion"])
        if len(prompt) + len(completion) > max_length:
            dropped["longer_than_max_length"] += 1
            continue
        labels = [-100] * len(prompt) + completion
        rows.append({"input_ids": prompt + completion, "labels": labels})
    return rows, dropped


def speech_of(rows: list[dict[str, list[int]]], tokenizer: Any, policy: Policy) -> Speech:
    """Return some of the prompts of tokenised rows, with the answers that are to be imitated."""
    starts = [row["labels"].count(-100) for row in rows]
    ids = [row["input_ids"] for row in rows]
    pairs = [(each[:start], each[start:]) for each, start in zip(ids, starts, strict=True)]
    return Speech.of(pairs, policy, tokenizer)


def trainer_for(
    model: Any, tokenizer: Any, rows: list[dict[str, list[int]]], recipe: Recipe, job: Job
) -> Any:
    """Return TRL's SFTTrainer over ready labels, so that its template handling cannot differ."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    class Trainer(PlannedTraining, SFTTrainer):  # type: ignore[misc]
        loss_is_scaled_for_ga = True  # TRL divides by the token count that we give it

    ready = {"skip_prepare_dataset": True}
    return Trainer(
        job=job,
        model=model,
        args=SFTConfig(**recipe.arguments(job), dataset_kwargs=ready),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
