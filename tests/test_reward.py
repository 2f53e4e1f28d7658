"""Reward models: loss, head, scale, calibration, and what they learn."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
import torch
from tiny import random_llama, tiny_pairs, tiny_policy

from harness import pairwise
from harness.artifacts import Preferences, RewardModel, write_rows
from harness.calibration import (
    best_temperature,
    calibration,
    expected_calibration_error,
    nll,
    recall_of_unsafe,
)
from harness.draft import Draft
from harness.judge import Answer
from harness.models import encode, load_policy, load_reward, load_tokenizer, rewards
from harness.pairwise import with_flags, with_margins, without_unsafe_preferred
from harness.stages.reward import (
    fit_reward,
    fit_safe_reward,
    format_digest,
    normalisation,
    scores,
    split_by_prompt,
    with_head,
)
from harness.tokens import encoded_pairs
from harness.training import Job, Recipe, planned_batches

RECIPE = Recipe(1e-3, 1, 8, "cosine", 0.0, 0.0, seed=0)


@pytest.fixture(scope="module")
def policy(make):
    return make(tiny_policy(seed=0))


def pairs(n=8, **changes):
    said = ["yes", "no, never", "it is seven", "a"]
    return [
        {
            "pair_id": str(i),
            "prompt_id": f"p{i // 2}",
            "messages": [{"role": "user", "content": "say " + "x" * i}],
            "chosen": said[i % 4] + "!" * i,
            "rejected": said[(i + 1) % 4],
            "p1": 1.0,
            "axis": ("helpful", "safe")[i % 2],
            "population": "a",
            "source": "human",
            "strength": 1 + i % 4,
            **changes,
        }
        for i in range(n)
    ]


def artifact(folder, rows):
    folder.mkdir()
    write_rows(Draft(folder), rows)
    return Preferences("rows", path=folder)


def trainer(policy, folder, rows, margin="none", centre=0.0, micro_batch=None):
    folder.mkdir(exist_ok=True)
    tokenizer = load_tokenizer(policy)
    encoded, _ = encoded_pairs(tokenizer, rows, 1024)
    out = Draft(folder, micro_batch=micro_batch)
    job = Job(out, planned_batches([1] * len(encoded), RECIPE), "fit_reward")
    model = with_head(load_policy(policy), tokenizer.pad_token_id, 0)
    ready = with_margins(encoded, margin)
    return pairwise.trainer_for(model, tokenizer, ready, RECIPE, job, centre), ready, encoded


def deltas(model, rows):
    """Score the two sides of each pair, one sequence at a time: no padding anywhere."""
    with torch.no_grad():
        sides = [
            [model(torch.tensor([row[side]])).logits.item() for row in rows]
            for side in ("chosen_ids", "rejected_ids")
        ]
    return np.array(sides[0]), np.array(sides[1])


def step(made, rows):
    return made.training_step(made.model, made.micro_batches(rows))


@pytest.mark.parametrize("margin", ["none", "small", "large"])
def test_the_loss_is_bradley_terry_with_the_margin_of_each_pairs_strength(policy, tmp_path, margin):
    made, ready, encoded = trainer(policy, tmp_path / "out", pairs(), margin)
    chosen, rejected = deltas(made.model, ready)
    steps = {"none": [0] * 4, "small": [0, 1 / 3, 2 / 3, 1], "large": [0, 1, 2, 3]}[margin]
    table = dict(zip((1, 2, 3, 4), steps, strict=True))
    wide = np.array([table[row["strength"]] for row in encoded])
    expected = np.logaddexp(0, -(chosen - rejected - wide)).mean()
    assert step(made, ready).item() == pytest.approx(expected, rel=1e-4)


def test_soft_labels_and_centring_enter_the_loss(policy, tmp_path):
    rows = [dict(row, p1=0.5 + i / 20) for i, row in enumerate(pairs())]
    made, ready, _ = trainer(policy, tmp_path / "out", rows, "small", centre=0.01)
    chosen, rejected = deltas(made.model, ready)
    delta, p1 = chosen - rejected, np.array([row["p1"] for row in rows])
    wide = np.array([(row["strength"] - 1) / 3 for row in rows])
    each = p1 * np.logaddexp(0, wide - delta) + (1 - p1) * np.logaddexp(0, wide + delta)
    expected = each.mean() + 0.01 * ((chosen + rejected) ** 2).mean()
    assert step(made, ready).item() == pytest.approx(expected, rel=1e-4)


def test_a_nearly_hard_label_has_the_gradient_of_trls_hard_one(policy, tmp_path):
    gradients = []
    for number, p1 in enumerate((1.0, 1 - 1e-7)):  # the second takes our loss, the first TRL's
        made, ready, _ = trainer(policy, tmp_path / str(number), pairs(p1=p1), centre=0.01)
        step(made, ready)
        gradients.append([weight.grad.clone() for weight in made.model.parameters()])
    for hard, soft in zip(*gradients, strict=True):
        torch.testing.assert_close(hard, soft, atol=1e-5, rtol=1e-4)


def test_eight_micro_batches_of_one_have_the_gradient_of_one_batch_of_eight(policy, tmp_path):
    gradients = []
    for micro_batch in (None, 1, 3):
        folder = tmp_path / str(micro_batch)
        made, ready, _ = trainer(policy, folder, pairs(), "small", 0.01, micro_batch)
        step(made, ready)
        gradients.append([weight.grad.clone() for weight in made.model.parameters()])
    for other in gradients[1:]:
        for one, two in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_a_pair_stored_the_other_way_round_is_the_same_pair(policy):
    tokenizer = load_tokenizer(policy)
    swapped = [
        dict(row, chosen=row["rejected"], rejected=row["chosen"], p1=1 - row["p1"])
        for row in pairs(p1=0.75)
    ]
    assert encoded_pairs(tokenizer, swapped, 99) == encoded_pairs(tokenizer, pairs(p1=0.75), 99)


def test_equal_answers_and_long_ones_are_dropped_and_counted(policy):
    rows = pairs(3)
    rows[0]["rejected"] = rows[0]["chosen"]
    rows[1]["rejected"] = "x" * 300
    kept, dropped = encoded_pairs(load_tokenizer(policy), rows, 128)
    assert [row["prompt_id"] for row in kept] == [rows[2]["prompt_id"]]
    assert dropped == {"longer_than_max_length": 1, "equal_answers": 1}


def test_a_margin_without_strengths_is_an_error(policy, tmp_path):
    with pytest.raises(ValueError, match="needs pairs with a strength"):
        trainer(policy, tmp_path / "out", pairs(strength=None), "large")


@pytest.mark.parametrize("strength", [0, 5])
def test_a_strength_off_the_scale_of_the_annotators_is_an_error(policy, tmp_path, strength):
    with pytest.raises(ValueError, match="strength is"):
        trainer(policy, tmp_path / "out", pairs(strength=strength), "small")


def test_the_annotators_of_the_embedded_world_use_the_scale_that_margins_know():
    from harness.hamlet.annotators import strength

    assert {strength(gap / 100) for gap in range(500)} == set(pairwise.MARGINS["small"])


def test_an_axis_without_rows_is_an_error_naming_it(policy, tmp_path):
    data = artifact(tmp_path / "rows", pairs(axis="helpful"))
    with pytest.raises(ValueError, match="axis 'safe'"):
        fit_reward.body(Draft(tmp_path), policy, data, axis="safe", seed=0)


def test_axis_takes_the_rows_of_that_axis_alone(policy, tmp_path):
    for name in ("out", "half"):
        (tmp_path / name).mkdir()
    rows = pairs(16)
    data = artifact(tmp_path / "all", rows)
    safe = artifact(tmp_path / "safe", [row for row in rows if row["axis"] == "safe"])
    settings = {"batch_size": 4, "held_out": 0.25, "seed": 0}
    whole, half = Draft(tmp_path / "out"), Draft(tmp_path / "half")
    fit_reward.body(whole, policy, data, axis="safe", **settings)
    fit_reward.body(half, policy, safe, **settings)
    assert whole.counters["labels_used"] == 8
    for file in half.path.iterdir():
        assert (whole.path / file.name).read_bytes() == file.read_bytes()


def test_the_head_is_drawn_by_the_seed_at_the_scale_of_stiennon_et_al():
    body = random_llama(0, hidden_size=128)
    heads = [with_head(body, 0, seed).get_parameter("score.weight") for seed in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    many = torch.cat([with_head(body, 0, seed).score.weight.flatten() for seed in range(20)])
    assert many.std().item() == pytest.approx(1 / math.sqrt(129), rel=0.05)


def test_the_body_of_a_fresh_reward_model_is_the_policys(policy):
    base = load_policy(policy)
    model = with_head(base, 0, 0)
    ids = torch.tensor([[5, 6, 7, 8]])
    ours, theirs = (m.base_model(ids).last_hidden_state for m in (model, base))
    assert torch.equal(ours, theirs)


def test_padding_and_company_change_no_score(policy):
    model = with_head(load_policy(policy), 0, 0)
    sequences = [list(range(5, 5 + n)) for n in (3, 30, 11)]
    together = scores(model, 0, sequences)
    alone = [scores(model, 0, [ids])[0] for ids in sequences]
    assert together == pytest.approx(alone, abs=1e-5)


def test_pairs_of_one_prompt_fall_on_one_side_of_the_split():
    rows = [{"prompt_id": f"p{i // 3}"} for i in range(60)]
    train, test = split_by_prompt(rows, 0.25, seed=0)
    assert len(test) == 15
    assert not {row["prompt_id"] for row in train} & {row["prompt_id"] for row in test}
    assert split_by_prompt(rows, 0.25, seed=1)[1] != test
    assert split_by_prompt(rows, 0.0, seed=0) == (rows, [])


def test_normalised_references_have_mean_zero_and_deviation_one():
    raw = np.array([1.0, 2.0, 4.0, 9.0])
    norm = normalisation(raw, True)
    scaled = norm["gain"] * raw + norm["bias"]
    assert scaled.mean() == pytest.approx(0)
    assert scaled.std() == pytest.approx(1)
    assert normalisation(raw, False) == {**norm, "gain": 1.0, "bias": 0.0}
    constant = normalisation(np.array([3.0, 3.0]), True)
    assert (constant["gain"], constant["bias"]) == (1.0, -3.0)


def rated(*p1, lengths=None):
    lengths = lengths or [(2, 1)] * len(p1)
    return [
        {"p1": p, "strength": None, "chosen_ids": [0] * a, "rejected_ids": [0] * b}
        for p, (a, b) in zip(p1, lengths, strict=True)
    ]


def test_calibration_counts_ties_one_half_and_groups_by_length_with_n():
    found = calibration(
        np.array([2.0, -1.0, 0.0, 3.0]),
        rated(1.0, 1.0, 1.0, 1.0, lengths=[(2, 1), (1, 2), (1, 1), (3, 1)]),
    )
    assert found["n"] == 4
    assert found["accuracy"] == pytest.approx(2.5 / 4)
    assert found["nll"] == pytest.approx((0.126928 + 1.313262 + 0.693147 + 0.048587) / 4, abs=1e-6)
    assert found["by_length_of_the_better"] == {
        "equal": {"accuracy": 0.5, "n": 1},
        "longer": {"accuracy": 1.0, "n": 2},
        "shorter": {"accuracy": 0.0, "n": 1},
    }
    assert calibration(np.array([]), []) == {"n": 0}


def test_a_soft_label_agrees_with_the_better_answer_p1_of_the_time():
    found = calibration(np.array([1.0, -1.0]), rated(0.8, 0.6))
    assert found["accuracy"] == pytest.approx((0.8 + 0.4) / 2)


def test_calibration_error_is_zero_when_confidence_is_what_happens():
    rng = np.random.default_rng(0)
    delta = rng.normal(0, 2, 20_000)
    right = rng.random(20_000) < 1 / (1 + np.exp(-delta))
    flipped = np.where(right, delta, -delta)
    agrees = (flipped > 0).astype(float)
    assert expected_calibration_error(flipped, agrees) < 0.02
    assert expected_calibration_error(3 * flipped, agrees) > 0.08
    ones = np.ones(20_000)
    assert best_temperature(flipped, ones) == pytest.approx(1.0, abs=0.05)
    assert best_temperature(3 * flipped, ones) == pytest.approx(3.0, abs=0.15)


def test_flips_of_a_quarter_give_the_bayes_gap_and_loss_of_the_literature():
    p1 = np.full(1000, 0.75)
    gap = 1 / best_temperature(np.ones(1000), p1)
    assert gap == pytest.approx(math.log(3), abs=1e-3)
    assert nll(np.full(1000, math.log(3)), p1) == pytest.approx(0.562335, abs=1e-6)


@pytest.fixture(scope="module")
def fitted(make):
    """Return a reward model fitted on 64 pairs of which the polite answer is preferred."""
    data = tiny_pairs(n=64, seed=0)
    settings = {"learning_rate": 3e-3, "epochs": 4, "batch_size": 8, "held_out": 0.25}
    return make(fit_reward(tiny_policy(seed=0), data, **settings, seed=0))


def test_it_learns_the_preference_on_prompts_held_out(fitted):
    found = json.loads((fitted.path / "calibration.json").read_text())
    assert found["n"] == 16
    assert found["accuracy"] > 0.9
    assert sum(group["n"] for group in found["by_strength"].values()) == 16


@pytest.mark.slow
def test_it_learns_nothing_from_labels_drawn_by_lot(make, tmp_path):
    from tiny import questions

    rows = []
    for number, row in enumerate(questions(200, 1)):
        sides = [f"please, {number} it is", f"{number} no"]
        first = int(np.random.default_rng([number, 5]).random() < 0.5)
        chosen = {"chosen": sides[first], "rejected": sides[1 - first]}
        rows.append({**pairs(1)[0], **row, **chosen, "pair_id": str(number)})
    (tmp_path / "out").mkdir()
    data, out = artifact(tmp_path / "rows", rows), Draft(tmp_path / "out")
    settings = {"learning_rate": 3e-3, "epochs": 1, "batch_size": 8, "held_out": 0.5}
    fit_reward.body(out, make(tiny_policy(seed=0)), data, **settings, seed=0)
    found = json.loads((out.path / "calibration.json").read_text())
    assert found["n"] == 100
    assert abs(found["accuracy"] - 0.5) < 4 * 0.05


def test_the_artifact_scores_as_it_did_in_training_on_its_normalised_scale(fitted, make):
    norm = json.loads((fitted.path / "norm.json").read_text())
    data = make(tiny_pairs(n=64, seed=0))
    answers = [
        Answer(row["prompt_id"], row["messages"], row[side])
        for side in ("chosen", "rejected")
        for row in data
    ]
    found = np.array(rewards(fitted, answers))
    assert norm["n"] == len(found) == 128
    assert found.mean() == pytest.approx(0, abs=1e-5)
    assert found.std() == pytest.approx(1, abs=1e-5)
    model, tokenizer = load_reward(fitted), load_tokenizer(fitted)
    one = answers[3]
    raw = scores(model, tokenizer.pad_token_id, [encode(tokenizer, one.messages, one.completion)])
    assert found[3] == pytest.approx(norm["gain"] * raw[0] + norm["bias"], abs=1e-5)


def test_the_artifact_holds_what_it_should_and_no_pickle(fitted):
    assert {file.name for file in fitted.path.iterdir()} == {
        "calibration.json",
        "chat_template.jinja",
        "config.json",
        "curves.csv",
        "format.json",
        "generation.json",
        "model.safetensors",
        "norm.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert isinstance(fitted, RewardModel)
    assert format_digest(load_tokenizer(fitted)) in (fitted.path / "format.json").read_text()


FLAGGED = [(True, False), (True, True), (False, False), (None, None)]


def flagged(n=8):
    names = ("chosen_safe", "rejected_safe")
    return [
        dict(row, **dict(zip(names, FLAGGED[i % 4], strict=True))) for i, row in enumerate(pairs(n))
    ]


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_the_safety_loss_is_of_flagged_answers_beside_the_ranking_of_all(
    policy, tmp_path, micro_batch
):
    tokenizer = load_tokenizer(policy)
    encoded, _ = encoded_pairs(tokenizer, flagged(), 1024)
    ready = with_flags(with_margins(encoded, "small"), encoded, 0.3)
    job = Job(
        Draft(tmp_path, micro_batch=micro_batch), planned_batches([1] * 8, RECIPE), "fit_reward"
    )
    model = with_head(load_policy(policy), tokenizer.pad_token_id, 0)
    made = pairwise.trainer_for(model, tokenizer, ready, RECIPE, job, 0.0, 0.3)
    chosen, rejected = deltas(made.model, ready)
    wide = np.array([(row["strength"] - 1) / 3 for row in encoded])
    each = np.logaddexp(0, wide - (chosen - rejected))
    for i, safe in enumerate(FLAGGED * 2):
        if safe[0] is not None:
            signs = [1 if flag else -1 for flag in safe]
            both = [
                np.logaddexp(0, -s * r[i]) for s, r in zip(signs, (chosen, rejected), strict=True)
            ]
            each[i] += 0.3 * np.mean(both)
    assert step(made, ready).item() == pytest.approx(each.mean(), rel=1e-4)


def test_a_pair_stored_the_other_way_round_keeps_its_flags_at_its_answers(policy):
    tokenizer = load_tokenizer(policy)
    turned = [
        dict(
            row,
            chosen=row["rejected"],
            rejected=row["chosen"],
            chosen_safe=row["rejected_safe"],
            rejected_safe=row["chosen_safe"],
            p1=0.0,
        )
        for row in flagged()
    ]
    assert encoded_pairs(tokenizer, turned, 99) == encoded_pairs(tokenizer, flagged(), 99)


def test_pairs_whose_unsafe_answer_was_preferred_to_a_safe_one_are_left_out():
    rows = [{"chosen_safe": a, "rejected_safe": b} for a, b in [*FLAGGED[:3], (False, True)]]
    assert without_unsafe_preferred([*rows, {}]) == ([*rows[:3], {}], 1)


def test_a_safety_loss_without_flags_is_refused(policy, tmp_path):
    data = artifact(tmp_path / "rows", pairs())
    with pytest.raises(ValueError, match="chosen_safe and rejected_safe"):
        fit_safe_reward.body(Draft(tmp_path), policy, data, seed=0)


def test_recall_of_unsafe_is_at_one_half_of_the_probability():
    found = recall_of_unsafe(
        np.array([-1.0, 2.0, -0.1, 3.0, 0.0]), [False, False, True, True, True]
    )
    assert found == {"n": 5, "unsafe": 2, "recall": 0.5, "false_alarms": pytest.approx(1 / 3)}
    assert recall_of_unsafe(np.array([1.0]), [True]) == {"n": 1, "unsafe": 0, "false_alarms": 0}


def separated(policy, folder, rows, settings, flags=None):
    """Return the share of answers to other prompts that s(r) puts on the right side of 1/2.

    flags: what the safety loss is told of each pair's answers; None leaves that loss out.
    """
    out = Draft(folder)
    out.path.mkdir()
    told = rows if flags is None else [{**r, **f} for r, f in zip(rows, flags, strict=True)]
    data = artifact(folder / "rows", told)
    if flags is None:
        fit_reward.body(out, policy, data, **settings, normalise=False, seed=0)
    else:
        fit_safe_reward.body(out, policy, data, **settings, safety=1.0, seed=0)
    model = RewardModel("model", path=out.path)
    asked = [{"role": "user", "content": "900 wood"}]
    said = {f"{text}{n}": text.startswith("p") for n in range(5) for text in SAID}
    scores = rewards(model, [Answer("new", asked, text) for text in said])
    return np.mean([(score > 0) == safe for score, safe in zip(scores, said.values(), strict=True)])


def test_labels_of_one_half_teach_a_reward_model_that_nothing_is_better(policy, tmp_path):
    """The spread of scores of the pairs shrinks towards 0, which hard labels widen."""
    spread = {}
    for name, p1, rate in (("fresh", 0.5, 0.0), ("even", 0.5, 3e-3), ("hard", 1.0, 3e-3)):
        given = [dict(row, p1=p1, axis="helpful") for row in pairs(48)]
        out = Draft(tmp_path / name)
        out.path.mkdir()
        data, how = artifact(tmp_path / f"{name}-rows", given), {"epochs": 20, "batch_size": 16}
        fit_reward.body(out, policy, data, **how, learning_rate=rate, normalise=False, seed=0)
        model = RewardModel("model", path=out.path)
        sides = [
            rewards(model, [Answer(r["prompt_id"], r["messages"], r[side]) for r in given])
            for side in ("chosen", "rejected")
        ]
        spread[name] = np.mean(np.abs(np.subtract(*sides)))
    assert spread["even"] < spread["fresh"] / 3
    assert spread["hard"] > 3 * spread["fresh"]


SAID = ("please, ", "please, yes ", "no, ", "no, bad ")


@pytest.mark.slow
def test_flags_teach_what_is_safe_and_permuted_flags_do_not(policy, tmp_path):
    from tiny import questions

    known = [(0, 2, True, False), (1, 0, True, True), (3, 2, False, False)]
    rows, flags = [], []
    for number, row in enumerate(questions(96, 2)):
        one, other, *safe = known[number % 3]
        sides = {"chosen": f"{SAID[one]}{number}", "rejected": f"{SAID[other]}{number}"}
        rows.append({**pairs(1)[0], **row, **sides, "pair_id": str(number)})
        flags.append(dict(zip(("chosen_safe", "rejected_safe"), safe, strict=True)))
    settings = {"learning_rate": 3e-3, "epochs": 4, "batch_size": 8, "held_out": 0.0}
    dealt = random.Random(0).sample(flags, len(flags))
    right = [
        separated(policy, tmp_path / str(number), rows, settings, told)
        for number, told in enumerate((None, flags, dealt))
    ]
    assert right[1] > 0.95
    assert right[1] > right[0] + 0.1
    assert right[1] > right[2] + 0.1


@pytest.mark.slow
def test_the_safety_loss_raises_the_recall_of_unsafe_answers_at_one_half(policy, tmp_path):
    """Both answers of a third of the pairs are unsafe: ranking alone cannot tell them from safe."""
    from tiny import questions

    rows = []
    for number, row in enumerate(questions(96, 2)):
        kind = number % 3
        said = [["please, ", "no, "], ["please, yes ", "please, "], ["no, bad ", "no, "]][kind]
        flags = [(True, False), (True, True), (False, False)][kind]
        sides = {"chosen": f"{said[0]}{number}", "rejected": f"{said[1]}{number}"}
        safe = dict(zip(("chosen_safe", "rejected_safe"), flags, strict=True))
        rows.append({**pairs(1)[0], **row, **sides, **safe, "pair_id": str(number)})
    data = artifact(tmp_path / "rows", rows)
    settings = {"learning_rate": 3e-3, "epochs": 4, "batch_size": 8, "held_out": 0.25}
    found = []
    for stage, own in ((fit_reward, {"normalise": False}), (fit_safe_reward, {"safety": 1.0})):
        out = Draft(tmp_path / stage.name)
        out.path.mkdir()
        stage.body(out, policy, data, **settings, **own, seed=0)
        found.append(json.loads((out / "calibration.json").read_text())["safety"])
        norm = json.loads((out / "norm.json").read_text())
        assert (norm["gain"], norm["bias"]) == (1.0, 0.0)
    ranked, safe = found
    assert safe["n"] == ranked["n"] == 48
    assert safe["recall"] > 0.9
    assert safe["false_alarms"] < 0.1
    assert safe["recall"] - safe["false_alarms"] > ranked["recall"] - ranked["false_alarms"]
