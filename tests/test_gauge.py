"""The command `gauge`: a judge beside people, whose answers are known here beforehand."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass

import pytest
from conftest import ROOT
from tiny import write_policy
from typer.testing import CliRunner

from harness.commands import main
from harness.draft import Draft
from harness.gauge import answer_lines, card
from harness.judge import Contains, Judge, Verdict
from harness.local import local_file
from harness.row_formats import Columns
from harness.stages.gauge import gauge_answers, gauge_pairs
from harness.study_file import InputError

HHH = ROOT.parent / "shared" / "data" / "hhh_alignment" / "hhh_alignment.jsonl.gz"
STUDY = """
schema = 1
name = "own"
seeds = [0]
[bases.mine]
path = "model"
[datasets.mine]
plugin = "jsonl"
path = "pairs.jsonl"
[methods.sft]
[judge]
plugin = "contains"
word = "please"
[evaluation]
suites = ["preference"]
"""


@dataclass(frozen=True)
class First(Judge):
    """Prefer what is shown first, whatever it says."""

    def grade(self, answers):
        return [0.0] * len(answers)

    def prefer(self, ours, theirs):
        return [0.9] * len(ours)


@dataclass(frozen=True)
class Silent(Judge):
    """Answer nothing."""

    def grade(self, answers):
        return [float("nan")] * len(answers)

    def verdicts(self, ours, theirs):
        return [Verdict(float("nan"))] * len(ours)


def choices(n):
    """Return n choices by people who prefer the polite answer in three of four."""
    polite, curt = "please do it", "do it"
    return [
        {
            "prompt": f"Question {k}?",
            "chosen": polite if k % 4 else curt,
            "rejected": curt if k % 4 else polite,
        }
        for k in range(n)
    ]


def file_of(folder, rows, name="rows.jsonl"):
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def asked(folder, judge, rows, n=1000, seed=0, form=Columns(), stage=gauge_pairs):  # noqa: B008
    """Return the rows that a stage writes of a judge on a file."""
    (folder / "out").mkdir(exist_ok=True)
    out = Draft(folder / "out")
    file = local_file(file_of(folder, rows))
    stage.body(out, judge=judge, file=file, form=form, axis="helpful", n=n, seed=seed)
    with gzip.open(folder / "out" / "rows.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines], out


def test_a_judge_that_likes_politeness_agrees_with_people_as_often_as_they_do(tmp_path):
    rows, _ = asked(tmp_path, Contains("please"), choices(240))
    found = card(rows, "it")
    assert found.pairs == 240
    assert found.agreement.value == 0.75
    assert found.agreement.n == 240
    # People choose the longer answer, which is the polite one, just as often: nothing is gained.
    assert found.reference_prefers_longer.value == 0.75
    assert found.gate == "failed"


def test_a_judge_that_prefers_a_place_agrees_by_chance_because_sides_are_drawn(tmp_path):
    rows, _ = asked(tmp_path, First(), choices(400))
    assert 0.4 < card(rows, "it").agreement.value < 0.6
    assert 0.4 < sum(row["people"] for row in rows) / 400 < 0.6


def test_the_same_rows_are_drawn_whatever_the_files_order_and_others_by_another_seed(tmp_path):
    rows = choices(60)
    first, _ = asked(tmp_path, First(), rows, n=10)
    again, _ = asked(tmp_path, First(), rows[::-1], n=10)
    other, _ = asked(tmp_path, First(), rows, n=10, seed=1)
    assert first == again
    assert len(first) == 10
    assert {row["prompt_id"] for row in first} != {row["prompt_id"] for row in other}


def test_a_judge_that_does_not_answer_is_invalid_and_fails_its_gate(tmp_path):
    rows, _ = asked(tmp_path, Silent(), choices(40))
    found = card(rows, "it")
    assert found.invalid.value == 1
    assert found.agreement is None
    assert "100.0% of its verdicts are invalid" in found.problems


def test_rows_without_a_pair_are_counted_and_a_file_of_them_is_refused(tmp_path):
    rows = [{"prompt": "Why?", "responses": ["a", "b"], "ranks": [1, 1]}]
    ranked = Columns(responses="responses", ranks="ranks")
    more = [*rows, {"prompt": "Why?", "responses": ["a", "b"], "ranks": [1, 2]}]
    _, out = asked(tmp_path, First(), more, form=ranked)
    assert out.facts["left_out"] == {"equal_ranks": 1}
    with pytest.raises(ValueError, match="no row is a pair; name its columns"):
        asked(tmp_path, First(), rows, form=ranked)


def labelled(bad_by_judge, bad_by_people):
    """Return answers with "please", which the judge calls good, and without; and people's label."""
    return [
        {
            "prompt": f"Question {k}?",
            "completion": "no" if k in bad_by_judge else "please",
            "label": k not in bad_by_people,
        }
        for k in range(100)
    ]


def test_single_answers_are_compared_with_labels_by_the_counts_of_a_table_made_by_hand(tmp_path):
    thumbs = Columns(completion="completion", thumb="label")
    # 40 bad to people, of which it finds 30; it calls 10 of the 60 good ones bad.
    rows = labelled(bad_by_judge=range(10, 50), bad_by_people=range(40))
    made, _ = asked(tmp_path, Contains("please"), rows, form=thumbs, stage=gauge_answers)
    said = {head: text.split()[0] for head, text in answer_lines(made)}
    assert said["bad to people"] == "40"
    assert said["agreement"] == "0.800"
    assert said["of what people call bad, found"] == "0.750"
    assert said["of what it calls bad, bad to people"] == "0.750"
    assert said["of what people call good, called bad"] == "0.167"
    assert said["invalid"] == "0.000"


def test_grades_that_are_no_probabilities_and_no_grades_are_not_taken_for_labels(tmp_path):
    rows = [{"prompt_id": "a", "cluster": "a", "good": True, "grade": 3.0}]
    with pytest.raises(InputError, match="give pairs of answers"):
        answer_lines(rows)
    thumbs = Columns(completion="completion", thumb="label")
    made, _ = asked(tmp_path, Silent(), labelled([], []), form=thumbs, stage=gauge_answers)
    assert dict(answer_lines(made))["invalid"].startswith("1.000")


@pytest.fixture
def own(tmp_path):
    """Return a study of a tiny model, whose judge looks for a word."""
    (tmp_path / "model").mkdir()
    write_policy(tmp_path / "model")
    file_of(tmp_path, choices(40), "pairs.jsonl")
    (tmp_path / "own.toml").write_text(STUDY)
    return tmp_path


def told(own, *words):
    line = ["gauge", str(own / "own.toml"), *words, "--store", str(own / "store"), "--workers", "0"]
    return CliRunner().invoke(main, line)


def test_the_command_shows_a_card_and_makes_nothing_twice(own):
    file = file_of(own, choices(240), "people.jsonl")
    done = told(own, str(file), "--items", "240")
    assert done.exit_code == 0, done.output
    assert "Contains (judge)" in done.output
    assert "people.jsonl" in done.output
    assert "agreement with the reference" in done.output
    assert "gate: it agrees with people on" in done.output
    before = sorted((own / "store").glob("gauge_pairs-*"))
    assert told(own, str(file), "--items", "240").output == done.output
    assert sorted((own / "store").glob("gauge_pairs-*")) == before
    assert len(before) == 1


def test_what_cannot_be_asked_is_refused_with_the_remedy(own):
    file = file_of(own, choices(8), "people.jsonl")
    for words, remedy in (
        ((str(file), "--labeller"), "write a [labeller] table"),
        ((str(own / "none.jsonl"),), "none.jsonl: no such file; name one of rows"),
        ((str(file), "--column", "chosen=good"), "no column 'good'"),
    ):
        done = told(own, *words)
        assert done.exit_code == 2
        assert remedy in done.output


@pytest.mark.skipif(not HHH.is_file(), reason="the shared copy of HHH is not here")
def test_a_judge_by_rule_on_real_choices_is_near_chance_and_fails_its_gate(own):
    done = told(own, str(HHH), "--items", "221")
    assert done.exit_code == 0, done.output
    assert "221" in done.output
    assert "failed" in done.output or "unknown" in done.output
