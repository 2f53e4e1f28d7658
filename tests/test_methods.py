"""Our methods: what each composes, and how its file opens."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import replace
from pathlib import Path

import pytest

from harness import Reward, best_of_n, fit_reward, prefer, tempered
from harness.ranges import declared_ranges
from harness.registry import discover, get, plugins
from harness.stage import coerce
from harness.tiny import tiny_base, tiny_shared

ROOT = Path(__file__).parents[1]
SHARED = tiny_shared(7)


@pytest.fixture(autouse=True, scope="module")
def discovered():
    discover()


def ours():
    return sorted((ROOT / "methods").glob("[a-z]*.py"))


def test_every_method_file_registers_one_method_of_its_own_name():
    registered = {
        plugin.name
        for plugin in plugins("method")
        if plugin.function.__module__.startswith("methods.")
    }
    assert registered == {file.stem for file in ours()}


@pytest.mark.parametrize("file", ours(), ids=lambda file: file.stem)
def test_a_method_file_opens_with_paper_idea_and_differences(file):
    opening = ast.get_docstring(ast.parse(file.read_text()))
    head, paper, differences = opening.split("\n\n")
    assert re.fullmatch(r"[A-Z].*: .*\.", head), "name, then what it is, in a line"
    assert re.search(r"\b(19|20)\d\d\b.*arXiv:\d{4}\.\d{5}", paper, re.DOTALL)
    assert get("method", file.stem).paper in paper
    assert differences.startswith("Differs from the paper: 1. ")
    numbers = [int(n) for n in re.findall(r"(?:^|[.:]\s)(\d)\. [A-Z]", differences)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_base_and_sft_are_the_policies_that_everybody_shares():
    assert get("method", "base")(SHARED) == SHARED.base
    assert get("method", "sft")(SHARED) == SHARED.sft


def test_dpo_prefers_the_shared_pairs_starting_from_sft():
    made = get("method", "dpo")(SHARED, beta=0.3, learning_rate=1e-4, epochs=2, batch_size=8)
    assert made == prefer(
        SHARED.sft,
        SHARED.preferences,
        beta=0.3,
        learning_rate=1e-4,
        epochs=2,
        batch_size=8,
        seed=7,
    )


def test_best_of_n_picks_by_a_reward_model_fitted_on_the_shared_pairs():
    settings = {"reward_learning_rate": 1e-3, "reward_epochs": 2, "reward_batch_size": 8}
    reward = fit_reward(
        SHARED.sft, SHARED.preferences, learning_rate=1e-3, epochs=2, batch_size=8, seed=7
    )
    made = get("method", "best_of_n")(SHARED, n=4, **settings)
    assert made == best_of_n(SHARED.sft, n=4, reward=Reward(reward))


def test_a_tempered_row_is_sft_drawn_at_that_temperature():
    plugin = get("method", "tempered")
    assert plugin(SHARED, temperature=0.5) == tempered(SHARED.sft, temperature=0.5)
    assert list(declared_ranges(plugin)) == ["temperature"]  # so that tuning finds its best


def test_rows_that_ask_for_the_same_reward_model_share_it():
    four, eight = (get("method", "best_of_n")(SHARED, n=n) for n in (4, 8))
    models = [
        {a for a in made.inputs if type(a).__name__ == "RewardModel"} for made in (four, eight)
    ]
    assert four != eight
    assert models[0] == models[1] != set()


@pytest.mark.parametrize("file", ours(), ids=lambda file: file.stem)
def test_a_method_starts_from_the_shared_policies_and_no_other(file):
    other = replace(SHARED, base=tiny_base(seed=8), sft=tiny_base(seed=9))
    assert get("method", file.stem)(other) != get("method", file.stem)(SHARED)


@pytest.mark.parametrize("file", ours(), ids=lambda file: file.stem)
def test_a_setting_is_a_typed_keyword_with_a_default(file):
    for setting in get("method", file.stem).settings.values():
        assert setting.default is not inspect.Parameter.empty
        assert coerce(setting.default, setting.annotation, setting.name) == setting.default


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("rlaif", {"beta": 1.0}, r"beta is a share of the objective in \[0, 1\), not 1.0"),
        ("rlaif_direct", {"beta": 1.5}, "beta is a share"),  # it would pay for leaving SFT
        ("rlaif", {"beta": -0.1}, "beta is a share"),
        ("rest", {"grow": 0}, "needs a Grow step"),
        ("rest", {"thresholds": ()}, "rising thresholds"),
        ("rest", {"thresholds": (0.5, 0.5)}, "rising thresholds"),
        ("rest", {"thresholds": (0.7, 0.5)}, "rising thresholds"),
        ("cai", {"revisions": -1}, "revisions must not be negative"),
        ("dpo", {"loss": "ipo", "label_smoothing": 0.1}, "label_smoothing has no effect on loss"),
        ("dpo", {"loss": "hinge", "length_penalty": 0.1}, "length_penalty has no effect on loss"),
        ("dpo", {"loss": "ipo", "feedback": "ai"}, "gives soft labels, and loss 'ipo' takes hard"),
        ("llama2", {"rounds": 2, "stages": "ppo"}, "each precedes a version"),
        ("llama2", {"rounds": 3, "versions": 2}, "each precedes a version"),
        ("llama2", {"rewards": "one", "safety_loss": 1.0}, "safety_loss is of a safety model"),
    ],
)
def test_settings_that_would_do_nothing_or_the_opposite_are_refused(name, settings, says):
    with pytest.raises(ValueError, match=says):
        get("method", name)(SHARED, **settings)


def test_ppo_refuses_a_pretraining_loss_without_text_before_anything_is_made():
    without = replace(SHARED, pretraining=None)
    with pytest.raises(ValueError, match="the dataset offers none"):
        get("method", "ppo")(without, pretraining_weight=1.0)


def in_turn(policy, stage):
    """Return the arguments of a stage's calls that made a policy out of one another, last first."""
    found = []
    while policy.recipe and policy.recipe.stage.name == stage:
        found.append(policy.recipe.arguments)
        policy = found[-1]["reference" if stage == "prefer" else "policy"]
    return found


@pytest.mark.parametrize("feedback", ["human", "ai", "ai_principle"])
def test_iterative_dpo_judges_its_own_answers_in_equal_shares_of_the_budget(feedback):
    rounds = in_turn(get("method", "dpo")(SHARED, rounds=3, feedback=feedback), "prefer")
    assert len(rounds) == 3
    assert rounds[-1]["reference"] == SHARED.sft
    shares = []
    for asked in rounds[:-1]:
        label = asked["pairs"].recipe.arguments
        drawn = label["pairs"].recipe.arguments
        assert label["source"] == feedback
        assert label["judge"] == (SHARED.annotator if feedback == "human" else SHARED.labeller)
        assert drawn["policy"] == asked["reference"], "the current policy's own answers"
        shares.append(drawn["prompts"].recipe.arguments)
    first = rounds[-1]["pairs"].recipe.arguments
    assert first["pairs"] == SHARED.labelled(feedback)
    shares.append(first["prompts"].recipe.arguments)
    assert sorted((s["start"], s["end"]) for s in shares) == [
        (0, 1 / 3),
        (1 / 3, 2 / 3),
        (2 / 3, 1),
    ]
    assert len({s["seed"] for s in shares}) == 1, "shares of one order of the prompts never overlap"


def test_ppo_in_rounds_refits_its_reward_model_to_all_pairs_and_stays_near_sft():
    last, first = in_turn(get("method", "ppo")(SHARED, rounds=2, passes=3.0), "optimise")
    assert (first["policy"], first["passes"], last["passes"]) == (SHARED.sft, 1.5, 1.5)
    assert last["reference"] == SHARED.sft
    assert last["reward"] != first["reward"]
    joined = last["reward"].model.recipe.arguments["pairs"]
    assert first["reward"].model.recipe.arguments["pairs"] in joined.recipe.arguments["parts"]
    assert last["value"] == last["reward"].model


@pytest.mark.parametrize("name", ["dpo", "ppo"])
def test_one_round_is_the_method_itself_and_none_is_refused(name):
    assert get("method", name)(SHARED, rounds=1) == get("method", name)(SHARED)
    with pytest.raises(ValueError, match="rounds must be at least 1"):
        get("method", name)(SHARED, rounds=0)
