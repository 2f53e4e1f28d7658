"""Llama 2: the gate of two reward models, versions and their pools, fresh judgements, and PPO."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from tiny import tiny_pairs, tiny_policy

import harness.gated as gated_file
from harness import Gated, Reward, fit_reward, optimise
from harness.artifacts import RewardModel
from harness.gated import raw_scores
from harness.judge import Answer
from harness.models import rewards
from harness.ppo_settings import PRESETS
from harness.registry import discover, get
from harness.run import in_order
from harness.tiny import tiny_shared

SHARED = tiny_shared(7)
CUT = -1.7346010553881064  # logit(0.15)


@pytest.fixture(autouse=True, scope="module")
def discovered():
    discover()


def planned(**settings):
    return get("method", "llama2")(SHARED, **settings)


def made_by(artifact, stage):
    return [a for a in in_order([artifact]) if a.recipe.stage.name == stage]


def arguments(artifact):
    return dict(artifact.recipe.arguments)


def answer(tag="general", text="a"):
    return Answer("p", [{"role": "user", "content": "?"}], text, tag=tag)


@pytest.mark.parametrize(
    ("safe", "is_red_team", "counts"),
    [
        (CUT + 0.01, False, "helpful"),
        (CUT - 0.01, False, "safe"),
        (CUT + 0.01, True, "safe"),
        (CUT - 0.01, True, "safe"),
        (math.log(0.15 / 0.85), False, "helpful"),  # strictly below, not at the threshold
    ],
)
def test_the_safe_score_counts_on_red_team_prompts_and_below_the_threshold(
    monkeypatch, safe, is_red_team, counts
):
    scores = {"helpful": 5.0, "safe": safe}
    monkeypatch.setattr(gated_file, "raw_scores", lambda model, answers: [scores[model.id]])
    judge = Gated(RewardModel("helpful"), RewardModel("safe"), 0.15)
    assert judge.grade([answer("red-team" if is_red_team else "general")]) == [scores[counts]]


@pytest.mark.parametrize("raw", [-3.0, CUT, 0.0, 0.7, 12.0])
def test_a_raw_score_is_the_logit_of_its_own_sigmoid(raw):
    probability = 1 / (1 + math.exp(-raw))
    assert math.log(probability / (1 - probability)) == pytest.approx(raw, abs=1e-9)
    assert math.log(0.15 / 0.85) == pytest.approx(CUT, abs=1e-12)


def test_the_gate_reads_the_tag_of_each_answer_in_order(monkeypatch):
    by_model = {"h": [1.0, 2.0, 3.0], "s": [0.5, 0.25, -4.0]}
    monkeypatch.setattr(gated_file, "raw_scores", lambda model, answers: by_model[model.id])
    judge = Gated(RewardModel("h"), RewardModel("s"))
    tags = ("general", "red-team", "general")
    assert judge.grade([answer(tag) for tag in tags]) == [1.0, 0.25, -4.0]
    assert replace(judge, threshold=0.01).grade([answer(tag) for tag in tags]) == [1.0, 0.25, 3.0]


def test_the_curve_says_how_often_and_on_what_scale_each_model_graded(monkeypatch):
    """By the safe model: a red-team answer and one below the cut; grades are 1, 5, 0.25, -4."""
    by_model = {"h": [1.0, 5.0, 2.0, 3.0], "s": [0.5, 0.5, 0.25, -4.0]}
    monkeypatch.setattr(gated_file, "raw_scores", lambda model, answers: by_model[model.id])
    judge = Gated(RewardModel("h"), RewardModel("s"))
    tags = ("general", "general", "red-team", "general")
    grades, said = judge.explained([answer(tag) for tag in tags])
    assert grades == [1.0, 5.0, 0.25, -4.0]
    assert said == {
        "by_safe": 0.5,
        "below_threshold": 0.25,
        "helpful_mean": 3.0,
        "helpful_std": 2.0,
        "safe_mean": -1.875,
        "safe_std": 2.125,
    }
    by_model |= {"h": [1.0], "s": [0.5]}
    alone = judge.explained([answer()])[1]
    assert math.isnan(alone["safe_mean"])
    assert alone["by_safe"] == 0.0


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.2])
def test_a_threshold_that_is_no_probability_is_refused(threshold):
    with pytest.raises(ValueError, match="probability"):
        Gated(RewardModel("h"), RewardModel("s"), threshold)


def test_raw_scores_are_the_same_whether_a_model_was_normalised_or_not(make):
    settings = {"learning_rate": 1e-3, "batch_size": 8, "seed": 0}
    pairs = tiny_pairs(n=20, seed=0)
    whole, plain = (
        make(fit_reward(tiny_policy(seed=0), pairs, normalise=normalise, **settings))
        for normalise in (True, False)
    )
    assert json.loads((whole.path / "norm.json").read_text())["gain"] != 1.0
    answers = [answer(text=text) for text in ("please", "no", "7 no")]
    assert raw_scores(whole, answers) == pytest.approx(raw_scores(plain, answers), abs=1e-9)
    assert raw_scores(plain, answers) == rewards(plain, answers)


def test_two_models_learn_from_the_rows_of_their_axis_and_are_never_shifted():
    made = planned(versions=1, n=2, safety_mix=0.0)
    judge = arguments(made)["reward"]
    assert isinstance(judge, Gated)
    sources = {
        "helpful": arguments(judge.helpful)["pairs"],
        "safe": arguments(judge.safe)["pairs"],
    }
    assert {axis: arguments(rows)["axis"] for axis, rows in sources.items()} == {
        "helpful": "helpful",
        "safe": "safe",
    }
    assert all(arguments(rows)["pairs"] == SHARED.preferences for rows in sources.values())
    assert not any(arguments(model)["normalise"] for model in (judge.helpful, judge.safe))


def test_a_tenth_of_the_safety_models_pairs_are_helpful_ones(make):
    judge = arguments(planned(versions=1, n=2))["reward"]
    rows = make(arguments(judge.safe)["pairs"]).rows()
    axes = [row["axis"] for row in rows]
    assert axes.count("safe") == 100  # half of the tiny study's 200 pairs
    assert axes.count("helpful") == 11  # 11 of 111 are the nearest to a tenth


def test_the_margin_is_the_helpful_models_alone():
    judge = arguments(planned(versions=1, n=2, margin="small"))["reward"]
    assert arguments(judge.helpful)["margin"] == "small"
    assert arguments(judge.safe)["margin"] == "none"


def test_the_safety_loss_is_the_safe_models_alone_and_off_unless_weighted():
    plain = arguments(planned(versions=1, n=2))["reward"]
    assert plain.safe.recipe.stage.name == "fit_reward"
    judge = arguments(planned(versions=1, n=2, safety_loss=0.5))["reward"]
    assert judge.helpful == plain.helpful
    assert judge.safe.recipe.stage.name == "fit_safe_reward"
    assert arguments(judge.safe)["safety"] == 0.5
    assert arguments(judge.safe)["pairs"] == arguments(plain.safe)["pairs"]


def test_a_version_draws_once_from_the_version_before_and_never_after_its_update():
    made = planned(stages="rs", versions=4, n=2)
    samples = made_by(made, "sample")
    _, *versions = made_by(made, "finetune")
    assert [arguments(s)["policy"] for s in samples] == [SHARED.sft, *versions[:-1]]
    assert len({arguments(s)["seed"] for s in samples}) == 4
    assert len({arguments(s)["prompts"] for s in samples}) == 1


def test_from_the_fourth_version_on_the_best_of_all_versions_count():
    made = planned(stages="rs", versions=5, n=2)
    pools = [arguments(kept)["pools"] for kept in made_by(made, "keep_best")]
    assert [len(pool) for pool in pools] == [1, 1, 1, 4, 5]
    samples = made_by(made, "sample")
    assert [arguments(scored)["samples"] for scored in pools[4]] == samples


@pytest.mark.parametrize("init", ["sft", "base", "previous"])
def test_fine_tuning_starts_where_it_is_told(init):
    made = planned(stages="rs", versions=3, n=2, init=init)
    versions = [a for a in made_by(made, "finetune") if a != SHARED.sft]
    before = {"sft": [SHARED.sft] * 3, "base": [SHARED.base] * 3}
    before["previous"] = [SHARED.sft, *versions[:-1]]
    assert [arguments(v)["policy"] for v in versions] == before[init]


def test_fresh_judgements_divide_the_budget_and_rescore_every_pool(make):
    made = planned(stages="rs", versions=2, n=2, rounds=2, pool_from=1)
    first, second = (arguments(kept)["pools"] for kept in made_by(made, "keep_best"))
    judges = [{arguments(scored)["judge"] for scored in pool} for pool in (first, second)]
    assert [len(found) for found in judges] == [1, 1]
    assert judges[0] != judges[1]  # the old samples are scored anew
    assert arguments(first[0])["samples"] == arguments(second[0])["samples"]
    (bought,) = made_by(made, "relabel")
    assert arguments(bought)["judge"] == SHARED.annotator
    assert (
        arguments(arguments(bought)["pairs"])["policy"]
        == arguments(made_by(made, "sample")[-1])["policy"]
    )
    known, new = make(made_by(made, "pairs_to")[0]).rows(), make(bought).rows()
    assert len(known) == 100  # half of the budget's 200 pairs, each to another prompt
    assert len(new) <= 100
    assert not {row["prompt_id"] for row in known} & {row["prompt_id"] for row in new}
    assert {row["source"] for row in new} == {"human"}


def test_versions_after_the_last_round_keep_its_reward_models():
    made = planned(stages="rs", versions=3, n=2, rounds=2)
    judges = [arguments(a)["judge"] for kept in made_by(made, "keep_best") for a in scored(kept)]
    assert judges[0] != judges[1] == judges[2]
    assert len(made_by(made, "relabel")) == 1


def scored(kept):
    return arguments(kept)["pools"]


def test_a_dataset_without_annotators_has_no_fresh_judgements():
    with pytest.raises(ValueError, match="annotator"):
        get("method", "llama2")(replace(SHARED, annotator=None), rounds=2, versions=2)
    get("method", "llama2")(replace(SHARED, annotator=None), versions=2)


def test_it_can_be_taken_apart():
    both, sampling, ppo = (planned(versions=2, stages=s) for s in ("both", "rs", "ppo"))
    assert sampling.recipe.stage.name == "finetune"
    assert arguments(both)["policy"] == sampling
    assert arguments(ppo)["policy"] == SHARED.sft
    assert arguments(ppo)["reward"] == arguments(both)["reward"]
    assert made_by(ppo, "keep_best") == []
    one = planned(versions=2, rewards="one")
    assert isinstance(arguments(one)["reward"], Reward)
    assert len(made_by(one, "fit_reward")) == 1


def test_ppo_whitens_the_gated_score_by_the_papers_preset():
    made = arguments(planned(versions=1))
    assert made["whiten_scores"] is True
    assert (made["kl"], made["learning_rate"], made["batch_size"]) == (0.01, 1e-6, 512)
    assert (made["epochs"], made["minibatches"], made["clip"]) == (1, 8, 0.2)
    assert made["reference"] is None  # pi_0 is the rejection-sampling policy that PPO starts from


def test_with_one_model_and_no_rejection_sampling_it_is_plain_ppo_on_the_same_rows():
    made = planned(stages="ppo", rewards="one", kl=0.02, passes=2.0, batch_size=64)
    model = fit_reward(
        SHARED.sft,
        SHARED.preferences,
        normalise=False,
        learning_rate=1e-5,
        batch_size=64,
        seed=7,
    )
    given = {**PRESETS["llama2"], "kl": 0.02, "batch_size": 64, "learning_rate": 1e-6}
    assert made == optimise(
        SHARED.sft,
        SHARED.prompts,
        reward=Reward(model),
        value=model,
        **given,
        passes=2.0,
        max_new_tokens=SHARED.max_new_tokens,
        seed=7,
    )


def test_equal_models_without_red_team_tags_are_graded_as_one_model(monkeypatch):
    scores = [3.0, -5.0, 0.1]
    monkeypatch.setattr(gated_file, "raw_scores", lambda model, answers: scores)
    assert Gated(RewardModel("r"), RewardModel("r")).grade([answer()] * 3) == scores
