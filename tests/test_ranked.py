"""Reward models from rankings: one element of a batch is a prompt with all pairs of its answers."""

from __future__ import annotations

import csv
import json
from itertools import combinations

import numpy as np
import pytest
import torch
from tiny import questions, tiny_policy

from harness import pairwise, ranked
from harness.artifacts import Preferences, Rankings, write_rows
from harness.draft import Draft
from harness.models import load_policy, load_tokenizer
from harness.ranked import encoded_rankings, implied_pairs, ranking_tokens
from harness.stages.reward import fit_reward, with_head
from harness.tokens import encoded_pairs
from harness.training import Job, Recipe, planned_batches

RECIPE = Recipe(1e-3, 1, 4, "cosine", 0.0, 0.0, seed=0)


@pytest.fixture(scope="module")
def policy(make):
    return make(tiny_policy(seed=0))


def rankings(n=4, *, ranks=(2, 1, 3, 2), axis="helpful"):
    """Return n prompts whose four answers have the ranks given, two of them a tie."""
    return [
        {
            "prompt_id": row["prompt_id"],
            "messages": row["messages"],
            "responses": [f"{number} no", f"please, {number}", "a", "yes, " + "x" * number],
            "ranks": list(ranks),
            "axis": axis,
            "population": None,
            "source": "human",
        }
        for number, row in enumerate(questions(n, 0))
    ]


def trainer(policy, folder, rows, centre=0.0, micro_batch=None):
    folder.mkdir(exist_ok=True)
    tokenizer = load_tokenizer(policy)
    ready, _ = encoded_rankings(tokenizer, rows, 1024)
    out = Draft(folder, micro_batch=micro_batch)
    job = Job(out, planned_batches([1] * len(ready), RECIPE), "fit_reward")
    model = with_head(load_policy(policy), tokenizer.pad_token_id, 0)
    return ranked.trainer_for(model, tokenizer, ready, RECIPE, job, centre), ready


def step(made, rows):
    return made.training_step(made.model, made.micro_batches(rows)).item()


def raw(model, row):
    """Score the answers of a ranking, one sequence at a time: no padding anywhere."""
    with torch.no_grad():
        return [
            model(torch.tensor([[*row["prompt_ids"], *ids]])).logits.item()
            for ids in row["answers"]
        ]


def test_the_loss_is_the_mean_over_prompts_of_the_mean_over_their_untied_pairs(policy, tmp_path):
    rows = rankings()
    rows[0] = {**rows[0], "responses": rows[0]["responses"][:2], "ranks": [1, 2]}
    made, ready = trainer(policy, tmp_path, rows, centre=0.01)
    means, squares = [], []
    for row in ready:
        found = raw(made.model, row)
        pairs = [
            (a, b) if row["ranks"][a] < row["ranks"][b] else (b, a)
            for a, b in combinations(range(len(found)), 2)
            if row["ranks"][a] != row["ranks"][b]
        ]
        means.append(np.mean([np.logaddexp(0, found[b] - found[a]) for a, b in pairs]))
        squares.append(np.mean([(found[a] + found[b]) ** 2 for a, b in pairs]))
    assert [len(row["ranks"]) for row in ready] == [2, 4, 4, 4]
    expected = np.mean(means) + 0.01 * np.mean(squares)
    assert step(made, ready) == pytest.approx(expected, rel=1e-4)


def test_rankings_of_two_have_the_gradient_of_the_same_pairs(policy, tmp_path):
    rows = rankings()
    two = [{**row, "responses": row["responses"][:2], "ranks": [2, 1]} for row in rows]
    made, ready = trainer(policy, tmp_path / "ranked", two, centre=0.01)
    loss = step(made, ready)
    pairs = [
        {
            **{name: row[name] for name in ("prompt_id", "messages")},
            **{"chosen": row["responses"][1], "rejected": row["responses"][0]},
            **{"p1": 1.0, "strength": None},
        }
        for row in rows
    ]
    tokenizer = load_tokenizer(policy)
    encoded, _ = encoded_pairs(tokenizer, pairs, 1024)
    (tmp_path / "paired").mkdir()
    job = Job(Draft(tmp_path / "paired"), planned_batches([1] * 4, RECIPE), "fit_reward")
    model = with_head(load_policy(policy), tokenizer.pad_token_id, 0)
    plain = pairwise.with_margins(encoded, "none")
    other = pairwise.trainer_for(model, tokenizer, plain, RECIPE, job, 0.01)
    assert loss == pytest.approx(step(other, plain), rel=1e-5)
    for one, two in zip(made.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, atol=1e-5, rtol=1e-4)


def test_four_micro_batches_of_one_prompt_have_the_gradient_of_one_batch(policy, tmp_path):
    gradients, shown = [], []
    for micro_batch in (None, 1, 3):
        made, ready = trainer(policy, tmp_path / str(micro_batch), rankings(), 0.01, micro_batch)
        step(made, ready)
        gradients.append([weight.grad.clone() for weight in made.model.parameters()])
        rows = sum(part["rows"] for part in made.seen)
        shown.append(sum(part["rows"] * part["accuracy"] for part in made.seen) / rows)
    for other in gradients[1:]:
        for one, two in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)
    assert shown == pytest.approx([shown[0]] * 3)


def test_what_ranks_nothing_and_what_is_too_long_is_dropped_and_counted(policy):
    rows = rankings(3)
    rows[0]["ranks"] = [1, 1, 1, 1]
    rows[1]["responses"][2] = "x" * 300
    kept, dropped = encoded_rankings(load_tokenizer(policy), rows, 200)
    assert [len(row["answers"]) for row in kept] == [3, 4]
    assert kept[0]["ranks"] == [2, 1, 2]
    assert dropped == {"answers_longer_than_max_length": 1, "nothing_ranked": 1}


def test_a_ranking_of_four_with_a_tie_implies_five_pairs():
    row = {"prompt_id": "p", "prompt_ids": [1], "answers": [[5], [6], [7], [8]]}
    found = implied_pairs([{**row, "ranks": [2, 1, 3, 2]}])
    sides = [(pair["chosen_ids"][0], pair["rejected_ids"][0]) for pair in found]
    assert sorted(sides) == [(5, 7), (6, 5), (6, 7), (6, 8), (8, 7)]
    assert ranking_tokens([row]) == 8, "each answer is read once, with its prompt"


def test_a_model_fitted_to_rankings_orders_answers_to_other_prompts(make, tmp_path):
    for name in ("rows", "out"):
        (tmp_path / name).mkdir()
    write_rows(Draft(tmp_path / "rows"), rankings(48))
    data, out = Rankings("rows", path=tmp_path / "rows"), Draft(tmp_path / "out")
    settings = {"learning_rate": 3e-3, "epochs": 4, "batch_size": 8, "held_out": 0.25}
    fit_reward.body(out, make(tiny_policy(seed=0)), data, **settings, seed=0)
    found = json.loads((out / "calibration.json").read_text())
    assert found["n"] == 12 * 5
    assert found["accuracy"] > 0.9
    assert out.counters["labels_used"] == 48 * 5
    norm = json.loads((out / "norm.json").read_text())
    assert norm["n"] == 2 * 48 * 5
    with (out / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["accuracy"]) > float(rows[0]["accuracy"])
    assert float(rows[-1]["margin"]) > float(rows[0]["margin"])


def test_a_margin_of_rankings_is_refused(policy, tmp_path):
    write_rows(Draft(tmp_path), rankings())
    data = Rankings("rows", path=tmp_path)
    with pytest.raises(ValueError, match='set margin="none"'):
        fit_reward.body(Draft(tmp_path), policy, data, margin="small", seed=0)


def test_rankings_and_pairs_are_inputs_of_one_stage():
    start = tiny_policy(seed=0)
    for kind in (Preferences, Rankings):
        assert fit_reward(start, kind("x"), seed=0).recipe.arguments["pairs"] == kind("x")
    with pytest.raises(TypeError, match="Preferences"):
        fit_reward(start, start, seed=0)
