"""The answer in one paragraph: who differs, by how much, how surely and at what price."""

from __future__ import annotations

import csv
import re

import pytest
from fixed_results import LEVELS, write_results
from test_parity_report import unequal

from harness.report.summary import summary
from harness.report.tables import Block, Matrix
from harness.report.words import number
from harness.results import CELLS

HAMLET = Block("hamlet", "hamlet")


def spend(folder, label, **columns):
    """Change what a row spent."""
    path = folder / CELLS
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row |= (
            {name: str(value) for name, value in columns.items()} if row["label"] == label else {}
        )
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    folder = write_results(tmp_path_factory.mktemp("summary"), seeds=(0, 1, 2, 3, 4))
    return spend(folder, "dpo", seconds_in_full=600.0)


def entry(matrix, label, name, decoding="T=1"):
    (found,) = [
        e
        for (_, row, measure), e in matrix.entries.items()
        if (row, measure.metric, measure.decoding) == (label, name, decoding)
    ]
    return found


def test_a_row_that_stands_is_named_with_its_difference_interval_and_p(five):
    matrix = Matrix(five)
    said = next(iter(summary(matrix, HAMLET)))
    assert said.startswith("At T=1, against sft (S = 5). Helpfulness (gold_help): better: ")
    found = entry(matrix, "dpo", "gold_safe").difference
    low, high = number(found.low), number(found.high)
    assert f"dpo by {number(found.value)} ({low} to {high}, p < .001)" in said
    assert "worse" not in said


def test_rows_that_do_not_stand_are_counted_with_what_they_could_have_shown(tmp_path, monkeypatch):
    levels = {**LEVELS, "dpo": LEVELS["sft"], "best_of_n": LEVELS["sft"]}
    monkeypatch.setattr("fixed_results.LEVELS", levels)
    matrix = Matrix(write_results(tmp_path, seeds=(0, 1, 2)))
    said = next(iter(summary(matrix, HAMLET)))
    both = [entry(matrix, x, "gold_help").difference.mde for x in ("best_of_n", "dpo")]
    span = f"{number(min(both))} to {number(max(both))}"
    expected = f"none of 2 rows is distinguishable (smallest detectable difference {span})."
    assert f"Helpfulness (gold_help): {expected}" in said
    assert "better" not in said


def test_rows_that_learnt_nothing_stand_apart_from_the_methods(five, tmp_path):
    matrix = Matrix(five)
    assert matrix.untrained(HAMLET) == []
    folder = write_results(tmp_path, seeds=(0, 1, 2))
    matrix = Matrix(spend(folder, "best_of_n", labels_used=0, labels_human=0))
    assert matrix.untrained(HAMLET) == ["best_of_n"]
    said = next(iter(summary(matrix, HAMLET)))
    methods = said.split(" Better without learning anything: ")[0]
    assert "dpo by" in methods
    assert "best_of_n" not in methods
    for metric in ("gold_help", "gold_safe"):
        found = entry(matrix, "best_of_n", metric)
        assert found.significant
        by = number(found.difference.value)
        assert f"Better without learning anything: best_of_n by {by} (" in said
    trained = Matrix(spend(folder, "best_of_n", tokens_trained=300000))
    assert trained.untrained(HAMLET) == []


def test_a_row_that_learnt_nothing_costs_no_method_its_power(tmp_path):
    folder = write_results(tmp_path, seeds=(0, 1, 2))
    beside = entry(Matrix(folder), "dpo", "gold_help")
    alone = entry(Matrix(spend(folder, "best_of_n", labels_used=0)), "dpo", "gold_help")
    of_safe = entry(Matrix(folder), "dpo", "gold_safe").difference.p
    own = beside.difference.p
    # Holm by hand: of two tests the smaller p counts twice, the larger no less than that.
    assert alone.p == pytest.approx(min(1, 2 * own) if own <= of_safe else max(own, 2 * of_safe))
    assert alone.p < beside.p


def test_results_older_than_the_counts_call_no_row_untrained(tmp_path):
    folder = write_results(tmp_path)
    for label in LEVELS:
        spend(folder, label, labels_used="", tokens_trained="")
    assert Matrix(folder).untrained(HAMLET) == []


def test_the_price_is_of_a_seed_in_full_and_names_the_cheapest_and_the_dearest(five):
    said = " ".join(summary(Matrix(five), HAMLET))
    assert "One seed took 1.6 min (best_of_n) to 10.0 min (dpo) in full, and sft 1.6 min" in said
    assert "labels by people 4,000; by AI 0." in said


def test_fewer_than_three_seeds_are_called_checkpoints(tmp_path):
    said = next(iter(summary(Matrix(write_results(tmp_path, seeds=(0, 1))), HAMLET)))
    assert said.startswith("At T=1, against sft (S = 2, checkpoint-level only).")


def test_what_was_not_held_equal_is_said_with_the_rows(tmp_path):
    *_, said = summary(Matrix(write_results(tmp_path, **unequal())), HAMLET)
    assert said == "Not held equal, so to be read with care (see Parity): base weights: dpo."


def test_a_study_without_sft_has_no_answer(tmp_path):
    folder = write_results(tmp_path, labels=("base", "dpo"))
    assert list(summary(Matrix(folder), HAMLET)) == []


def test_no_sentence_says_more_than_a_test(five):
    said = " ".join(summary(Matrix(five), HAMLET)).replace("best_of_n", "")
    assert not re.search(r"\b(best|win|wins|significant\w*|rank\w*|equally)\b", said)
