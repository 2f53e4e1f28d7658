"""Rewards by rule, whose liking for spoilt text is known; what is spoilt, left out and counted."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from fixed_results import SUITES, write_results
from test_suites import made, means

from evals.corrupted import CORRUPTIONS, corrupted
from evals.overoptimisation import (
    SHEET,
    TESTED,
    grade_overoptimisation,
    overoptimisation,
    resist_corruption,
    reward_of,
    with_resistance,
)
from harness import Draft, Judge, Samples, Scores, registry
from harness.judge import Contains
from harness.report.headline import headline, headline_metrics, metric_table
from harness.report.summary import summary
from harness.report.tables import Matrix
from harness.results import ITEMS
from harness.stages.sample import score
from harness.tiny import tiny_subject

TEXT = "The mill opens at six. Ask for Ada there. She has the key."
OTHER = "It  is\nhard to say, but I think so."
REPEATED, END, PERMUTED = CORRUPTIONS


@pytest.fixture(autouse=True)
def plugins():
    registry.discover()


@dataclass(frozen=True)
class DistinctWords(Judge):
    def grade(self, answers):
        return [float(len(set(answer.completion.split()))) for answer in answers]


@dataclass(frozen=True)
class Characters(Judge):
    sign: int = 1

    def grade(self, answers):
        return [float(self.sign * len(answer.completion)) for answer in answers]


@dataclass(frozen=True)
class Constant(Judge):
    def grade(self, answers):
        return [0.25] * len(answers)


@dataclass(frozen=True)
class Ended(Judge):
    def grade(self, answers):
        return [float(answer.finished) for answer in answers]


@dataclass(frozen=True)
class Verbatim(Judge):
    text: str

    def grade(self, answers):
        return [float(answer.completion == self.text) for answer in answers]


@dataclass(frozen=True)
class Silent(Judge):
    def grade(self, answers):
        return [float("nan")] * len(answers)


def drawn(folder, *answers, finished=True):
    """Return Samples: one prompt for each list of answers."""
    rows = [
        {
            "prompt_id": f"p{prompt}", "sample": sample, "messages": [], "completion": text,
            "token_ids": [5, 1], "logp": -1.0, "finished": finished, "tag": "general",
            "cluster": f"c{prompt}",
        }
        for prompt, texts in enumerate(answers)
        for sample, text in enumerate(texts)
    ]  # fmt: skip
    return made(Samples, folder / "pool", rows)


def measured(folder, judge, pool, samples=TESTED):
    """Return the items and the notes of the stage."""
    out = Draft(folder / "out")
    out.path.mkdir(parents=True)
    resist_corruption.body(out, pool, judge=judge, samples=samples)
    return Scores("scores", path=out.path).rows(), out.facts


@pytest.mark.parametrize(
    ("judge", "repeated", "end", "order"),
    [
        (DistinctWords(), 0.5, 0.5, 0.5),
        (Characters(), 0.0, 0.0, 0.5),
        (Characters(-1), 1.0, 1.0, 0.5),
        (Constant(), 0.5, 0.5, 0.5),
        (Contains("Ada"), 0.5, 0.5, 0.5),
        (Verbatim(TEXT), 1.0, 1.0, 1.0),
        (Ended(), 0.5, 0.5, 0.5),
    ],
    ids=str,
)
def test_rewards_by_rule_like_spoilt_text_as_known(tmp_path, judge, repeated, end, order):
    rows, _ = measured(tmp_path, judge, drawn(tmp_path, [TEXT], [TEXT]))
    assert means(rows) == {REPEATED: repeated, END: end, PERMUTED: order}
    assert len(rows) == 2 * 3
    assert {row["class"] for row in rows if row["value"] == 0.5} <= {"tie"}
    assert {row["class"] for row in rows if row["value"] != 0.5} <= {"valid"}


def test_a_repeated_text_is_said_twice_and_a_repeated_end_three_times():
    assert corrupted(REPEATED, TEXT, "p", 0) == f"{TEXT} {TEXT}"
    assert corrupted(END, TEXT, "p", 0) == f"{TEXT} She has the key. She has the key."
    assert corrupted(END, "No full stop", "p", 0) == "No full stop No full stop No full stop"
    assert corrupted(END, "- sit still\n- look", "p", 0) == "- sit still\n- look - look - look"


@pytest.mark.parametrize("text", [TEXT, OTHER])
def test_a_permuted_text_has_the_same_words_and_spaces_in_another_order(text):
    spoilt = corrupted(PERMUTED, text, "p", 0)
    assert spoilt.split() != text.split()
    assert sorted(spoilt.split()) == sorted(text.split())
    assert [c for c in spoilt if c.isspace()] == [c for c in text if c.isspace()]


def test_what_is_spoilt_is_of_the_prompt_and_sample_alone(tmp_path):
    same = [corrupted(PERMUTED, TEXT, "p", 0) for _ in range(3)]
    assert len(set(same)) == 1
    assert len({corrupted(PERMUTED, TEXT, f"p{n}", 0) for n in range(8)}) > 4
    assert len({corrupted(PERMUTED, TEXT, "p", n) for n in range(8)}) > 4
    files = []
    for name in "ab":
        pool = drawn(tmp_path / name, [TEXT, OTHER], [OTHER])
        measured(tmp_path / name, Characters(), pool)
        files.append((tmp_path / name / "out" / "rows.jsonl.gz").read_bytes())
    assert files[0] == files[1]


def test_answers_that_stay_as_they_are_have_no_item_and_are_counted(tmp_path):
    rows, notes = measured(tmp_path, Characters(), drawn(tmp_path, ["Yes."], [""], [TEXT]))
    assert notes == {"truncated": 0, "unchanged": {REPEATED: 1, END: 1, PERMUTED: 2}}
    having = {
        metric: [r["prompt_id"] for r in rows if r["metric"] == metric]
        for metric in notes["unchanged"]
    }
    assert having == {REPEATED: ["p0", "p2"], END: ["p0", "p2"], PERMUTED: ["p2"]}


def test_answers_that_were_cut_are_left_out_and_counted(tmp_path):
    rows, notes = measured(tmp_path, Characters(), drawn(tmp_path, [TEXT], [OTHER], finished=False))
    assert rows == []
    assert notes["truncated"] == 2


def test_the_first_answers_to_each_prompt_are_read_and_each_once_by_the_judge(tmp_path):
    pool = drawn(tmp_path, [TEXT, OTHER, "Not read."], [OTHER])
    rows, _ = measured(tmp_path, Characters(), pool, samples=2)
    keys = {(row["prompt_id"], row["sample"]) for row in rows}
    assert keys == {("p0", 0), ("p0", 1), ("p1", 0)}
    out = Draft(tmp_path / "again")
    out.path.mkdir()
    resist_corruption.body(out, pool, judge=Characters(), samples=2)
    assert out.counters == {"judge_calls": 3 + 3 * 3}


def test_a_judge_without_a_grade_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no grade"):
        measured(tmp_path, Silent(), drawn(tmp_path, [TEXT]))


def test_items_are_of_sfts_answers_and_not_of_the_rows_own(tmp_path):
    rows, _ = measured(tmp_path, Characters(), drawn(tmp_path, [TEXT]))
    assert {row["decoding"] for row in rows} == {"SFT at T=1"}
    for name in CORRUPTIONS:
        (metric,) = [m for m in SHEET.metrics if m.name == name]
        assert (metric.higher_is_better, metric.range, metric.primary) == (True, (0.0, 1.0), False)


def test_the_suites_other_items_keep_their_id_and_stand_first(tmp_path):
    subject = tiny_subject()
    made_of = overoptimisation(subject).recipe.arguments
    reward, pool = reward_of(subject.policy), made_of["resistance"].recipe.arguments["pool"]
    curve = grade_overoptimisation(
        score(pool, judge=reward),
        samples={name: score(one, judge=reward) for name, one in subject.samples.items()},
        truth=subject.truth,
    )
    assert made_of["curve"] == curve
    assert made_of["resistance"] == resist_corruption(pool, judge=reward, samples=TESTED)
    one, other = (made(Scores, tmp_path / name, [{"value": name}]) for name in "ab")
    with_resistance.body(Draft(tmp_path), one, other)
    assert [row["value"] for row in Scores("s", path=tmp_path).rows()] == ["a", "b"]


def test_rows_of_one_reward_share_the_measurement():
    subject = tiny_subject()
    again = replace(subject, samples={"greedy": subject.samples["greedy"]})
    one, other = (overoptimisation(x).recipe.arguments for x in (subject, again))
    assert one["curve"] != other["curve"]
    assert one["resistance"] == other["resistance"]


def test_a_row_without_a_reward_has_no_such_measurement():
    subject = tiny_subject()
    planned = overoptimisation(replace(subject, policy=subject.sft))
    assert planned.recipe.stage.name == "unrewarded"
    assert planned.inputs == []


def planted(folder):
    """Write results whose rows, SFT's too, have the measurement, as far apart as can be."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    declared = [
        {
            "name": m.name, "higher_is_better": m.higher_is_better, "range": list(m.range),
            "primary": m.primary, "description": m.description,
        }
        for m in SHEET.metrics
    ]  # fmt: skip
    ours = {"suite": "overoptimisation", "axis": "diagnostics", "summary": "O."}
    write_results(folder, seeds=(0, 1, 2), suites=[*SUITES, {**ours, "metrics": declared}])
    table = pq.read_table(folder / ITEMS)
    rows = [
        {
            **row, "suite": "overoptimisation", "metric": name, "judge": "reward",
            "decoding": "SFT at T=1", "value": float(row["label"] != "sft"), "class": "valid",
        }
        for row in table.to_pylist()
        for name in CORRUPTIONS
        if (row["metric"], row["decoding"]) == ("gold_help", "T=1")
    ]  # fmt: skip
    more = pa.Table.from_pylist(rows, schema=table.schema)
    pq.write_table(pa.concat_tables([table, more]), folder / ITEMS)
    return Matrix(folder)


def test_a_report_shows_the_measurement_and_rests_no_claim_on_it(tmp_path):
    matrix = planted(tmp_path)
    (block,) = matrix.blocks
    for name in CORRUPTIONS:
        metric = matrix.metrics["overoptimisation", name]
        assert metric not in headline_metrics(matrix)
        shown = metric_table(matrix, block, metric)
        assert "SFT at T=1" in shown.columns
        assert any(row[0].text == "dpo" and "1" in row[1].text for row in shown.rows)
        found = [e for (_, _, m), e in matrix.entries.items() if m.metric == name]
        assert any(entry.difference is not None for entry in found)
        assert {entry.p for entry in found} == {None}
    said = " ".join(map(str, [headline(matrix, block), *summary(matrix, block)]))
    assert "gold_help" in said
    assert "resists" not in said
