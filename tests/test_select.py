"""Keeping the better answers: per prompt, over pools, by quantile and threshold; parts of data."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import questions, tiny_demonstrations, tiny_pairs, tiny_policy, tiny_prompts

from harness.artifacts import Samples, ScoredSamples, write_rows
from harness.best_of_n_curves import expected_best
from harness.draft import Draft
from harness.judge import Contains
from harness.stages.sample import sample, score
from harness.stages.select import (
    as_answers,
    keep_above,
    keep_best,
    keep_quantile,
    kept_of,
    pairs_to,
    portion,
    under_goal,
)
from harness.tiny import END, byte_tokenizer


def answer(prompt, text, reward, *, tokens=3, finished=True, sample=0):
    return {
        "prompt_id": prompt,
        "sample": sample,
        "messages": [{"role": "user", "content": prompt}],
        "completion": text,
        "token_ids": [5] * tokens,
        "logp": -1.0,
        "finished": finished,
        "tag": "general",
        "cluster": "c",
        "reward": reward,
    }


@pytest.fixture
def pool(tmp_path):
    """Return a function that stores rows as an artifact."""

    def stored(rows, kind=ScoredSamples):
        folder = tmp_path / f"pool-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        write_rows(Draft(folder), rows)
        return kind(folder.name, path=folder)

    return stored


@pytest.fixture
def kept(tmp_path):
    """Return a function that runs a stage on pools and returns the rows it keeps."""

    def run(stage, *pools, **settings):
        out = Draft(tmp_path / f"out-{len(list(tmp_path.iterdir()))}")
        out.path.mkdir()
        stage.body(out, pools, **settings)
        run.facts = out.facts
        return ScoredSamples("out", path=out.path).rows()

    return run


def ladder(prompts=3, answers=10):
    """Return answers of every prompt whose rewards climb from 0, other ones for each prompt."""
    return [
        answer(f"p{p}", f"{p}/{a}", a + 10.0 * p, sample=a)
        for p in range(prompts)
        for a in range(answers)
    ]


def test_the_best_answer_to_each_prompt_is_kept_whatever_other_prompts_earn(pool, kept):
    assert [r["completion"] for r in kept(keep_best, pool(ladder()))] == ["0/9", "1/9", "2/9"]


def test_the_best_of_all_pools_is_never_below_the_best_of_one(pool, kept):
    new = [answer(f"p{n}", f"new {n}", r) for n, r in enumerate([1.0, 5.0, 3.0])]
    old = [answer(f"p{n}", f"old {n}", r) for n, r in enumerate([2.0, 4.0, 3.5])]
    one = {r["prompt_id"]: r["reward"] for r in kept(keep_best, pool(new))}
    both = {r["prompt_id"]: r["reward"] for r in kept(keep_best, pool(new), pool(old))}
    assert both == {"p0": 2.0, "p1": 5.0, "p2": 3.5}
    assert all(both[prompt] >= reward for prompt, reward in one.items())


def test_ties_go_to_the_shortest_and_then_to_the_first(pool, kept):
    rows = [
        answer("p", "long", 1.0, tokens=9),
        answer("p", "short", 1.0, tokens=2),
        answer("p", "as short", 1.0, tokens=2),
        answer("p", "bad", 0.0, tokens=1),
    ]
    found = kept(keep_best, pool(rows), count=4)
    assert [row["completion"] for row in found] == ["short", "as short", "long", "bad"]


def test_unfinished_answers_and_repetitions_are_left_out_and_counted(pool, kept):
    rows = [
        answer("p", "cut off", 9.0, finished=False),
        answer("p", "same", 2.0),
        answer("p", "other", 1.0),
        answer("p", "same", 2.0, sample=1),
        answer("q", "cut off", 9.0, finished=False),
    ]
    found = kept(keep_best, pool(rows), count=3)
    assert [row["completion"] for row in found] == ["same", "other"]
    assert kept.facts["unfinished"] == 2
    assert kept.facts["duplicates"] == 1
    assert kept.facts["prompts_without_answer"] == 1


def test_a_repetition_keeps_the_place_of_its_best_reward(pool, kept):
    rows = [answer("p", "same", 1.0), answer("p", "other", 2.0), answer("p", "same", 3.0)]
    found = kept(keep_best, pool(rows), count=3)
    assert [(row["completion"], row["reward"]) for row in found] == [("same", 3.0), ("other", 2.0)]


def test_a_quantile_keeps_the_share_of_each_prompts_answers_rounded_up(pool, kept):
    samples = pool(ladder(answers=10))
    for quantile, count in ((0.0, 10), (0.5, 5), (0.7, 3), (0.8, 2), (0.9, 1), (0.95, 1)):
        found = kept(keep_quantile, samples, quantile=quantile)
        assert [row["prompt_id"] for row in found].count("p0") == count
        assert len(found) == 3 * count


@given(st.integers(1, 200), st.integers(1, 200))
def test_a_quantile_of_whole_answers_keeps_exactly_the_others(answers, dropped):
    dropped = min(dropped, answers - 1)
    assert kept_of(answers, dropped / answers) == answers - dropped


def test_no_prompt_loses_all_answers_by_quantile_as_it_does_by_a_pooled_threshold(pool, kept):
    samples = pool(ladder())
    by_quantile = {row["prompt_id"] for row in kept(keep_quantile, samples, quantile=0.99)}
    pooled = {row["prompt_id"] for row in kept(keep_above, samples, threshold=0.9)}
    assert by_quantile == {"p0", "p1", "p2"}
    assert pooled == {"p2"}


@pytest.mark.parametrize(
    ("stage", "name", "levels"),
    [
        (keep_quantile, "quantile", (0.0, 0.5, 0.7, 0.8, 0.9)),
        (keep_above, "threshold", (0.0, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)),
    ],
)
def test_rising_thresholds_keep_nested_sets_of_rising_reward(pool, kept, stage, name, levels):
    rows = [
        answer(f"p{p}", f"{p}/{a}", math.sin(7 * p + 3 * a), tokens=1 + a % 3, sample=a)
        for p in range(20)
        for a in range(8)
    ]
    sets = [kept(stage, pool(rows), **{name: level}) for level in levels]
    assert len(sets[0]) == len(rows)
    everything = sum(row["reward"] for row in rows) / len(rows)
    for wide, narrow in pairwise(sets):
        assert {r["completion"] for r in narrow} <= {r["completion"] for r in wide}
    for found in sets:
        assert sum(row["reward"] for row in found) / len(found) >= everything - 1e-12


def test_a_pooled_threshold_is_between_the_lowest_and_the_highest_reward(pool, kept):
    rows = [answer("p", str(r), r) for r in (-2.0, 0.0, 1.0, 2.0)]
    found = kept(keep_above, pool(rows), threshold=0.75)
    assert [row["reward"] for row in found] == [2.0, 1.0]  # -2 + 0.75 * 4 = 1, which is kept


def test_a_prompts_threshold_is_between_its_mean_and_its_highest_reward(pool, kept):
    rows = [answer("p", str(r), r) for r in (0.0, 1.0, 2.0, 5.0)]  # mean 2
    rows += [answer("q", f"q{r}", r) for r in (-9.0, -1.0)]  # mean -5
    at = {0.0: [5.0, 2.0, -1.0], 1.0: [5.0, -1.0]}
    for threshold, rewards in at.items():
        found = kept(keep_above, pool(rows), threshold=threshold, scale="prompt")
        assert [row["reward"] for row in found] == rewards


def test_a_raw_threshold_keeps_right_answers_up_to_a_cap_and_may_find_none(pool, kept):
    rows = [answer("p", f"{n}", float(n % 2), sample=n) for n in range(8)]
    found = kept(keep_above, pool(rows), threshold=1.0, scale="raw", at_most=3)
    assert [row["completion"] for row in found] == ["1", "3", "5"]
    with pytest.raises(ValueError, match="lower it"):
        kept(keep_above, pool(rows), threshold=2.0, scale="raw")


@pytest.mark.parametrize("scale", ["pooled", "prompt", "raw"])
def test_a_prompt_whose_answers_do_not_end_keeps_none_and_hinders_no_other(pool, kept, scale):
    rows = [answer("p", "cut", 9.0, finished=False), answer("q", "whole", 1.0)]
    found = kept(keep_above, pool(rows), threshold=1.0, scale=scale)
    assert [row["completion"] for row in found] == ["whole"]
    with pytest.raises(ValueError, match="max_new_tokens"):
        kept(keep_above, pool(rows[:1]), threshold=1.0, scale=scale)


def test_answers_none_of_which_ends_are_refused(pool, kept):
    with pytest.raises(ValueError, match="max_new_tokens"):
        kept(keep_best, pool([answer("p", "x", 1.0, finished=False)]))


def test_the_mean_best_of_k_never_falls_with_k_and_is_what_the_unbiased_estimator_says(pool, kept):
    rows = [
        answer(f"p{p}", f"{p}/{a}", math.cos(5 * p + a * a), sample=a)
        for p in range(6)
        for a in range(6)
    ]
    best = [row["reward"] for row in kept(keep_best, pool(rows))]
    groups = [[r["reward"] for r in rows if r["prompt_id"] == f"p{p}"] for p in range(6)]
    estimates = [sum(expected_best(group, group, k) for group in groups) / 6 for k in range(1, 7)]
    assert estimates == sorted(estimates)
    assert sum(best) / 6 == pytest.approx(estimates[-1])


def test_portions_that_touch_share_no_prompt_and_together_are_all(make):
    prompts = tiny_prompts(n=10, seed=0)
    ends = (0.0, 1 / 3, 2 / 3, 1.0)
    parts = [make(portion(prompts, start=a, end=b, seed=4)).rows() for a, b in pairwise(ends)]
    ids = [row["prompt_id"] for part in parts for row in part]
    assert sorted(ids) == sorted(row["prompt_id"] for row in questions(10, 0))
    assert sorted(map(len, parts)) == [3, 3, 4]
    other = make(portion(prompts, start=0.0, end=1 / 3, seed=5)).rows()
    assert {r["prompt_id"] for r in other} != {r["prompt_id"] for r in parts[0]}


def test_a_whole_portion_has_the_bytes_of_the_prompts(make):
    prompts = tiny_prompts(n=10, seed=0)
    whole = make(portion(prompts, start=0.0, end=1.0, seed=4))
    assert whole.rows() == make(prompts).rows()


@pytest.mark.parametrize("ends", [(0.5, 0.5), (0.0, 1.1), (-0.1, 0.5), (0.0, 0.01)])
def test_a_portion_without_prompts_is_refused(make, tmp_path, ends):
    with pytest.raises(ValueError, match=r"portion|none"):
        portion.body(
            Draft(tmp_path), make(tiny_prompts(n=10, seed=0)), start=ends[0], end=ends[1], seed=0
        )


def test_pairs_to_a_portion_of_the_prompts_are_those_prompts_pairs(make, tmp_path):
    some = portion(tiny_prompts(n=10, seed=0), start=0.0, end=0.5, seed=0)
    pairs = make(pairs_to(tiny_pairs(n=10, seed=0), some)).rows()
    assert [p["prompt_id"] for p in pairs] == [row["prompt_id"] for row in make(some)]
    with pytest.raises(ValueError, match="no pair"):
        pairs_to.body(
            Draft(tmp_path), make(tiny_pairs(n=10, seed=1)), make(tiny_prompts(n=10, seed=0))
        )


def test_a_goal_changes_what_the_policy_reads_and_not_what_a_judge_sees(make):
    policy, prompts = tiny_policy(seed=0), tiny_prompts(n=8, seed=0)
    settings = {"n": 1, "temperature": 1.0, "max_new_tokens": 8, "seed": 1}
    goal = "Give an answer that is helpful and harmless."
    plain, asked, unasked = (
        make(sample(p, prompts, **settings)).rows()
        for p in (policy, under_goal(policy, goal=goal), under_goal(policy, goal=""))
    )
    assert [r["token_ids"] for r in plain] != [r["token_ids"] for r in asked]
    assert [r["token_ids"] for r in plain] == [r["token_ids"] for r in unasked]
    assert [r["messages"] for r in plain] == [r["messages"] for r in asked]
    assert not any(goal in str(row["messages"]) for row in asked)


def test_demonstrations_are_scored_and_kept_like_answers(make, kept):
    demonstrations = tiny_demonstrations(n=6, seed=0)
    answers = as_answers(demonstrations, policy=tiny_policy(seed=0))
    rows = make(answers).rows()
    assert set(rows[0]) == set(Samples.columns)
    assert [r["completion"] for r in rows] == [r["completion"] for r in make(demonstrations)]
    tokenizer = byte_tokenizer()
    assert [tokenizer.decode(r["token_ids"][:-1]) for r in rows] == [r["completion"] for r in rows]
    assert {row["token_ids"][-1] for row in rows} == {END}
    scored = make(score(answers, judge=Contains("town")))
    found = kept(keep_above, scored, threshold=1.0, scale="raw")
    assert [row["completion"] for row in found] == [
        row["completion"] for row in rows if "town" in row["completion"]
    ]
