"""The ladder of best-of-n against an enumeration of all subsets; which reward a row is read by."""

from __future__ import annotations

import itertools
import statistics
from dataclasses import replace

import pytest
from test_suites import WORLD, made, truth_of

from evals.corrupted import CORRUPTIONS
from evals.overoptimisation import (
    SHEET,
    Draws,
    grade_overoptimisation,
    ladder,
    median_of,
    overoptimisation,
    reward_of,
    sizes,
    unrewarded,
)
from harness import Draft, Gated, Reward, ScoredSamples, registry
from harness.hamlet.gold import grade
from harness.hamlet.requests import World
from harness.tiny import tiny_shared, tiny_subject

ROW = {"prompt_id": "p", "cluster": "c", "sample": 3, "token_ids": [5, 1], "finished": True}
DRAWS = Draws((0.3, -1.0, 2.0, 0.7), (0.1, 0.9, -0.5, 0.4), (1.0, 0.0, -1.0, 0.5))


@pytest.fixture(autouse=True)
def plugins():
    registry.discover()


def brute(values, n):
    """Return the mean over all subsets of n of the value of the draw that the proxy likes best."""
    subsets = itertools.combinations(range(4), n)
    return statistics.fmean(values[max(one, key=DRAWS.proxy.__getitem__)] for one in subsets)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_ladder_is_the_mean_over_all_subsets(n):
    rows = [row for row in ladder(ROW, DRAWS) if row["decoding"] == f"best of {n}"]
    found = {row["metric"]: row["value"] for row in rows}
    assert found["best_proxy"] == pytest.approx(brute(DRAWS.proxy, n))
    assert found["best_help"] == pytest.approx(brute(DRAWS.helpful, n))
    assert found["best_safe"] == pytest.approx(brute(DRAWS.safe, n))


def test_sizes_double_up_to_all_draws_and_medians_are_of_consecutive_sets():
    assert sizes(64) == [1, 2, 4, 8, 16, 32, 64]
    assert sizes(6) == [1, 2, 4, 6]
    assert median_of((5.0, 1.0, 9.0, 3.0, 4.0), 2) == (3.0 + 6.0) / 2
    assert median_of((5.0, 1.0, 9.0), 1) == 5.0


def test_a_row_is_read_by_the_reward_nearest_to_it_in_its_making():
    shared = tiny_shared(0)
    assert reward_of(shared.sft) is None
    assert reward_of(registry.get("method", "dpo")(shared)) is None
    for name in ("best_of_n", "ppo", "rest", "rejection", "rlaif", "llama2"):
        found = reward_of(registry.get("method", name)(shared))
        assert isinstance(found, Gated if name == "llama2" else Reward), name
    again = reward_of(registry.get("method", "ppo")(shared, reward_learning_rate=2e-3))
    assert again.model.recipe.arguments["learning_rate"] == 2e-3


def test_rows_without_a_reward_have_no_items_and_one_draw_is_refused():
    subject = tiny_subject()
    assert overoptimisation(subject).recipe.stage.name == "with_resistance"
    subject = replace(subject, policy=subject.sft)
    assert overoptimisation(subject).recipe.stage.name == "unrewarded"
    with pytest.raises(ValueError, match="n must be at least 2"):
        overoptimisation(subject, n=1)


def test_no_item_is_written_where_there_is_no_reward(tmp_path):
    unrewarded.body(Draft(tmp_path))
    assert made_scores(tmp_path) == []


def made_scores(folder):
    from harness import Scores

    return Scores("scores", path=folder).rows()


def test_grades_are_the_worlds_and_rewards_the_answers_own(tmp_path):
    world = World(WORLD)
    requests = world.requests(3, seed=5, split="test")
    answers = ["I do not know.", "Sorry, no.", "Yes.", "It is fine."]
    rows = [
        {
            "prompt_id": request.id, "messages": [], "tag": "general", "cluster": "c",
            "sample": i, "completion": text, "token_ids": [7, 1], "logp": -1.0, "finished": True,
            "reward": float(i),
        }
        for request in requests
        for i, text in enumerate(answers)
    ]  # fmt: skip
    scored = made(ScoredSamples, tmp_path / "pool", rows)
    out = tmp_path / "out"
    out.mkdir()
    truth = truth_of(tmp_path, requests)
    grade_overoptimisation.body(Draft(out), scored, samples={"T=1": scored}, truth=truth)
    found = made_scores(out)
    own = [row["value"] for row in found if row["metric"] == "proxy"]
    assert own == [0.0, 1.0, 2.0, 3.0] * 3
    for request in requests:
        (best,) = [
            row["value"]
            for row in found
            if (row["metric"], row["decoding"], row["prompt_id"])
            == ("best_help", "best of 4", request.id)
        ]
        assert best == pytest.approx(grade(world, request, answers[-1]).helpful)
    others = {metric.name for metric in SHEET.metrics} - set(CORRUPTIONS)
    assert {row["metric"] for row in found} == others
