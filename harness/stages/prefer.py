"""Direct preference optimisation: learn from pairs without a reward model or sampling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from harness.adapters import has_adapter, prepared
from harness.annotations import Count, NotNegative, Positive, ProperShare, Smoothing
from harness.artifacts import Policy, Preferences
from harness.divergence import Speech
from harness.draft import Draft
from harness.losses import (
    agreement,
    bradley_terry,
    difference,
    ipo,
    length_margin,
    mean_nll,
    robust_dpo,
    smoothed,
)
from harness.memory import given_room, rows_at_once
from harness.stage import stage
from harness.tokens import encoded_pairs, longer_side, pair_tokens, require_rows
from harness.training import (
    FROM_REFERENCE,
    Job,
    PlannedTraining,
    Recipe,
    Schedule,
    planned_batches,
    save_model,
    write_curve,
)

if TYPE_CHECKING:
    from torch import Tensor

PreferenceLoss = Literal["sigmoid", "hinge", "ipo", "ipo_sum", "robust", "sigmoid_norm", "simpo"]
LOGISTIC = ("sigmoid", "sigmoid_norm", "simpo")  # -log s of something: they take soft labels
HARD_LABELS = ("hinge", "ipo", "ipo_sum")  # losses that take no soft label
PER_TOKEN = ("sigmoid_norm", "simpo", "ipo")  # losses that compare means over tokens
OURS = ("ipo_sum", "simpo")  # losses that TRL's DPOTrainer lacks

COLUMNS = (
    "step",
    "loss",
    "grad_norm",
    "learning_rate",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
    "length_gap",
)


def has_effect(given: Mapping[str, Any]) -> None:
    """Raise ValueError where a setting of `prefer` would not matter under its loss."""
    loss = given["loss"]
    for name in ("margin", "length_penalty", "label_smoothing"):
        takes = (*LOGISTIC, "robust") if name == "label_smoothing" else LOGISTIC
        if given[name] and loss not in takes:
            raise ValueError(
                f"{name} has no effect on loss {loss!r}; set it to 0, or take one of "
                f"{', '.join(takes)}"
            )


@stage(makes=Policy, version=2, check=has_effect)
def prefer(
    out: Draft,
    reference: Policy,
    pairs: Preferences,
    *,
    beta: Positive = 0.1,
    loss: PreferenceLoss = "sigmoid",
    label_smoothing: Smoothing = 0.0,
    margin: NotNegative = 0.0,
    length_penalty: NotNegative = 0.0,
    nll: NotNegative = 0.0,
    learning_rate: NotNegative = 1e-6,
    epochs: Count = 1,
    batch_size: Count = 64,
    max_length: Count = 1024,
    schedule: Schedule = "linear",
    warmup: ProperShare = 0.1,
    weight_decay: NotNegative = 0.0,
    seed: int,
) -> None:
    """Make the policy that prefers the better answers, starting from `reference`, by TRL.

    `reference` is also the frozen policy that the log-ratios are taken against; "simpo" alone has
    none. "sigmoid_norm" and "ipo" compare means over tokens, "ipo_sum" sums. Three settings add to
    a loss: `margin`, by which the better answer should lead (SimPO's gamma); `length_penalty`, a
    margin for every token that it is longer (R-DPO's alpha); `nll`, the weight of its loss a token.
    Hard labels take TRL's loss; soft ones (0 < p1 < 1), label smoothing of a logistic loss (cDPO)
    and what else TRL lacks take ours on the same log-probabilities. Pairs of equal answers are left
    out, as are rows longer than `max_length`. Raises ValueError where a setting would not matter.
    Defaults: Rafailov et al. 2023, appendix B, but AdamW for RMSprop.
    """
    variant = Variant(loss, margin, length_penalty, nll, label_smoothing)
    recipe = Recipe(learning_rate, epochs, batch_size, schedule, warmup, weight_decay, seed)
    tokenizer = reference.tokenizer()
    rows, dropped = encoded_pairs(tokenizer, pairs, max_length)
    require_rows(rows, "pairs", dropped)
    config = {"beta": beta, **loss_config(rows, loss, label_smoothing)}
    batches = planned_batches([longer_side(row) for row in rows], recipe)
    said = Speech.of([(r["prompt_ids"], r["chosen_ids"]) for r in rows], reference, tokenizer)
    job = Job(out, batches, "prefer", epochs, said)
    trainer = trainer_for(reference, tokenizer, rows, recipe, job, config, variant)
    write_curve(out, trainer.run(), COLUMNS)
    save_model(out, trainer.model, tokenizer, reference)
    out.note(pairs=len(rows), **dropped)
    out.add(
        tokens_trained=pair_tokens(rows) * epochs,
        tokens_forward=pair_tokens(rows),
        labels_used=len(rows),
        optimiser_steps=len(batches),
    )


@dataclass(frozen=True)
class Variant:
    """A member of the DPO family: its loss, and what is added to it; `flips` is robust DPO's e."""

    loss: PreferenceLoss = "sigmoid"
    margin: float = 0.0
    length_penalty: float = 0.0
    nll: float = 0.0
    flips: float = 0.0

    @property
    def is_trls(self) -> bool:
        """Whether TRL computes the loss of hard labels, before `nll`."""
        return self.loss not in OURS and not self.margin and not self.length_penalty

    def of(self, beta: float, answers: Answers, p1: Tensor) -> Tensor:
        """Return the mean loss of the pairs, (), without `nll`; p1: (pairs,)."""
        lead = self.lead(answers)
        if self.loss == "ipo_sum":
            return ipo(lead, beta).mean()
        if self.loss == "robust":
            first, second = (robust_dpo(sign * beta * lead, self.flips) for sign in (1, -1))
            return (p1 * first + (1 - p1) * second).mean()
        longer = length_margin(answers.tokens, self.length_penalty)
        return bradley_terry(beta * lead, p1, self.margin + longer).mean()

    def lead(self, answers: Answers) -> Tensor:
        """Return by how much the loss sees the better answer ahead, (pairs,), before beta.

        A difference of log-ratios, or of log-probabilities without a reference; of their sums over
        tokens, or of their means.
        """
        chosen, rejected = answers.chosen, answers.rejected
        if self.loss != "simpo":
            chosen, rejected = chosen - answers.ref_chosen, rejected - answers.ref_rejected
        return difference(chosen, rejected, answers.tokens if self.loss in PER_TOKEN else None)


PLAIN = Variant()


class Answers(NamedTuple):
    """Summed log-probabilities of each pair's answers, (pairs,) each, and their tokens."""

    chosen: Tensor
    rejected: Tensor
    ref_chosen: Tensor
    ref_rejected: Tensor
    tokens: tuple[Tensor, Tensor]


def loss_config(
    rows: list[dict[str, Any]], loss: PreferenceLoss, label_smoothing: float
) -> dict[str, Any]:
    """Return TRL's words for the loss, after smoothing the rows' labels where TRL would not.

    TRL ignores label smoothing under "sigmoid" without a word, and knows no soft labels.
    """
    if loss in LOGISTIC:
        for row in rows:
            row["p1"] = smoothed(row["p1"], label_smoothing)
        return {"loss_type": ["sigmoid" if loss in OURS else loss]}
    if loss in HARD_LABELS and any(row["p1"] != 1 for row in rows):
        raise ValueError(f'loss {loss!r} takes hard labels only; use loss="sigmoid" for soft p1')
    if loss in OURS:
        return {"loss_type": ["sigmoid"]}
    return {"loss_type": [loss], "label_smoothing": label_smoothing}


class PreferenceLosses:
    """Mixed into TRL's DPOTrainer: ready tokens, one reference pass, soft labels, ties one half."""

    job: Job
    variant: Variant
    beta: float
    model: Any
    ref_model: Any
    micro_batches: Callable[[list[dict[str, Any]]], dict[str, Any]]
    compute_ref_log_probs: Callable[[Any, dict[str, Any]], tuple[Tensor, Tensor]]
    _prepare_inputs: Callable[[dict[str, Any]], dict[str, Any]]
    _metrics: dict[str, dict[str, list[float]]]

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        """Return the dataset as it is: tokens come from `harness.models.encode`."""
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *_: Any) -> Any:
        """Add the reference's log-probabilities, over the first epoch's own batches.

        The same padding as in training makes the policy equal its reference to the bit at step 0.
        The reference is let go afterwards. A fresh adapter says nothing yet: what it is trained on
        is its own reference.
        """
        reference = self.ref_model or self.model
        known = {f"ref_{side}_logps": [0.0] * len(dataset) for side in ("chosen", "rejected")}
        for batch in self.job.first_epoch:
            rows = [dataset[index] for index in batch]
            at_once = rows_at_once(self.job.out, "training") or len(rows)
            work = partial(self.reference_logps, reference, rows)
            found = given_room(self.job.out, "training", at_once, work)
            for name, values in zip(known, found, strict=True):
                for index, value in zip(batch, values, strict=True):
                    known[name][index] = value
        self.ref_model = None
        for name, column in known.items():
            dataset = dataset.add_column(name, column)
        return dataset

    def reference_logps(
        self, reference: Any, rows: list[dict[str, Any]]
    ) -> tuple[list[float], list[float]]:
        """Return the log-probabilities that a reference gives the answers of each row."""
        found: tuple[list[float], list[float]] = ([], [])
        for _, part in self.micro_batches(rows)["parts"]:
            del part["p1"]
            sides = self.compute_ref_log_probs(reference, self._prepare_inputs(part))
            for values, side in zip(found, sides, strict=True):
                values += side.tolist()
        return found

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        p1 = inputs.pop("p1")
        seen = []

        def recording(**kwargs: Any) -> Any:
            outputs = model(**kwargs)
            seen.append(outputs.log_probs)
            return outputs

        loss = super()._compute_loss(recording, inputs, return_outputs)  # type: ignore[misc]
        chosen, rejected = seen[0].sum(dim=1).chunk(2)
        tokens = inputs["completion_mask"].sum(dim=1).float().chunk(2)
        references = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        answers = Answers(chosen, rejected, *references, tokens)
        metrics = self._metrics["train"]
        # TRL's are of sums over a reference whatever the loss compares.
        lead = self.variant.lead(answers).detach()
        metrics["rewards/accuracies"][-1] = agreement(lead).item()
        metrics["rewards/margins"][-1] = self.beta * lead.mean().item()
        metrics["length_gap"].append((tokens[0] - tokens[1]).mean().item())
        moved = (chosen.detach() - references[0]).abs() / tokens[0]
        metrics[FROM_REFERENCE].append(moved.mean().item())
        if not (self.variant.is_trls and (p1 == 1).all()):
            loss = self.variant.of(self.beta, answers, p1)
        if self.variant.nll:
            loss = loss + self.variant.nll * mean_nll(chosen, tokens[0]).mean()
        return loss


def trainer_for(
    reference: Policy,
    tokenizer: Any,
    rows: list[dict[str, Any]],
    recipe: Recipe,
    job: Job,
    config: dict[str, Any],
    kind: Variant = PLAIN,
) -> Any:
    """Return TRL's DPOTrainer on a fresh copy of `reference`, with its reference given explicitly.

    Left to itself TRL would load the reference from the path that the model's config remembers.
    """
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class Trainer(PreferenceLosses, PlannedTraining, DPOTrainer):  # type: ignore[misc]
        variant = kind

    columns = ("prompt_ids", "chosen_ids", "rejected_ids", "p1")
    model = prepared(reference.load(job.out.device), reference, recipe.seed)
    return Trainer(
        job=job,
        model=model,
        ref_model=None if has_adapter(model) else reference.load(job.out.device),
        args=DPOConfig(
            **recipe.arguments(job),
            **config,
            precompute_ref_log_probs=True,
            disable_dropout=False,  # `without_dropout` does, and leaves an adapter its own
        ),
        train_dataset=Dataset.from_list([{name: row[name] for name in columns} for row in rows]),
        processing_class=tokenizer,
    )
