"""Process rewards: a model of whether each step of an answer is right, from labels of steps.

A step is read where the answer would end after it, so one model grades steps and whole answers.
`Stepwise(Reward(model))` is the judge, for best-of-n and as the reward of PPO: the worst step's
grade, or the probability that all steps are right. (Lightman et al. 2023, arXiv:2305.20050)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from harness.adapters import prepared
from harness.annotations import Count, NotNegative, ProperShare
from harness.artifacts import Policy, RewardModel, Rows, Samples, write_rows
from harness.calibration import predicted
from harness.draft import Draft
from harness.ensembles import steps_of
from harness.judge import Answer, Judge
from harness.losses import agreement, bradley_terry
from harness.own_losses import OwnLoss, own_trainer
from harness.stage import stage
from harness.stages.reward import (
    format_digest,
    normalisation,
    require_a_scale,
    scores,
    split_by_prompt,
    with_head,
)
from harness.stages.sample import judged
from harness.tokens import encoded, require_rows
from harness.training import (
    Job,
    Recipe,
    Schedule,
    planned_batches,
    save_model,
    write_curve,
)

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Row = dict[str, Any]
COLUMNS = ("step", "loss", "grad_norm", "learning_rate", "accuracy")


class StepLabels(Rows):
    """Answers with a label for each step: the probability in [0, 1] that the step is right."""

    columns: ClassVar[tuple[str, ...]] = ("prompt_id", "messages", "completion", "labels")


@stage(makes=StepLabels)
def label_steps(
    out: Draft, samples: Samples, *, judge: Judge, separator: str = "\n", right_at: float = 0.0
) -> None:
    """Have a judge label each step of each finished answer: right where its grade is `right_at`.

    The judge reads the answer up to the step's end. Each step is a judgement of the budget. Answers
    that did not finish are left out and counted.
    """
    rows = samples.rows()
    whole = [row for row in rows if row["finished"]]
    dropped = {"unfinished": len(rows) - len(whole)}
    require_rows(whole, "answers with steps", dropped)
    parts = [steps_of(Answer.of(row), separator) for row in whole]
    grades = iter(list(judged(out, judge, [step for steps in parts for step in steps])))
    found = [
        {
            **{name: row[name] for name in ("prompt_id", "messages", "completion")},
            "labels": [float(next(grades) >= right_at) for _ in steps],
        }
        for row, steps in zip(whole, parts, strict=True)
    ]
    write_rows(out, found)
    out.add(labels_used=sum(len(row["labels"]) for row in found))
    out.note(answers=len(found), **dropped)


@stage(makes=RewardModel, version=2)
def fit_step_reward(
    out: Draft,
    policy: Policy,
    answers: StepLabels,
    *,
    separator: str = "\n",
    held_out: ProperShare = 0.1,
    learning_rate: NotNegative = 1e-5,
    epochs: Count = 2,
    batch_size: Count = 64,
    max_length: Count = 1024,
    schedule: Schedule = "cosine",
    warmup: ProperShare = 0.03,
    weight_decay: NotNegative = 0.1,
    seed: int,
) -> None:
    """Make the reward model whose s(r) at the end of a step is the probability that it is right.

    It starts from `policy` with a fresh head; the loss is the binary cross-entropy of the labels,
    each step an element of a batch. Scores are not shifted: a product over steps takes s(r) as it
    is. A seeded share of the prompts, `held_out`, is kept for calibration. Steps that end after
    `max_length` tokens are left out. Raises ValueError where an answer has not as many labels as
    steps. Epochs as in Lightman et al. 2023, appendix E; the rest is `fit_reward`'s.
    """
    recipe = Recipe(learning_rate, epochs, batch_size, schedule, warmup, weight_decay, seed)
    tokenizer = policy.tokenizer()
    rows, dropped = encoded_steps(tokenizer, answers, separator, max_length)
    train, test = split_by_prompt(rows, held_out, seed)
    require_rows(train, "labelled steps", dropped)
    job = Job(out, planned_batches([len(r["ids"]) for r in train], recipe), "fit_reward", epochs)
    model = with_head(policy.load(out.device), tokenizer.pad_token_id, seed)
    trainer = trainer_for(prepared(model, policy, seed), tokenizer, train, recipe, job)
    write_curve(out, trainer.run(), COLUMNS)
    save_model(out, trainer.model, tokenizer, policy)
    found = scores(trainer.model.eval(), tokenizer.pad_token_id, [row["ids"] for row in rows])
    require_a_scale(found)
    for name, value in (
        ("norm.json", normalisation(found, False)),
        ("calibration.json", seen_apart(found, rows, test)),
        ("format.json", {"sha256": format_digest(tokenizer), "separator": separator}),
    ):
        (out / name).write_text(json.dumps(value, indent=1) + "\n")
    tokens = sum(len(row["ids"]) for row in train)
    out.note(steps=len(train), held_out=len(test), **dropped)
    out.add(tokens_trained=tokens * epochs, labels_used=len(rows), optimiser_steps=len(job.batches))
    out.add(tokens_forward=sum(len(row["ids"]) for row in rows))


def seen_apart(found: np.ndarray, rows: Sequence[Row], test: Sequence[Row]) -> dict[str, float]:
    """Return how well the scores of all rows, (rows,), predict the labels of those held out."""
    import numpy as np

    held = {row["prompt_id"] for row in test}
    apart = np.array([row["prompt_id"] in held for row in rows])
    labels = np.array([row["right"] for row in rows])
    return predicted(found[apart], labels[apart]) if test else {"n": 0}


def encoded_steps(
    tokenizer: Any, answers: Iterable[Row], separator: str, max_length: int
) -> tuple[list[Row], dict[str, int]]:
    """Return ids up to each step's end, EOS included, with its label; and what was dropped."""
    rows, dropped = [], {"longer_than_max_length": 0}
    for row in answers:
        answer = Answer(row["prompt_id"], row["messages"], row["completion"])
        steps = steps_of(answer, separator)
        if len(steps) != len(row["labels"]):
            raise ValueError(
                f"the answer to {row['prompt_id']} has {len(steps)} steps by the separator "
                f"{separator!r}, and {len(row['labels'])} labels; name the separator of the labels"
            )
        for step, label in zip(steps, row["labels"], strict=True):
            prompt, completion = encoded(tokenizer, row, step.completion)
            if len(prompt) + len(completion) > max_length:
                dropped["longer_than_max_length"] += 1
                continue
            ids = [*prompt, *completion]
            rows.append({"prompt_id": row["prompt_id"], "ids": ids, "right": float(label)})
    return rows, dropped


def collated(rows: Sequence[Row], pad: int) -> dict[str, Tensor]:
    """Return steps as a batch: ids and mask (steps, length), right-padded; right (steps,)."""
    import torch

    from harness.models import right_padded

    ids, mask = right_padded([row["ids"] for row in rows], pad, "cpu")
    right = torch.tensor([row["right"] for row in rows])
    return {"input_ids": ids, "attention_mask": mask, "right": right}


class StepLosses(OwnLoss):
    """Mixed into a trainer of planned batches: binary cross-entropy, and how often it is right."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Return the mean loss of the steps of a part of a batch, ()."""
        right = inputs["right"]
        read = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        raw = model(**read).logits[:, 0].float()
        agrees = agreement(raw.detach() * (2 * right - 1).sign())
        self.seen.append({"rows": len(right), "accuracy": float(agrees)})
        return bradley_terry(raw, right).mean()


def trainer_for(model: Any, tokenizer: Any, rows: list[Row], recipe: Recipe, job: Job) -> Any:
    """Return the trainer of the steps' loss over ready tokens."""
    collate = partial(collated, pad=tokenizer.pad_token_id)
    return own_trainer(StepLosses, model, rows, recipe, job, collate)
