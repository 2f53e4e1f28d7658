"""What tuning tried and spent, counted by row; what it bought, as declared, at best, over time."""

from __future__ import annotations

import csv
import json

import pytest
from fixed_results import write_results

from harness.plain_text import csv_text
from harness.report import write_report
from harness.report.costs import budget
from harness.report.tables import Block, Matrix
from harness.report.tuning import tuning_table
from harness.results import read_csv
from harness.trials import TRIALS, read_trials, trials_in
from harness.tune import COLUMNS

BLOCK = Block("hamlet", "hamlet")


def row(label, trial, score, *, seed=100, dataset="hamlet", beta=None, labels=40, seconds=10.0,
        chosen=False, sizes="{}", policy=None):  # fmt: skip
    """Return a row of the trial table, by the name of its columns."""
    scored = score != ""
    return {
        "base": "hamlet", "dataset": dataset, "label": label, "trial": trial,
        "settings": json.dumps({} if beta is None else {"beta": beta}), "sizes": sizes,
        "seed": seed, "state": "done" if scored else "diverged",
        "reason": "" if scored else "NaN at step 3", "score": score,
        "stderr": 0.02 if scored else "", "n": 40 if scored else "", "labels": labels,
        "seconds": seconds, "cpu_seconds": seconds, "chosen": str(chosen).lower(),
        "policy": policy or f"prefer-{label}-{trial}-{seed}",
    }  # fmt: skip


def plant(folder, rows):
    """Write a trial table."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TRIALS).write_text(csv_text(COLUMNS, [[r[name] for name in COLUMNS] for r in rows]))


FOUR = [  # the row as it stands, one worse, one that failed, the best
    row("dpo", 0, 0.55, seconds=30.0),
    row("dpo", 1, 0.50, beta=0.02),
    row("dpo", 2, "", beta=0.9, labels="", seconds=5.0),
    row("dpo", 3, 0.61, beta=0.3, chosen=True),
]


def test_trials_count_once_over_seeds_and_failed_ones_count_too(tmp_path):
    twice = [row("dpo", 0, 0.5, seed=101, seconds=9.5), row("dpo", 0, 0.5, dataset="foreign")]
    plant(tmp_path, [*FOUR, *twice])
    found = trials_in(tmp_path)
    assert found["hamlet/hamlet"] == {"dpo": {"trials": 4.0, "labels": 160.0, "seconds": 64.5}}
    assert found["hamlet/foreign"]["dpo"]["trials"] == 1.0


def test_two_trials_of_one_policy_count_as_one(tmp_path):
    plant(tmp_path, [row("dpo", n, 0.5, beta=0.1 * n, policy="prefer-0") for n in range(3)])
    assert trials_in(tmp_path)["hamlet/hamlet"]["dpo"]["trials"] == 1.0


def test_a_trial_without_a_score_under_one_seed_has_none(tmp_path):
    plant(tmp_path, [row("dpo", 0, 0.6), row("dpo", 0, "", seed=101)])
    assert [trial.score for trial in read_trials(tmp_path)] == [None]


def test_without_tuning_nothing_was_spent_and_nothing_is_shown(tmp_path):
    folder = write_results(tmp_path)
    assert trials_in(folder) == {}
    assert tuning_table(Matrix(folder), BLOCK, folder, "tuning") is None


def test_the_budget_shows_trials_only_where_something_was_tuned(tmp_path):
    plain = budget(Matrix(write_results(tmp_path / "plain")), BLOCK, "t4")
    assert "tuning trials" not in plain.columns
    spent = {"hamlet/hamlet": {"dpo": {"trials": 8.0, "labels": 320.0, "seconds": 75.0}}}
    tuned = budget(Matrix(write_results(tmp_path / "tuned", trials=spent)), BLOCK, "t4")
    shown = {line[0].text: [cell.text for cell in line[-3:]] for line in tuned.rows}
    assert shown["dpo"] == ["8", "320", "1.2 min"]
    assert shown["sft"] == ["0", "0", "0.0 s"]


def test_the_report_shows_each_tuned_row_as_declared_and_at_its_best(tmp_path):
    folder = write_results(tmp_path)
    plant(folder, [*FOUR, row("best_of_n", 0, "", labels="")])
    made = tuning_table(Matrix(folder), BLOCK, folder, "tuning")
    assert [[cell.text for cell in line] for line in made.rows] == [
        ["best_of_n", "1", "1", "none", "none", "none", "as declared", "0", "10.0 s"],
        [
            "dpo", "4", "1", "0.550 +- 0.020 (n = 40)", "0.610 +- 0.020 (n = 40)", "beta = 0.3",
            "as declared", "120", "55.0 s",
        ],
    ]  # fmt: skip


@pytest.mark.parametrize(("beta", "said"), [(0.3, "tuned"), (0.1, "as declared")])
def test_the_report_says_whether_a_row_ran_with_what_tuning_chose(tmp_path, beta, said):
    folder = write_results(tmp_path)
    plant(folder, FOUR)
    matrix = Matrix(folder)
    next(m for m in matrix.facts["methods"] if m["label"] == "dpo")["settings"]["beta"] = beta
    (line,) = tuning_table(matrix, BLOCK, folder, "tuning").rows
    assert line[6].text == said


def test_the_best_so_far_never_falls_and_failed_trials_take_their_time(tmp_path):
    folder = write_results(tmp_path)
    plant(folder, FOUR)
    write_report(folder)
    rows = read_csv(folder / "figures" / "tuning.csv")
    assert [float(r["best_so_far"]) for r in rows] == [0.55, 0.55, 0.55, 0.61]
    assert [float(r["seconds"]) for r in rows] == [30.0, 40.0, 45.0, 55.0]
    # Of 0.50, 0.55, 0.61: the mean; (0.55 + 2 x 0.61) / 3; the largest.
    assert [r["expected_best"] for r in rows[3:]] == [""]
    expected = [float(r["expected_best"]) for r in rows[:3]]
    assert expected == pytest.approx([1.66 / 3, 1.77 / 3, 0.61])


def test_a_row_whose_first_trial_failed_is_drawn_from_its_first_score_on(tmp_path):
    folder = write_results(tmp_path)
    plant(folder, [row("dpo", 0, "", seconds=7.0), row("dpo", 1, 0.5, beta=0.2)])
    write_report(folder)
    rows = read_csv(folder / "figures" / "tuning.csv")
    assert [(r["best_so_far"], float(r["seconds"])) for r in rows] == [("", 7.0), ("0.5", 17.0)]


def test_the_report_names_the_sizes_that_trials_had_and_takes_settings_for_text(tmp_path):
    folder = write_results(tmp_path)
    hostile = row("dpo", 1, 0.7, beta="<script>alert(1)</script>", chosen=True)
    plant(folder, [row("dpo", 0, 0.6, sizes='{"budget": 500}'), hostile])
    write_report(folder)
    page = (folder / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert page.count("Trials ran with budget = 500.") >= 2  # beside the table and the figure
    with (folder / "tables" / "tuning_hamlet_hamlet.csv").open(newline="") as lines:
        assert next(csv.reader(lines))[0] == "row"
