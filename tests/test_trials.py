"""What tuning spent is counted by row, failed trials and all of its seeds included."""

from __future__ import annotations

from fixed_results import write_results

from harness.report.costs import budget
from harness.report.tables import Block, Matrix
from harness.trials import TRIALS, trials_in

LINES = """base,dataset,label,trial,seed,state,labels,seconds
hamlet,hamlet,dpo,0,100,done,40,10.5
hamlet,hamlet,dpo,0,101,done,40,9.5
hamlet,hamlet,dpo,1,100,diverged,,
hamlet,foreign,dpo,0,100,done,8,1.0
"""


def test_trials_count_once_over_seeds_and_failed_ones_count_too(tmp_path):
    (tmp_path / TRIALS).write_text(LINES)
    found = trials_in(tmp_path)
    assert found["hamlet/hamlet"] == {"dpo": {"trials": 2.0, "labels": 80.0, "seconds": 20.0}}
    assert found["hamlet/foreign"]["dpo"]["trials"] == 1.0


def test_without_tuning_nothing_was_spent(tmp_path):
    assert trials_in(tmp_path) == {}


def test_the_budget_shows_trials_only_where_something_was_tuned(tmp_path):
    block = Block("hamlet", "hamlet")
    plain = budget(Matrix(write_results(tmp_path / "plain")), block, "t4")
    assert "tuning trials" not in plain.columns
    spent = {"hamlet/hamlet": {"dpo": {"trials": 8.0, "labels": 320.0, "seconds": 75.0}}}
    tuned = budget(Matrix(write_results(tmp_path / "tuned", trials=spent)), block, "t4")
    shown = {row[0].text: [cell.text for cell in row[-3:]] for row in tuned.rows}
    assert shown["dpo"] == ["8", "320", "1.2 min"]
    assert shown["sft"] == ["0", "0", "0.0 s"]
