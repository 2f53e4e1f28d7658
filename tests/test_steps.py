"""Process rewards: labels of steps, the model fitted to them, and judging by steps with it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from tiny import questions, tiny_policy, tiny_prompts

import harness.stages.steps as stage_file
from harness.artifacts import RewardModel, Samples, write_rows
from harness.draft import Draft
from harness.ensembles import Stepwise
from harness.judge import Answer, Contains, Reward
from harness.models import encode, load_policy, load_tokenizer
from harness.stages.optimise import optimise
from harness.stages.reward import with_head
from harness.stages.select import best_of_n
from harness.stages.steps import StepLabels, encoded_steps, fit_step_reward, label_steps
from harness.training import Job, Recipe, planned_batches

RECIPE = Recipe(1e-3, 1, 4, "cosine", 0.0, 0.0, seed=0)
RIGHT, WRONG = "it is so", "no never"


@pytest.fixture(scope="module")
def policy(make):
    return make(tiny_policy(seed=0))


def rows(n=4, steps=3):
    """Return answers of so many lines, of which those with a word are right."""
    draw = np.random.default_rng(0)
    found = []
    for row in questions(n, 0):
        right = draw.random(steps) < 0.6
        lines = [RIGHT if ok else WRONG for ok in right]
        known = {name: row[name] for name in ("prompt_id", "messages")}
        found.append(
            {**known, "completion": "\n".join(lines), "labels": right.astype(float).tolist()}
        )
    return found


def artifact(folder, kind, given):
    folder.mkdir()
    write_rows(Draft(folder), given)
    return kind("rows", path=folder)


def test_the_loss_is_the_cross_entropy_of_each_step_read_at_its_end(policy, tmp_path):
    tokenizer = load_tokenizer(policy)
    ready, _ = encoded_steps(tokenizer, rows(2), "\n", 1024)
    given = [row for row in rows(2) for _ in row["labels"]]
    losses, gradients = [], []
    for micro_batch in (None, 2):
        folder = tmp_path / str(micro_batch)
        folder.mkdir()
        job = Job(Draft(folder, micro_batch=micro_batch), planned_batches([1] * 6, RECIPE), "fit")
        model = with_head(load_policy(policy), tokenizer.pad_token_id, 0)
        made = stage_file.trainer_for(model, tokenizer, ready, RECIPE, job)
        expected = []
        for place, row in enumerate(given):
            end = place % 3 + 1
            text = "\n".join(row["completion"].split("\n")[:end])
            ids = encode(tokenizer, row["messages"], text)
            with torch.no_grad():
                raw = made.model(torch.tensor([ids])).logits.item()
            label = row["labels"][end - 1]
            expected.append(np.logaddexp(0, -raw if label else raw))
        losses.append(made.training_step(made.model, made.micro_batches(ready)).item())
        gradients.append([weight.grad.clone() for weight in made.model.parameters()])
    assert losses == pytest.approx([np.mean(expected)] * 2, rel=1e-4)
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_labels_that_do_not_fit_the_steps_are_an_error_with_the_remedy(policy):
    with pytest.raises(ValueError, match=r"has 1 steps by the separator ';', and 3 labels; name"):
        encoded_steps(load_tokenizer(policy), rows(1), ";", 1024)
    kept, dropped = encoded_steps(load_tokenizer(policy), rows(1, steps=9), "\n", 60)
    assert len(kept) + dropped["longer_than_max_length"] == 9
    assert dropped["longer_than_max_length"] > 0


@pytest.fixture(scope="module")
def fitted(make, tmp_path_factory):
    """Return a model fitted to 60 answers of three labelled steps."""
    folder = tmp_path_factory.mktemp("steps")
    data = artifact(folder / "rows", StepLabels, rows(60))
    out = Draft(folder / "out")
    out.path.mkdir()
    settings = {"learning_rate": 3e-3, "epochs": 4, "batch_size": 16, "held_out": 0.25}
    fit_step_reward.body(out, make(tiny_policy(seed=0)), data, **settings, seed=0)
    return out


def test_a_model_fitted_to_step_labels_knows_right_steps_of_other_prompts(fitted):
    found = json.loads((fitted / "calibration.json").read_text())
    assert found["n"] == 15 * 3
    assert found["accuracy"] > 0.9
    assert {"nll", "ece", "temperature"} <= found.keys()
    assert fitted.counters["labels_used"] == 180
    norm = json.loads((fitted / "norm.json").read_text())
    assert (norm["gain"], norm["bias"]) == (1.0, 0.0)


def test_a_wrong_step_is_found_where_it_stands_and_decides_the_grade(fitted):
    model = RewardModel("fitted", path=fitted.path)
    question = questions(1, 3)[0]["messages"]
    good, bad = (
        Answer("p", question, "\n".join(lines)) for lines in ([RIGHT] * 3, [RIGHT, RIGHT, WRONG])
    )
    judge = Stepwise(Reward(model))
    steps = judge.score_steps([good, bad])
    assert [[grade > 0 for grade in each] for each in steps] == [[True] * 3, [True, True, False]]
    assert judge.grade([good, bad]) == [min(each) for each in steps]
    product = Stepwise(Reward(model), over="product").grade([good, bad])
    by_hand = [math.prod(1 / (1 + math.exp(-grade)) for grade in each) for each in steps]
    assert product == pytest.approx(by_hand)


def test_it_is_a_judge_of_best_of_n_and_the_reward_of_ppo(fitted, policy, make, tmp_path):
    judge = Stepwise(Reward(RewardModel("fitted", path=fitted.path)), over="product")
    best = best_of_n(tiny_policy(seed=0), reward=judge, n=2)
    assert best.recipe.arguments["reward"] == judge
    out = Draft(tmp_path)
    asked = make(tiny_prompts(n=8, seed=0))
    sizes = {"batch_size": 8, "passes": 1.0, "epochs": 1, "max_new_tokens": 4}
    optimise.body(out, policy, asked, reward=judge, value=None, **sizes, seed=0)
    assert out.counters["judge_calls"] == 8
    assert (out / "model.safetensors").is_file()


def test_a_judge_labels_each_step_by_what_was_said_so_far(tmp_path):
    known = {"sample": 0, "token_ids": [1], "logp": 0.0, "tag": "general", "cluster": "c"}
    texts = {"a": ("so\nyes\nno", True), "b": ("cut", False), "c": ("yes", True)}
    given = [
        {**known, "prompt_id": id, "messages": [], "completion": text, "finished": done}
        for id, (text, done) in texts.items()
    ]
    out = Draft(tmp_path)
    samples = artifact(tmp_path / "rows", Samples, given)
    label_steps.body(out, samples, judge=Contains("yes"), right_at=1.0)
    found = {row["prompt_id"]: row["labels"] for row in StepLabels("x", path=tmp_path)}
    assert found == {"a": [0.0, 1.0, 1.0], "c": [1.0]}
    assert out.counters == {"labels_used": 4, "judge_calls": 4}
    assert out.facts == {"answers": 2, "unfinished": 1}
