"""Labels by a judge on pairs that were labelled before: same rows, new p1."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from tiny import tiny_pairs, tiny_policy

from harness.artifacts import Preferences, Rankings, Samples, write_rows
from harness.constitution import Constitution, Principle
from harness.constitution_file import constitution
from harness.draft import Draft
from harness.judge import Answer, Judge, Letters, Prompted, Verdict
from harness.shared import Shared
from harness.stage import stage
from harness.stages.contest import contest
from harness.stages.label import label, rank, relabel, sides, standings
from harness.stages.sample import sample
from harness.tiny import tiny_base, tiny_data, tiny_shared


def principle(id, question, *, weight=1.0, tags=()):
    return Principle(
        id, f"Be {id}.", ("compare",), compare_question=question, weight=weight, tags=tags
    )


def asks(*principles):
    return Constitution("toy", "1", "none", "Toy.", principles)


@dataclass(frozen=True)
class FirstPlace(Judge):
    """Prefer whatever is shown first, in one order: a judge with nothing but a position bias."""

    def grade(self, answers: Sequence[Answer]) -> list[float]:
        return [0.0] * len(answers)

    def verdicts(self, ours: Sequence[Answer], theirs: Sequence[Answer]) -> list[Verdict]:
        return [Verdict(0.9, 0.9) for _ in ours]


@dataclass(frozen=True)
class Undecided(Judge):
    """Give no verdict where an answer holds the digit 1."""

    def grade(self, answers: Sequence[Answer]) -> list[float]:
        return [0.0] * len(answers)

    def verdicts(self, ours: Sequence[Answer], theirs: Sequence[Answer]) -> list[Verdict]:
        return [Verdict(math.nan if "1" in o.completion else 0.5, 0.9, 0.1) for o in ours]


def run(planned, folder, make):
    folder.mkdir()
    out = Draft(folder)
    arguments = {
        key: make(value) if isinstance(value, Preferences) else value
        for key, value in planned.recipe.arguments.items()
    }
    planned.recipe.stage.body(out, **arguments)
    return out


PLEASE = Letters("please")


def test_the_same_prompts_answers_and_axes_come_back_with_other_labels(make):
    before = {row["pair_id"]: row for row in make(tiny_pairs(n=40, seed=0))}
    after = make(relabel(tiny_pairs(n=40, seed=0), judge=PLEASE, source="ai", seed=1)).rows()
    assert [row["pair_id"] for row in after] == list(before)
    for row in after:
        old = before[row["pair_id"]]
        assert {row["chosen"], row["rejected"]} == {old["chosen"], old["rejected"]}
        assert (row["messages"], row["axis"]) == (old["messages"], old["axis"])
        # "please, 3 it is" has the five letters of "please" and "3 no" has none; Bradley-Terry.
        expected = 1 / (1 + math.exp(-5))
        assert row["p1"] == pytest.approx(expected if "please" in row["chosen"] else 1 - expected)
        assert (row["source"], row["population"], row["strength"]) == ("ai", None, None)


def test_a_position_bias_of_one_order_cannot_carry_the_earlier_labels(make):
    # Every pair is stored with the better answer first: shown as stored, the biased judge would
    # repeat all of the earlier labels.
    pairs = make(tiny_pairs(n=400, seed=0)).rows()
    assert all(row["p1"] == 1 and row["chosen"].startswith("please") for row in pairs)
    found = make(relabel(tiny_pairs(n=400, seed=0), judge=FirstPlace(), source="ai", seed=1))
    better = sum(row["chosen"].startswith("please") for row in found)
    assert abs(better - 200) < 4 * math.sqrt(100)  # four standard deviations of a fair coin


def test_a_pair_without_verdict_is_left_out_and_counted_never_called_a_tie(make, tmp_path):
    planned = relabel(tiny_pairs(n=30, seed=0), judge=Undecided(), source="ai", seed=0)
    out = run(planned, tmp_path / "out", make)
    rows = Preferences("made", path=out.path).rows()
    assert rows
    assert all("1" not in row["chosen"] for row in rows)
    assert out.facts["pairs"] == len(rows)
    assert out.facts["dropped"] == {"no_verdict": 30 - len(rows)}
    assert len(rows) < 30
    assert out.facts["same_place_preferred"] == 1.0
    assert out.facts["decided"] == {"same_place_preferred": len(rows)}  # all other verdicts tie
    assert out.counters == {"judge_calls": 30}


def test_hard_labels_are_rounded_and_clamped_ones_stay_in_their_range(make):
    pairs = tiny_pairs(n=12, seed=0)
    hard = make(relabel(pairs, judge=PLEASE, source="ai", soft=False, seed=1))
    assert {row["p1"] for row in hard} == {0.0, 1.0}
    clamped = make(relabel(pairs, judge=PLEASE, source="ai", clamp=0.4, seed=1))
    assert {row["p1"] for row in clamped} == {0.4, 0.6}
    for a, b in zip(hard, clamped, strict=True):
        assert (a["p1"] > 0.5) == (b["p1"] > 0.5)


def test_a_principle_is_drawn_for_each_pair_and_kept_with_the_label(make):
    toy = asks(principle("please", "please"), principle("no", "no"))
    pairs = tiny_pairs(n=60, seed=0)
    rows = make(relabel(pairs, judge=PLEASE, source="ai_principle", constitution=toy, seed=1))
    used = Counter(row["principle"] for row in rows)
    assert set(used) == {"please", "no"}
    assert min(used.values()) > 10
    for row in rows:
        polite = "please" in row["chosen"]
        assert (row["p1"] > 0.5) == (polite == (row["principle"] == "please"))
        assert row["principle_digest"] == toy.principle(row["principle"]).digest
    again = make(relabel(pairs, judge=PLEASE, source="ai_principle", constitution=toy, seed=1))
    other = make(relabel(pairs, judge=PLEASE, source="ai_principle", constitution=toy, seed=2))
    drawn = [[row["principle"] for row in found] for found in (rows, again, other)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_principle_tagged_with_an_axis_is_asked_on_that_axis_alone(make):
    toy = asks(
        principle("kind", "please", tags=("helpful", "manners")),
        principle("careful", "no", tags=("safe",)),
    )
    rows = make(
        relabel(tiny_pairs(n=10, seed=0), judge=PLEASE, source="a", constitution=toy, seed=1)
    )
    assert {(row["axis"], row["principle"]) for row in rows} == {
        ("helpful", "kind"),
        ("safe", "careful"),
    }


def test_the_labeller_is_asked_about_each_rows_own_axis():
    labeller = Prompted(tiny_base(seed=1), "Choose the answer that is more helpful.")
    assert labeller.on("safe").principle == "Choose the answer that is less harmful."
    assert labeller.on("helpful") == labeller
    own = Prompted(tiny_base(seed=1), "Be brief.")
    assert own.on("safe") == own


def test_human_feedback_is_the_shared_rows_and_ai_feedback_the_same_rows_relabelled(make):
    shared = tiny_shared(0)
    assert shared.labelled("human") == shared.preferences
    ai, by_principle = shared.labelled("ai"), shared.labelled("ai_principle")
    assert len({shared.preferences, ai, by_principle}) == 3
    sources = {"human": shared.preferences, "ai": ai, "ai_principle": by_principle}
    ids = {}
    for source, planned in sources.items():
        rows = make(planned).rows()
        assert {row["source"] for row in rows} == {source}
        ids[source] = [row["pair_id"] for row in rows]
    assert ids["human"] == ids["ai"] == ids["ai_principle"]


def test_principles_are_those_of_the_studys_constitution():
    shared = tiny_shared(0)
    named = [replace(shared, constitution=name).labelled("ai_principle") for name in NAMES]
    asked = [pairs.recipe.arguments["constitution"] for pairs in named]
    assert asked == [constitution(name) for name in NAMES]
    assert shared.labelled("ai_principle") == named[0]
    other = replace(shared, constitution="general")
    assert other.labelled("ai") == shared.labelled("ai")


NAMES = ("hamlet", "general", "null")


def test_a_study_without_a_fitting_labeller_is_refused_with_the_remedy():
    shared: Shared = replace(tiny_shared(0), labeller=None)
    with pytest.raises(ValueError, match=r"needs a labeller, .* add a \[labeller\] table"):
        shared.labelled("ai")
    without = replace(shared, labeller=FirstPlace())
    assert without.labelled("ai") != shared.preferences
    with pytest.raises(ValueError, match="the judge FirstPlace reads no principles"):
        without.labelled("ai_principle")


@stage(makes=Preferences)
def toy_unlabelled(out: Draft) -> None:
    """Write no pairs."""
    write_rows(out, [])


def test_nothing_to_label_is_an_error(make):
    with pytest.raises(ValueError, match="no pairs to train on"):
        make(relabel(toy_unlabelled(), judge=PLEASE, source="ai", seed=0))


def test_equal_recipes_write_equal_bytes(make, tmp_path):
    planned = relabel(tiny_pairs(n=8, seed=0), judge=PLEASE, source="ai", seed=3)
    first, second = (run(planned, tmp_path / name, make) for name in ("a", "b"))
    names = sorted(file.name for file in first.path.iterdir())
    assert [(first / n).read_bytes() for n in names] == [(second / n).read_bytes() for n in names]
    assert json.dumps(first.facts) == json.dumps(second.facts)


@dataclass(frozen=True)
class Cycle(Judge):
    """Paper beats rock, rock scissors, scissors paper; a question mark gets no verdict."""

    def grade(self, answers: Sequence[Answer]) -> list[float]:
        return [0.0] * len(answers)

    def verdicts(self, ours: Sequence[Answer], theirs: Sequence[Answer]) -> list[Verdict]:
        beats = {("paper", "rock"), ("rock", "scissors"), ("scissors", "paper")}
        pairs = [(a.completion, b.completion) for a, b in zip(ours, theirs, strict=True)]
        known = [math.nan if "?" in "".join(pair) else float(pair in beats) for pair in pairs]
        return [Verdict(p1) for p1 in known]


def answers(folder, **texts):
    """Write answers to prompts, some of them said twice; one that ends in "..." did not finish."""
    folder.mkdir()
    known = {"messages": [], "token_ids": [1], "logp": 0.0}
    rows = [
        {
            **known,
            "prompt_id": id,
            "sample": n,
            "completion": text,
            "finished": not text.endswith("..."),
            "tag": "general",
            "cluster": "c",
        }
        for id, said in texts.items()
        for n, text in enumerate(said)
    ]
    write_rows(Draft(folder), rows)
    return Samples("answers", path=folder)


def ranked(out):
    return {row["prompt_id"]: row for row in Rankings("x", path=out.path)}


def test_answers_are_ranked_by_whom_they_beat_and_judgements_are_counted_by_pairs(tmp_path):
    samples = answers(tmp_path / "rows", a=["aeiou", "xyz", "aei", "aei", "ae"], b=["a", "e"])
    out = Draft(tmp_path)
    rank.body(out, samples, judge=Letters("aeiou"), axis="helpful", source="ai")
    found = ranked(out)
    assert found["a"]["responses"] == ["aeiou", "xyz", "aei", "ae"]
    assert found["a"]["ranks"] == [1, 4, 2, 3]
    assert found["b"]["ranks"] == [1, 1], "a tie stays a tie"
    assert (found["a"]["axis"], found["a"]["source"]) == ("helpful", "ai")
    assert out.counters == {"labels_used": 6 + 1, "judge_calls": 7}
    assert out.facts["dropped"]["repeated_answers"] == 1


def test_a_circle_of_answers_is_a_tie_and_half_a_ranking_is_none(tmp_path):
    hands = ["paper", "rock", "scissors"]
    samples = answers(tmp_path / "rows", a=hands, b=[*hands, "what?"], c=["rock", "rock"])
    out = Draft(tmp_path)
    rank.body(out, samples, judge=Cycle(), axis="helpful", source="ai")
    assert {id: row["ranks"] for id, row in ranked(out).items()} == {"a": [1, 1, 1]}
    assert out.facts["dropped"] == {
        "unfinished": 0,
        "one_answer": 1,
        "repeated_answers": 1,
        "no_verdict": 1,
    }
    assert out.counters == {"labels_used": 3, "judge_calls": 9}, "what was asked was paid"
    none = answers(tmp_path / "none", a=["rock", "what?"])
    with pytest.raises(ValueError, match=r"no rankings .*1 no_verdict.* name another judge"):
        rank.body(out, none, judge=Cycle(), axis="helpful", source="ai")


def test_the_standings_of_k_answers_sum_to_their_pairs():
    given = [0.9, 0.3, 0.5, 0.2, 0.7, 1.0]
    found = standings(4, [Verdict(p1) for p1 in given])
    assert sum(found) == pytest.approx(6)
    assert found == pytest.approx([1.7, 0.1 + 0.9, 0.7 + 0.8 + 1.0, 0.5 + 0.3 + 0.0])


def test_flags_of_safety_turn_with_the_sides_of_a_pair():
    row = {"pair_id": "x", "chosen": "a", "rejected": "b", "p1": 1.0}
    flagged = {**row, "chosen_safe": True, "rejected_safe": False}
    seen = [sides(flagged, seed) for seed in range(20)]
    assert {one["chosen"] for one in seen} == {"a", "b"}
    assert all(one[f"{s}_safe"] == (one[s] == "a") for one in seen for s in ("chosen", "rejected"))


def labelled_by(stage, samples, folder):
    """Return what a stage that asks a judge about drawn answers made of them, and its draft."""
    folder.mkdir()
    out = Draft(folder)
    own = {"seed": 0} if stage is not label and stage is not rank else {"axis": "helpful"}
    stage.body(out, samples, judge=Letters("aeiou"), source="ai", **own)
    return list(Preferences("made", path=folder)), out


@pytest.mark.parametrize("stage", [label, relabel, contest, rank])
def test_no_pair_and_no_ranking_holds_an_answer_that_did_not_finish(stage, tmp_path):
    samples = answers(
        tmp_path / "rows",
        a=["aei", "ox...", "u"],
        b=["a...", "e"],
        c=["o", "i"],
        d=["one"],
        e=["it", "it"],
    )
    rows, out = labelled_by(stage, samples, tmp_path / "made")
    said = [row["responses"] if stage is rank else [row["chosen"], row["rejected"]] for row in rows]
    assert sorted(map(sorted, said)) == [["aei", "u"], ["i", "o"]]
    by_prompts = {"unfinished": 1, "one_answer": 1, "equal_answers": 1, "no_verdict": 0}
    by_answers = {"unfinished": 2, "one_answer": 3, "repeated_answers": 1, "no_verdict": 0}
    assert out.facts["dropped"] == (by_answers if stage in (contest, rank) else by_prompts)
    assert out.counters["judge_calls"] == 2, "an answer without an end is not asked about"


@pytest.mark.parametrize("stage", [label, relabel, contest, rank])
def test_answers_that_never_end_fail_by_name_with_the_remedy(stage, make, tmp_path):
    ask = {"n": 2, "temperature": 1.0, "max_new_tokens": 1, "seed": 0}
    drawn = make(sample(tiny_policy(seed=1), tiny_data().validation, **ask))
    assert not any(row["finished"] for row in drawn)
    with pytest.raises(ValueError, match=r"unfinished.*; raise max_new_tokens"):
        labelled_by(stage, drawn, tmp_path / "made")
