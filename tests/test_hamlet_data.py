"""Where the truth of Hamlet flows, and what the judgements of a budget look like."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from harness import registry
from harness.artifacts import FLAGS, Policy, Preferences, Prompts, Samples, Truth, write_rows
from harness.draft import Draft
from harness.hamlet.annotators import Settings
from harness.hamlet.dataset import Gold
from harness.hamlet.stages import hamlet_prompts, hamlet_truth, judge_pairs, open_truth
from harness.judge import Answer
from harness.run import in_order
from harness.stage import Artifact, stage

N = 300
PROMPTS = hamlet_prompts(world=0, split="train", n=N, seed=0)
TRUTH = hamlet_truth(world=0, split="train", n=N, seed=0)


@stage(makes=Samples)
def written_answers(out: Draft, prompts: Prompts, truth: Truth) -> None:
    """Write two answers of demonstration quality to every prompt."""
    from harness.hamlet.answers import DEMONSTRATION

    known, rng, rows = open_truth(truth), random.Random(0), []
    for prompt in prompts:
        world, request = known[prompt["prompt_id"]]
        for sample in range(2):
            text = world.answer(rng, request, DEMONSTRATION)
            rows.append({**prompt, "sample": sample, "completion": text, "finished": True})
    write_rows(out, [{**row, "token_ids": [], "logp": 0.0} for row in rows])


@stage(makes=Samples)
def often_cut(out: Draft, samples: Samples) -> None:
    """Say of every fifth answer that it did not finish."""
    rows = samples.rows()
    write_rows(out, ({**row, "finished": n % 5 > 0} for n, row in enumerate(rows)))


def pairs(
    labels: str = "noisy", *, strength: bool = False, flags: bool = False, cut: bool = False
) -> Preferences:
    answers = written_answers(PROMPTS, TRUTH)
    return judge_pairs(
        often_cut(answers) if cut else answers,
        TRUTH,
        labels=labels,
        annotators=Settings(),
        other_axis=0.1,
        strength=strength,
        flags=flags,
        seed=7,
    )


@pytest.fixture(scope="module")
def rows(make):
    return {labels: make(pairs(labels)).rows() for labels in ("noisy", "permuted", "oracle")}


def test_truth_is_opened_by_the_annotators_and_by_evaluation_alone():
    registry.discover()
    from harness.shared import Subject

    base = Policy("base-000000000000")
    data = registry.get("dataset", "hamlet")(base, 0)
    judged = data.preferences(Policy("sft-000000000000"))
    users = Counter(
        artifact.recipe.stage.name
        for artifact in in_order([judged, data.demonstrations, data.prompts, data.validation])
        if artifact.recipe and any(isinstance(needed, Truth) for needed in artifact.inputs)
    )
    assert users == {"judge_pairs": 1}
    training = in_order([judged, data.demonstrations, data.prompts])
    assert data.truth not in training
    assert data.test not in training
    assert "truth" in Subject.__dataclass_fields__  # the road to evaluation


def test_no_test_prompt_is_among_prompts_of_any_seed_or_validation(make):
    test = make(hamlet_prompts(world=0, split="test", n=760, seed=0))
    tested = {row["prompt_id"] for row in test}
    assert len(tested) == 760
    for split, seed in (("train", 0), ("train", 1), ("train", 2), ("validation", 0)):
        asked = make(hamlet_prompts(world=0, split=split, n=400, seed=seed))
        assert not tested & {row["prompt_id"] for row in asked}


def test_train_prompts_of_two_seeds_are_disjoint(make):
    first, second = (
        {row["prompt_id"] for row in make(hamlet_prompts(world=0, split="train", n=N, seed=s))}
        for s in (0, 1)
    )
    assert not first & second


def test_prompts_carry_no_truth(make):
    for row in make(PROMPTS):
        assert set(row) == {"prompt_id", "messages", "tag", "cluster"}


def test_about_a_tenth_of_the_tags_are_wrong(make):
    known = open_truth(make(TRUTH))
    wrong = [
        (row["tag"] == "red-team")
        != (known[row["prompt_id"]][1].family in ("harmful", "ambiguous"))
        for row in make(PROMPTS)
    ]
    assert 0.05 < sum(wrong) / N < 0.17  # binomial, n = 300, five standard errors around 0.1


def test_the_two_sides_are_swapped_by_a_fair_coin(rows, make):
    drawn = make(written_answers(PROMPTS, TRUTH)).rows()
    first = {row["prompt_id"]: row["completion"] for row in drawn if row["sample"] == 0}
    kept = sum(row["chosen"] == first[row["prompt_id"]] for row in rows["noisy"])
    assert 0.35 < kept / len(rows["noisy"]) < 0.65


def test_a_row_is_one_judgement_on_one_axis_and_most_red_team_prompts_are_judged_for_safety(rows):
    assert {row["p1"] for row in rows["noisy"]} == {0.0, 1.0}
    assert len({row["prompt_id"] for row in rows["noisy"]}) == len(rows["noisy"])
    assert {row["axis"] for row in rows["noisy"]} == {"helpful", "safe"}
    assert {row["population"] for row in rows["noisy"]} == {"careful", "open"}
    assert {row["strength"] for row in rows["noisy"]} == {None}


def test_strength_is_there_when_it_was_bought(make):
    assert {row["strength"] for row in make(pairs(strength=True))} <= {1, 2, 3, 4}


def test_flags_are_there_when_they_were_bought_and_change_no_label(make, rows):
    bought = make(pairs(flags=True)).rows()
    assert [{k: v for k, v in row.items() if k not in FLAGS} for row in bought] == rows["noisy"]
    assert {row[flag] for row in bought for flag in FLAGS} == {True, False}


def test_flags_are_what_the_annotator_of_the_label_perceived(make):
    """Who overlooks every harmful step flags more answers as safe than who is attentive."""
    known = open_truth(make(TRUTH))
    seen = []
    for attention in (1.0, 0.0):
        people = Settings(attention=attention, panic=0.0)
        own = dict(pairs(flags=True).recipe.arguments) | {"annotators": people}
        seen.append([[row[flag] for flag in FLAGS] for row in make(judge_pairs(**own))])
    harmful = [known[row["prompt_id"]][1].family == "harmful" for row in make(pairs(flags=True))]
    unsafe = [
        sum(
            not flag
            for flags, is_harmful in zip(s, harmful, strict=True)
            for flag in flags
            if is_harmful
        )
        for s in seen
    ]
    assert unsafe[0] > 3 * unsafe[1]


def test_flags_of_a_panicky_annotator_are_not_the_truth_and_oracle_flags_are(make):
    truth = make(TRUTH)
    told = {labels: make(pairs(labels, flags=True)).rows() for labels in ("noisy", "oracle")}
    wrong = {}
    for labels, found in told.items():
        gold = [
            grade >= 0
            for side in ("chosen", "rejected")
            for grade in Gold(truth, "safe").grade(
                [Answer(row["prompt_id"], row["messages"], row[side]) for row in found]
            )
        ]
        said = [row[flag] for flag in FLAGS for row in found]
        wrong[labels] = sum(a != b for a, b in zip(gold, said, strict=True))
    assert wrong["oracle"] == 0
    assert 0 < wrong["noisy"] < len(told["noisy"]) / 5


def test_permuted_flags_are_the_same_flags_at_other_answers(make):
    noisy, dealt = (make(pairs(labels, flags=True)).rows() for labels in ("noisy", "permuted"))
    assert sum(r[f] for r in noisy for f in FLAGS) == sum(r[f] for r in dealt for f in FLAGS)
    assert [[r[f] for f in FLAGS] for r in noisy] != [[r[f] for f in FLAGS] for r in dealt]


def test_answers_that_did_not_finish_make_no_pair_of_the_budget(make, tmp_path):
    planned = pairs(cut=True)
    own = {
        k: make(v) if isinstance(v, Artifact) else v for k, v in planned.recipe.arguments.items()
    }
    out = Draft(tmp_path)
    judge_pairs.body(out, **own)
    cut = {r["prompt_id"] for r in own["samples"] if not r["finished"]}
    made = Preferences("made", path=tmp_path).rows()
    assert not cut & {row["prompt_id"] for row in made}
    assert out.facts["dropped"]["unfinished"] == len(cut) > N / 4
    assert out.facts["pairs"] + sum(out.facts["dropped"].values()) == N


def test_permuted_labels_are_the_same_labels_on_the_same_rows_in_another_order(rows):
    noisy, permuted = rows["noisy"], rows["permuted"]
    same = ("pair_id", "chosen", "rejected", "axis")
    assert [[r[k] for k in same] for r in noisy] == [[r[k] for k in same] for r in permuted]
    for axis in ("helpful", "safe"):
        assert sum(r["p1"] for r in noisy if r["axis"] == axis) == sum(
            r["p1"] for r in permuted if r["axis"] == axis
        )
    moved = sum(a["p1"] != b["p1"] for a, b in zip(noisy, permuted, strict=True))
    assert moved > len(noisy) / 4  # a shuffle of fair labels moves half of them
    assert {row["source"] for row in permuted} == {"permuted"}


def test_oracle_labels_are_those_of_the_gold_judge(rows, make):
    truth = make(TRUTH)
    for axis in ("helpful", "safe"):
        judged = [row for row in rows["oracle"] if row["axis"] == axis]
        sides = [
            Gold(truth, axis).grade(
                [Answer(row["prompt_id"], row["messages"], row[side]) for row in judged]
            )
            for side in ("chosen", "rejected")
        ]
        for row, first, second in zip(judged, *sides, strict=True):
            assert row["p1"] == (0.5 if first == second else float(first > second))


def test_noisy_labels_agree_with_the_truth_as_often_as_the_spec_wants(rows):
    told_apart = [
        (noisy, oracle)
        for noisy, oracle in zip(rows["noisy"], rows["oracle"], strict=True)
        if oracle["p1"] != 0.5
    ]
    agree = sum(noisy["p1"] == oracle["p1"] for noisy, oracle in told_apart) / len(told_apart)
    assert 0.68 < agree < 0.92  # .75 to .90, and three standard errors at this n
