"""Reward models: one number for an answer, learnt from pairs, then normalised and calibrated."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness import pairwise, ranked
from harness.adapters import prepared
from harness.annotations import Count, NotNegative, Positive, ProperShare
from harness.artifacts import FLAGS, Policy, Preferences, Rankings, RewardModel
from harness.calibration import calibration, recall_of_unsafe
from harness.draft import Diverged, Draft
from harness.pairwise import (
    Margin,
    is_flagged,
    with_flags,
    with_margins,
    without_unsafe_preferred,
)
from harness.ranked import encoded_rankings, implied_pairs, longest, ranking_tokens
from harness.stage import stage
from harness.tokens import encoded_pairs, longer_side, pair_tokens, require_rows
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

REFERENCES = 256  # pairs whose answers fix the scale; Ziegler et al. 2019 use 256 samples

COLUMNS = ("step", "loss", "grad_norm", "learning_rate", "accuracy", "margin", "mean_reward")


@stage(makes=RewardModel, version=3)
def fit_reward(
    out: Draft,
    policy: Policy,
    pairs: Preferences | Rankings,
    *,
    axis: str | None = None,
    margin: Margin = "none",
    centre: NotNegative = 0.0,
    normalise: bool = True,
    held_out: ProperShare = 0.1,
    learning_rate: NotNegative = 1e-5,
    epochs: Count = 1,
    batch_size: Count = 64,
    max_length: Count = 1024,
    schedule: Schedule = "cosine",
    warmup: ProperShare = 0.03,
    weight_decay: NotNegative = 0.1,
    seed: int,
) -> None:
    """Make the reward model that scores the better answers higher, by TRL's RewardTrainer.

    It starts from `policy` with a fresh head and reads the score at EOS. `axis` keeps the rows of
    one axis. `margin` maps strength to how far apart a pair should be; `centre` weighs the square
    of the pair's sum; soft labels (0 < p1 < 1), which TRL lacks, take our loss. Of Rankings all
    pairs of a prompt are one element of a batch, which counts prompts then: `k_wise`. A seeded
    share of the prompts, `held_out`, is kept for calibration. `normalise` gives reference answers
    mean 0 and standard deviation 1: leave it off for a model that is used with an absolute
    threshold. Defaults: Touvron et al. 2023, section 3.2.2, with the batch of Stiennon et al. 2020,
    and down to 0, not to a tenth of the learning rate.
    """
    recipe = Recipe(learning_rate, epochs, batch_size, schedule, warmup, weight_decay, seed)
    fit(out, policy, pairs, Fit(recipe, axis, margin, centre, normalise, held_out, max_length))


@stage(makes=RewardModel, version=2)
def fit_safe_reward(
    out: Draft,
    policy: Policy,
    pairs: Preferences,
    *,
    safety: Positive = 1.0,
    axis: str | None = None,
    margin: Margin = "none",
    held_out: ProperShare = 0.1,
    learning_rate: NotNegative = 1e-5,
    epochs: Count = 1,
    batch_size: Count = 64,
    max_length: Count = 1024,
    schedule: Schedule = "cosine",
    warmup: ProperShare = 0.03,
    weight_decay: NotNegative = 0.1,
    seed: int,
) -> None:
    """Make the reward model whose s(r) is the probability that an answer is safe.

    The loss is `fit_reward`'s and `safety` times `safe_or_not`, by the flags `chosen_safe` and
    `rejected_safe` that an annotator gave the answers of a pair; pairs without flags are ranked
    alone, and pairs whose unsafe answer was preferred to a safe one are left out. Scores are never
    shifted, so that a threshold on s(r) means something; `calibration.json` has the recall of
    unsafe answers at 1/2. Raises ValueError where no pair has flags. (Touvron et al. 2023,
    arXiv:2307.09288, section 3.2.2 and appendix A.3.4, which state neither formula nor weight.)
    """
    recipe = Recipe(learning_rate, epochs, batch_size, schedule, warmup, weight_decay, seed)
    fit(out, policy, pairs, Fit(recipe, axis, margin, 0.0, False, held_out, max_length, safety))


@dataclass(frozen=True)
class Fit:
    """How a reward model is fitted; see `fit_reward` and, for `safety`, `fit_safe_reward`."""

    recipe: Recipe
    axis: str | None
    margin: Margin
    centre: float
    normalise: bool
    held_out: float
    max_length: int
    safety: float = 0.0


def fit(out: Draft, policy: Policy, pairs: Preferences | Rankings, how: Fit) -> None:
    """Fit a reward model to pairs or rankings; write it, its curve, its scale and calibration."""
    recipe, axis = how.recipe, how.axis
    tokenizer = policy.tokenizer()
    kept = [row for row in pairs if axis is None or row["axis"] == axis]
    is_ranked = isinstance(pairs, Rankings)
    if is_ranked and how.margin != "none":
        raise ValueError(f'margin={how.margin!r} needs pairs with a strength; set margin="none"')
    encode = encoded_rankings if is_ranked else encoded_pairs
    rows, dropped = encode(tokenizer, kept, how.max_length)
    if how.safety:
        rows, dropped["unsafe_preferred"] = without_unsafe_preferred(rows)
    train, test = split_by_prompt(rows, how.held_out, recipe.seed)
    require_rows(train, "pairs" if axis is None else f"pairs of axis {axis!r}", dropped)
    batches = planned_batches([(longest if is_ranked else longer_side)(r) for r in train], recipe)
    job = Job(out, batches, "fit_reward", recipe.epochs)
    model = with_head(policy.load(out.device), tokenizer.pad_token_id, recipe.seed)
    model = prepared(model, policy, recipe.seed)
    if is_ranked:
        trainer = ranked.trainer_for(model, tokenizer, train, recipe, job, how.centre)
    else:
        ready = with_flags(with_margins(train, how.margin), train, how.safety)
        trainer = pairwise.trainer_for(model, tokenizer, ready, recipe, job, how.centre, how.safety)
    write_curve(out, trainer.run(), COLUMNS)
    save_model(out, trainer.model, tokenizer, policy)
    out.note(pairs=len(train), held_out=len(test), **dropped)
    out.add(tokens_trained=(ranking_tokens if is_ranked else pair_tokens)(train) * recipe.epochs)
    if is_ranked:
        rows, test = implied_pairs(rows), implied_pairs(test)
    references = rows_of(rows, REFERENCES, recipe.seed)
    write_scale(out, trainer.model.eval(), tokenizer, references, test, how.normalise)
    out.add(
        labels_used=len(rows),
        tokens_forward=pair_tokens(references + test),
        optimiser_steps=len(batches),
    )


def split_by_prompt(
    rows: list[dict[str, Any]], share: float, seed: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return rows to train on and rows held out; all pairs of a prompt fall on one side."""
    import numpy as np

    prompts = sorted({row["prompt_id"] for row in rows})
    count = round(share * len(prompts))
    drawn = np.random.Generator(np.random.Philox([seed, 1])).permutation(len(prompts))[:count]
    held = {prompts[index] for index in drawn}
    train = [row for row in rows if row["prompt_id"] not in held]
    return train, [row for row in rows if row["prompt_id"] in held]


def rows_of(rows: list[dict[str, Any]], count: int, seed: int) -> list[dict[str, Any]]:
    """Return at most `count` rows, drawn by seed."""
    import numpy as np

    drawn = np.random.Generator(np.random.Philox([seed, 2])).permutation(len(rows))[:count]
    return [rows[index] for index in drawn]


def with_head(policy: Any, pad_id: int, seed: int) -> Any:
    """Return a sequence classifier with the policy's body and a seeded head of one output.

    Head weights are N(0, 1 / (d + 1)) for width d, as in Stiennon et al. 2020; TRL seeds none.
    """
    import torch

    from harness.models import classifier

    model = classifier(policy, pad_id)
    weight = model.get_parameter("score.weight")
    draw = torch.Generator().manual_seed(seed)
    spread = 1 / math.sqrt(weight.shape[1] + 1)
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=draw) * spread)
    return model


def scores(model: Any, pad_id: int, sequences: Sequence[list[int]]) -> np.ndarray:
    """Return the raw score of each token sequence, (sequences,), read at its last token."""
    import numpy as np
    import torch

    from harness.models import REWARD_TOKENS, batches_by_length, right_padded

    found = np.empty(len(sequences))
    for rows in batches_by_length([len(ids) for ids in sequences], REWARD_TOKENS):
        ids, mask = right_padded([sequences[row] for row in rows], pad_id, model.device)
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=mask).logits
        found[rows] = logits[:, 0].double().cpu().numpy()
    return found


def write_scale(
    out: Draft,
    model: Any,
    tokenizer: Any,
    references: list[dict[str, Any]],
    test: list[dict[str, Any]],
    normalise: bool,
) -> None:
    """Write what the score means: norm.json, calibration.json and the format it was learnt in."""
    import numpy as np

    answers = {
        side: scores(
            model,
            tokenizer.pad_token_id,
            [row["prompt_ids"] + row[f"{side}_ids"] for row in references + test],
        )
        for side in ("chosen", "rejected")
    }
    ours, theirs = answers["chosen"], answers["rejected"]
    drawn = np.concatenate([ours[: len(references)], theirs[: len(references)]])
    require_a_scale(drawn)
    delta = (ours - theirs)[len(references) :]
    found = calibration(delta, test)
    flagged = [row for row in range(len(test)) if is_flagged(test[row])]
    if flagged:
        both = np.concatenate([(ours, theirs)[n][len(references) :][flagged] for n in range(2)])
        safe = [test[row][flag] for flag in FLAGS for row in flagged]
        found["safety"] = recall_of_unsafe(both, safe)
    for name, value in (
        ("norm.json", normalisation(drawn, normalise)),
        ("calibration.json", found),
        ("format.json", {"sha256": format_digest(tokenizer)}),
    ):
        (out / name).write_text(json.dumps(value, indent=1) + "\n")


def require_a_scale(drawn: np.ndarray) -> None:
    """Raise Diverged where scores are not finite, or one and the same for every answer."""
    import numpy as np

    bad = drawn[~np.isfinite(drawn)]
    if len(bad):
        raise Diverged(f"the fitted model scores an answer {bad[0]}; lower learning_rate")
    if len(drawn) > 1 and drawn.std() == 0:
        raise Diverged(f"the fitted model scores every answer {drawn[0]}; lower learning_rate")


def normalisation(references: np.ndarray, normalise: bool) -> dict[str, float]:
    """Return bias and gain such that gain * raw + bias has mean 0 and deviation 1 on references."""
    mean, deviation = float(references.mean()), float(references.std())
    gain = 1 / deviation if normalise and deviation > 0 else 1.0
    return {
        "mean_ref": mean,
        "std_ref": deviation,
        "bias": -gain * mean if normalise else 0.0,
        "gain": gain,
        "n": len(references),
    }


def format_digest(tokenizer: Any) -> str:
    """Return the digest of how text becomes scored tokens: template, EOS, pad and a rendering."""
    from harness.models import encode

    sample = encode(tokenizer, [{"role": "user", "content": "How many?"}], "Three.")
    seen = [tokenizer.chat_template, tokenizer.eos_token_id, tokenizer.pad_token_id, list(sample)]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()
