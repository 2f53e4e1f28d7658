"""Direct Nash optimisation: contests, win rates, the pairs that follow, and rounds of DPO."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import ended, tiny_policy, tiny_prompts

from harness import contest, prefer, sample, winners, with_replay
from harness.artifacts import Preferences, Samples, write_rows
from harness.draft import Draft
from harness.judge import Answer, Judge
from harness.losses import bradley_terry
from harness.registry import discover, get
from harness.run import in_order
from harness.stages.contest import win_rates
from harness.tiny import tiny_shared

SHARED = tiny_shared(7)


@pytest.fixture(autouse=True, scope="module")
def discovered():
    discover()


@dataclass(frozen=True)
class Hands(Judge):
    """Rock beats scissors, scissors beat paper, paper beats rock: no reward says so."""

    def grade(self, answers: Sequence[Answer]) -> list[float]:
        raise TypeError("hands have no grades")

    def prefer(self, ours: Sequence[Answer], theirs: Sequence[Answer]) -> list[float]:
        beats = {"rock": "scissors", "scissors": "paper", "paper": "rock"}
        pairs = ((a.completion, b.completion) for a, b in zip(ours, theirs, strict=True))
        return [0.5 if a == b else float(beats[a] == b) for a, b in pairs]


@dataclass(frozen=True)
class Longest(Judge):
    """The longer answer wins for certain."""

    def grade(self, answers: Sequence[Answer]) -> list[float]:
        return [100.0 * len(answer.completion) for answer in answers]


def stored(folder, kind, rows):
    folder.mkdir()
    write_rows(Draft(folder), rows)
    return kind(folder.name, path=folder)


def answers(texts, prompt="p", tag="general"):
    return [
        {
            "prompt_id": prompt,
            "sample": number,
            "messages": [{"role": "user", "content": "?"}],
            "completion": text,
            "token_ids": [5],
            "logp": -1.0,
            "finished": True,
            "tag": tag,
            "cluster": "c",
        }
        for number, text in enumerate(texts)
    ]


def held(tmp_path, rows, judge, name="contest"):
    """Return the judgements of a contest among answers, and the draft that counted them."""
    samples = stored(tmp_path / f"{name}-samples", Samples, rows)
    out = Draft(tmp_path / name)
    out.path.mkdir()
    contest.body(out, samples, judge=judge, source="human", seed=0)
    return Preferences(name, path=out.path), out


def paired(tmp_path, contests, **settings):
    out = Draft(tmp_path / f"winners-{len(list(tmp_path.iterdir()))}")
    out.path.mkdir()
    winners.body(out, contests, **settings)
    return Preferences("winners", path=out.path).rows()


def test_every_two_answers_meet_once_and_each_meeting_is_one_judgement(tmp_path):
    rows = answers(["a", "bb", "ccc", "dddd"]) + answers(["x", "yy", "x"], "q")
    contests, out = held(tmp_path, rows, Longest())
    met = [frozenset((row["chosen"], row["rejected"])) for row in contests]
    assert len(met) == len(set(met)) == 6 + 1  # C(4, 2), and two different answers to q
    assert out.counters == {"labels_used": 7, "judge_calls": 7}
    assert {row["source"] for row in contests} == {"human"}


def test_sides_are_drawn_so_that_place_says_nothing(tmp_path):
    rows = [row for n in range(60) for row in answers(["a", "bb"], f"p{n}")]
    contests, _ = held(tmp_path, rows, Longest())
    firsts = [row["chosen"] for row in contests]
    assert 15 < firsts.count("a") < 45
    assert all(row["p1"] == pytest.approx(float(row["chosen"] == "bb")) for row in contests)


def test_red_team_prompts_are_judged_for_safety(tmp_path):
    rows = answers(["a", "bb"], "p") + answers(["a", "bb"], "q", tag="red-team")
    contests, _ = held(tmp_path, rows, Longest())
    assert {row["prompt_id"]: row["axis"] for row in contests} == {"p": "helpful", "q": "safe"}


def test_answers_that_are_all_the_same_hold_no_contest(tmp_path):
    with pytest.raises(ValueError, match=r"1 one_answer, 1 repeated_answers.*; draw more answers"):
        held(tmp_path, answers(["a", "a"]), Longest())


@given(st.data())
def test_win_rates_of_k_answers_add_up_to_half_of_k(data):
    count = data.draw(st.integers(2, 7))
    matches = [
        {"chosen": str(a), "rejected": str(b), "p1": data.draw(st.floats(0, 1))}
        for a in range(count)
        for b in range(a)
    ]
    assert sum(win_rates(matches).values()) == pytest.approx(count / 2)


def test_the_winner_of_all_has_rate_one_and_pairs_are_far_apart(tmp_path):
    contests, _ = held(tmp_path, answers(["a", "bb", "ccc", "dddd", "eeeee"]), Longest())
    rates = win_rates(contests.rows())
    assert rates == pytest.approx({"a": 0, "bb": 0.25, "ccc": 0.5, "dddd": 0.75, "eeeee": 1})
    found = {(r["chosen"], r["rejected"]) for r in paired(tmp_path, contests, margin=0.7)}
    assert found == {("dddd", "a"), ("eeeee", "bb"), ("eeeee", "a")}


def test_hard_targets_are_certain_and_soft_ones_are_the_sigmoid_of_the_gap(tmp_path):
    contests, _ = held(tmp_path, answers(["a", "bb", "ccc"]), Longest())
    hard = paired(tmp_path, contests, margin=0.0, targets="hard")
    soft = paired(tmp_path, contests, margin=0.0, targets="soft")
    assert [row["p1"] for row in hard] == [1.0] * 3
    gaps = {("ccc", "a"): 1.0, ("ccc", "bb"): 0.5, ("bb", "a"): 0.5}
    for row in soft:
        gap = gaps[row["chosen"], row["rejected"]]
        assert row["p1"] == pytest.approx(1 / (1 + math.exp(-gap)))
    assert max(row["p1"] for row in soft) == pytest.approx(0.731059, abs=1e-6)


def test_an_oracle_that_no_reward_can_express_leaves_every_rate_at_one_half(tmp_path):
    contests, _ = held(tmp_path, answers(["rock", "paper", "scissors"]), Hands())
    assert win_rates(contests.rows()) == {"rock": 0.5, "paper": 0.5, "scissors": 0.5}
    with pytest.raises(ValueError, match="lower the margin"):
        paired(tmp_path, contests, margin=0.1)
    with pytest.raises(ValueError, match="lower the margin"):
        paired(tmp_path, contests, margin=0.0)  # a tie has no winner to be certain of
    soft = paired(tmp_path, contests, margin=0.0, targets="soft")
    assert [row["p1"] for row in soft] == [0.5] * 3


def test_under_that_oracle_the_policy_is_a_fixed_point_to_the_bit(tmp_path, make):
    contests, _ = held(tmp_path, answers(["rock", "paper", "scissors"]), Hands())
    rows = paired(tmp_path, contests, margin=0.0, targets="soft")
    pairs = stored(tmp_path / "pairs", Preferences, rows)
    policy = make(tiny_policy(seed=0))
    out = Draft(tmp_path / "after")
    out.path.mkdir()
    prefer.body(out, policy, pairs, learning_rate=1e-2, batch_size=3, seed=0)
    before, after = (
        load(folder / "model.safetensors") for folder in (policy.path, tmp_path / "after")
    )
    assert all(torch.equal(before[name], after[name]) for name in before)


def load(file):
    from safetensors.torch import load_file

    return load_file(file)


@given(st.floats(0, 1))
def test_a_soft_target_is_met_best_where_the_margins_are_equal(gap):
    target = 1 / (1 + math.exp(-gap))
    entropy = -target * math.log(target) - (1 - target) * math.log(1 - target)
    at = bradley_terry(torch.tensor([gap, gap - 0.1, gap + 0.1], dtype=torch.float64), target)
    assert float(at[0]) == pytest.approx(entropy)
    assert float(at[0]) < min(float(at[1]), float(at[2]))


def test_replay_adds_no_more_than_its_shares_of_earlier_rounds(tmp_path):
    rounds = [
        stored(tmp_path / f"r{t}", Preferences, [{"pair_id": f"{t}/{n}"} for n in range(10)])
        for t in range(4)
    ]
    out = Draft(tmp_path / "mixed")
    out.path.mkdir()
    newest, *earlier = reversed(rounds)
    with_replay.body(out, newest, tuple(earlier), shares=(0.35, 0.15), seed=0)
    ids = [row["pair_id"][0] for row in Preferences("mixed", path=out.path)]
    assert [ids.count(str(t)) for t in range(4)] == [0, 1, 3, 10]
    assert out.facts["replayed"] == [3, 1]


def planned(**settings):
    return get("method", "dno")(SHARED, **settings)


def made_by(artifact, stage):
    return [a for a in in_order([artifact]) if a.recipe.stage.name == stage]


def arguments(artifact):
    return dict(artifact.recipe.arguments)


def test_each_round_starts_from_its_reference_which_drew_the_answers():
    made = planned(rounds=3)
    steps, samples = made_by(made, "prefer"), made_by(made, "sample")
    references = [SHARED.sft, *steps[:-1]]
    assert [arguments(step)["reference"] for step in steps] == references
    assert [arguments(drawn)["policy"] for drawn in samples] == references


def test_rounds_ask_other_prompts_and_spend_the_budget_of_one_judgement_a_prompt(make):
    made = planned(rounds=3, n=5)
    parts = [{r["prompt_id"] for r in make(part)} for part in made_by(made, "portion")]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 20  # 20 prompts x C(5, 2) = 200
    half = planned(rounds=3, n=5, spend=0.5)
    assert sum(len(make(part).rows()) for part in made_by(half, "portion")) == 10


def test_the_oracle_is_the_annotators_or_the_labeller():
    human, ai = (made_by(planned(oracle=o, rounds=1), "contest")[0] for o in ("human", "ai"))
    assert (arguments(human)["judge"], arguments(human)["source"]) == (SHARED.annotator, "human")
    assert (arguments(ai)["judge"], arguments(ai)["source"]) == (SHARED.labeller, "ai")
    with pytest.raises(ValueError, match='oracle = "ai"'):
        get("method", "dno")(replace(SHARED, annotator=None))
    with pytest.raises(ValueError, match="labeller"):
        get("method", "dno")(replace(SHARED, labeller=None), oracle="ai")


def test_with_hard_targets_it_is_iterated_dpo_with_the_current_policy_as_reference():
    made = planned(rounds=2, beta=0.2, learning_rate=1e-4, batch_size=8, replay=())
    for step in made_by(made, "prefer"):
        given = arguments(step)
        assert (given["loss"], given["beta"], given["label_smoothing"]) == ("sigmoid", 0.2, 0.0)
        pairs = given["pairs"]
        assert pairs.recipe.stage is with_replay
        assert arguments(arguments(pairs)["pairs"])["targets"] == "hard"


def test_the_loss_of_a_round_starts_at_log_two(make, tmp_path):
    drawn = sample(
        tiny_policy(seed=0),
        tiny_prompts(n=8, seed=0),
        n=3,
        temperature=1.0,
        max_new_tokens=6,
        seed=0,
    )
    drawn = ended(drawn)
    pairs = make(
        winners(contest(drawn, judge=SHARED.annotator, source="human", seed=0), margin=0.1)
    )
    out = Draft(tmp_path / "round")
    out.path.mkdir()
    prefer.body(out, make(tiny_policy(seed=0)), pairs, learning_rate=1e-4, batch_size=64, seed=0)
    header, first, *_ = (tmp_path / "round" / "curves.csv").read_text().splitlines()
    loss = dict(zip(header.split(","), first.split(","), strict=True))["loss"]
    assert float(loss) == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("settings", [{"rounds": 0}, {"n": 1}, {"spend": 0.0}, {"spend": 99.0}])
def test_settings_without_a_contest_are_refused(settings):
    with pytest.raises(ValueError, match="dno needs"):
        planned(**settings)
