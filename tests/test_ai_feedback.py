"""The methods that learn from AI feedback: what each of their rows is made of."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import (
    Answer,
    Draft,
    Judge,
    Letters,
    Preferences,
    Prompted,
    Reward,
    Shared,
    constitution,
    fit_reward,
    only,
    relabel,
    sample,
    write_rows,
)
from harness.judge import Verdict
from harness.registry import discover, get
from harness.stage import Artifact, stage
from harness.stages.label import bounded, labelled
from harness.tiny import tiny_base, tiny_data, tiny_shared

SHARED: Shared = tiny_shared(7)
METHODS = {
    "rlaif": [{}, {"pair_source": "self_sampled"}],
    "rlaif_direct": [{}],
    "cai": [
        {},
        {"stage": "sl"},
        {"stage2": "dpo_revision"},
        {"stage2": "dpo_ai_labels"},
        {"constitution": "null", "critique": False, "imitate": "first_answers"},
    ],
}
ROWS = [(name, settings) for name, rows in METHODS.items() for settings in rows]


@pytest.fixture(autouse=True, scope="module")
def discovered():
    discover()


def planned(name, **settings):
    return get("method", name)(SHARED, **settings)


def closure(artifact: Artifact) -> dict[str, list[Artifact]]:
    """Return everything an artifact is made from, by the name of the stage."""
    found: dict[Artifact, None] = {}
    waiting = [artifact]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found[one] = None
            waiting += one.inputs
    by_stage: dict[str, list[Artifact]] = {}
    for one in found:
        by_stage.setdefault(one.recipe.stage.name, []).append(one)
    return by_stage


def arguments(artifact):
    return artifact.recipe.arguments


@pytest.mark.parametrize(("name", "settings"), ROWS, ids=str)
def test_neither_test_prompts_nor_gold_nor_validation_reach_ai_feedback(name, settings):
    made = closure(planned(name, **settings))
    everything = [one for group in made.values() for one in group]
    data = tiny_data()
    assert data.test not in everything
    assert data.validation not in everything
    assert "Gold" not in str([dict(arguments(one)) for one in everything])


def test_rlaif_learns_the_same_soft_labels_as_any_method_with_ai_feedback():
    made = closure(planned("rlaif"))
    (pairs,) = made["relabel"]
    assert pairs == SHARED.labelled("ai")
    (model,) = made["fit_reward"]
    assert arguments(model)["pairs"] == pairs
    optimised = arguments(planned("rlaif"))
    assert (optimised["policy"], optimised["reward"]) == (SHARED.sft, Reward(model))


def test_rlaif_is_reinforce_with_the_papers_objective():
    # Lee et al. 2023: (1 - beta) r - beta KL with beta = 0.05; T = 0.9; policy and value from SFT.
    for name in ("rlaif", "rlaif_direct"):
        used = arguments(planned(name))
        assert used["kl"] == pytest.approx(0.0526, abs=1e-4)
        assert (used["epochs"], used["clip"], used["lam"]) == (1, None, 1.0)
        assert (used["whiten_advantages"], used["minibatches"], used["value"]) == (False, 1, None)
        assert used["temperature"] == 0.9


@pytest.mark.parametrize("soft", [True, False])
def test_rlaif_has_soft_labels_unless_told_otherwise(soft):
    (pairs,) = closure(planned("rlaif", soft=soft))["relabel"]
    assert arguments(pairs)["soft"] is soft


def test_self_sampled_pairs_are_two_answers_of_the_sft_policy_to_each_train_prompt():
    (pairs,) = closure(planned("rlaif", pair_source="self_sampled"))["relabel"]
    drawn = arguments(pairs)["pairs"]
    assert drawn.recipe.stage is sample
    used = arguments(drawn)
    assert (used["policy"], used["prompts"], used["n"]) == (SHARED.sft, SHARED.prompts, 2)


def test_direct_rlaif_rates_answers_to_red_team_prompts_for_safety_and_others_for_helpfulness():
    asked = Prompted(tiny_base(seed=1))
    used = get("method", "rlaif_direct")(replace(SHARED, labeller=asked)).recipe.arguments["reward"]
    assert (used.general.judge, used.red_team.judge) == (asked.on("helpful"), asked.on("safe"))
    assert asked.on("helpful") != asked.on("safe")
    for rating, reward in ((1.0, -1.0), (5.5, 0.0), (10.0, 1.0)):
        graded = [replace(part, judge=Says(rating)) for part in (used.general, used.red_team)]
        assert [part.grade([ANSWER]) for part in graded] == [[reward]] * 2


@dataclass(frozen=True)
class Says(Judge):
    """Give every answer one rating."""

    rating: float

    def grade(self, answers):
        return [self.rating] * len(answers)


ANSWER = Answer("p", [{"role": "user", "content": "?"}], "a")


def test_direct_rlaif_needs_neither_pairs_nor_a_reward_model():
    made = closure(planned("rlaif_direct"))
    assert not {"relabel", "fit_reward"} & made.keys()
    assert SHARED.preferences not in [one for group in made.values() for one in group]


def test_sl_cai_trains_the_base_on_revisions_of_all_steps_and_helpful_answers():
    policy = planned("cai", stage="sl", revisions=3)
    assert arguments(policy)["policy"] == SHARED.base
    (*steps, helpful) = arguments(arguments(policy)["data"])["answers"]
    assert [one.recipe.stage.name for one in steps] == ["revise"] * 3
    (general,) = {arguments(helpful)["prompts"]}
    assert arguments(general)["tag"] == "general"
    made = closure(policy)
    assert {arguments(one)["tag"] for one in made["collection"]} == {"general", "red-team"}
    assert {"relabel", "fit_reward", "optimise", "prefer"} & made.keys() == set()
    assert SHARED.preferences not in [one for group in made.values() for one in group]


def test_without_revisions_sl_cai_imitates_helpful_answers_alone():
    made = closure(planned("cai", stage="sl", revisions=0))
    assert "revise" not in made
    assert {arguments(one)["tag"] for one in made["collection"]} == {"general"}
    with pytest.raises(ValueError, match="set revisions to at least 1"):
        planned("cai", stage2="dpo_revision", revisions=0)


def test_the_control_imitates_as_many_first_answers_as_there_would_be_revisions():
    made = closure(planned("cai", stage="sl", imitate="first_answers", revisions=4))
    assert not {"revise", "criticise"} & made.keys()
    assert {arguments(one)["n"] for one in made["sample"]} == {1, 4}


@pytest.mark.parametrize("stage2", ["pm_ppo", "dpo_ai_labels"])
def test_rl_cai_pairs_come_from_sl_cai_and_are_labelled_by_the_constitution(stage2):
    sl, rl = planned("cai", stage="sl"), planned("cai", stage2=stage2)
    made = closure(rl)
    (labels,) = made["relabel"]
    assert arguments(labels)["constitution"] == constitution("hamlet")
    drawn = arguments(arguments(labels)["pairs"])
    assert (drawn["policy"], drawn["n"]) == (sl, 2)
    assert arguments(drawn["prompts"])["tag"] == "red-team"
    (mixed,) = made["together"]
    assert arguments(mixed)["parts"] == (labels, only(SHARED.preferences, axis="helpful"))
    start = arguments(rl)["policy" if stage2 == "pm_ppo" else "reference"]
    assert start == sl


def test_the_price_of_leaving_sl_cai_is_that_of_its_optimiser():
    assert arguments(planned("cai"))["kl"] == 0.001  # Bai et al. 2022a
    for stage2 in ("dpo_revision", "dpo_ai_labels"):
        assert arguments(planned("cai", stage2=stage2))["beta"] == 0.1  # Hugging Face 2024
    given = [planned("cai", stage2=s, beta=0.3) for s in ("pm_ppo", "dpo_revision")]
    assert [arguments(p).get("kl", arguments(p).get("beta")) for p in given] == [0.3, 0.3]


def test_revisions_against_first_answers_ask_no_judge():
    made = closure(planned("cai", stage2="dpo_revision"))
    assert "relabel" not in made
    (pairs,) = made["revision_pairs"]
    assert arguments(arguments(pairs)["revisions"])["answers"] in made["criticise"]


def test_the_critic_writes_at_the_temperature_asked_for():
    for temperature in (1.0, 0.5):
        made = closure(planned("cai", stage="sl", critic_temperature=temperature))
        used = {arguments(one)["temperature"] for one in (*made["criticise"], *made["revise"])}
        assert used == {temperature}


def test_each_step_of_sl_cai_draws_principles_and_words_anew():
    made = closure(planned("cai", stage="sl", revisions=3))
    said, written = ([arguments(one)["seed"] for one in made[s]] for s in ("criticise", "revise"))
    assert len(set(said)) == 3  # a principle is drawn by seed, prompt and sample
    assert set(said) == set(written)  # one principle for a critique and its revision
    asked = [*made["criticise"], *made["revise"]]
    assert {arguments(one)["axis"] for one in asked} == {"safe"}


def test_another_constitution_is_another_policy():
    ids = {planned("cai", constitution=name).id for name in ("hamlet", "null", "general")}
    assert len(ids) == 3


@pytest.mark.parametrize("name", METHODS)
def test_a_study_without_a_labeller_is_refused_while_planning(name):
    with pytest.raises(ValueError, match=r"add a \[labeller\] table"):
        get("method", name)(replace(SHARED, labeller=None))


@given(st.floats(0, 1), st.floats(0, 0.5), st.booleans())
def test_clamping_keeps_the_range_the_order_and_the_symmetry(p, clamp, soft):
    p = math.floor(p * 2**20) / 2**20  # so that 1 - p is exact
    clamp = math.floor(clamp * 2**20) / 2**20
    found = bounded(p, soft, clamp)
    assert clamp <= found <= 1 - clamp
    assert bounded(found, soft, clamp) == found
    assert bounded(1 - p, soft, clamp) == 1 - found
    assert (found > 0.5) == (p > 0.5) or found == 0.5
    assert bounded(min(p + 0.25, 1), soft, clamp) >= found


def test_a_label_clamped_to_point_six_asks_for_a_gap_of_its_logit():
    found = bounded(1.0, True, 0.4)
    assert math.log(found / (1 - found)) == pytest.approx(0.4055, abs=1e-4)


ORDERS = {"helpful": ("please, it is", "go away"), "safe": ("no, that hurts", "sure, do so")}


@stage(makes=Preferences)
def two_sources(out: Draft, *, n: int, seed: int, shuffled: bool) -> None:
    """Write n pairs of two sources, each with an order of its own; a coin labels the safe ones."""
    rng = random.Random(seed)
    rows = []
    for number in range(n):
        axis = ("helpful", "safe")[number % 2]
        first_wins = rng.random() < 0.5
        better, worse = (f"{text} {rng.randrange(100)}" for text in ORDERS[axis])
        row = labelled(
            {
                "prompt_id": f"p{number}",
                "sample": 0,
                "messages": [{"role": "user", "content": f"{axis} {number}"}],
                "completion": better if first_wins else worse,
            },
            {"sample": 1, "completion": worse if first_wins else better},
            Verdict(float(first_wins)),
            axis,
            "toy",
        )
        if shuffled and axis == "safe":
            row["p1"] = float(rng.random() < 0.5)
        rows.append(row)
    write_rows(out, rows)


@pytest.mark.slow
@pytest.mark.parametrize("shuffled", [False, True], ids=["labels kept", "safe labels shuffled"])
def test_a_reward_model_learns_each_sources_own_order(make, shuffled):
    settings = {"learning_rate": 3e-3, "epochs": 3, "batch_size": 16, "seed": 0}
    fitted = fit_reward(SHARED.base, two_sources(n=240, seed=0, shuffled=shuffled), **settings)
    judge = Reward(make(fitted))
    right = {"helpful": [], "safe": []}
    for row in make(two_sources(n=60, seed=1, shuffled=False)):
        pair = [Answer("", row["messages"], row[side]) for side in ("chosen", "rejected")]
        one, other = judge.grade(pair)
        right[row["axis"]].append((one > other) == (row["p1"] == 1))
    accuracy = {axis: sum(found) / len(found) for axis, found in right.items()}
    assert accuracy["helpful"] > 0.9
    # A coin's labels leave no order of the two answers to learn: any of the two may win.
    assert (accuracy["safe"] > 0.9) if not shuffled else (accuracy["safe"] < 0.9)


def test_relabelling_is_the_labellers_whatever_the_pairs_said_before(make):
    kept = relabel(SHARED.preferences, judge=Letters("no"), source="ai", seed=0)
    for row in make(kept):
        assert (row["p1"] > 0.5) == ("no" in row["chosen"])


@pytest.mark.parametrize(("likes", "agrees"), [("please", 1.0), ("n", 0.0)])
def test_agreement_with_earlier_labels_is_of_answers_and_not_of_the_places_they_stand_in(
    make, tmp_path, likes, agrees
):
    # A third of the pairs are stored the other way round, with p1 = 0.
    out = Draft(tmp_path)
    pairs = make(SHARED.preferences)
    relabel.body(out, pairs, judge=Letters(likes), source="ai", seed=0)
    better = [row["chosen"] if row["p1"] else row["rejected"] for row in pairs]
    assert all("please" in text for text in better)
    assert out.facts["agreement_with_earlier_labels"] == agrees
    assert out.facts["decided"] == {"agreement_with_earlier_labels": len(better)}
