"""The power command: a plan of the run itself is what the run showed, and assumptions are said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fixed_results import write_results

from harness import power_report
from harness.power import plan
from harness.results import LEDGER, Series, read_items
from harness.statistics import difference
from harness.study import Study
from harness.study_file import InputError

ROOT = Path(__file__).parents[1]


def text(folder, *, seeds=None, prompts=None, seed_sd=1.5):
    study = Study.load("demo")
    return power_report.power_text(study, folder, seeds=seeds, prompts=prompts, seed_sd=seed_sd)


def row(said, name):
    return next(line for line in said.splitlines() if line.startswith(f"{name} ")).split()


def test_planning_the_run_that_was_made_shows_its_own_detectable_difference(tmp_path):
    folder = write_results(tmp_path / "r", seeds=(0, 1, 2, 3), labels=("sft", "dpo"))
    (seen,) = (x for x in power_report.measured(folder, 9.9) if x.name.startswith("win_rate T=1"))
    series = read_items(folder)
    of = {s.label: v for s, v in series.items() if (s.metric, s.decoding) == ("win_rate", "T=1")}
    known = difference(of["dpo"].values, of["sft"].values, of["sft"].clusters)
    found = plan(seen.variances, seeds=4, prompts=120)
    assert (seen.rows, seen.prompts, seen.variances.seeds_seen) == (1, 120, 4)
    assert found.stderr == pytest.approx(known.stderr, rel=0.2)  # components are cut at 0
    said = text(folder, seeds=4)
    assert row(said, "win_rate T=1")[-5:-3] == ["120", f"{found.difference():.3f}"]
    assert "assumed" not in said


def test_one_seed_says_what_it_assumes_and_leaves_out_metrics_without_points(tmp_path):
    folder = write_results(tmp_path / "r", seeds=(0,))
    ledger = json.loads((folder / LEDGER).read_text())
    (length,) = (m for s in ledger["suites"] for m in s["metrics"] if m["name"] == "length")
    length["range"] = [0.0, 1e6]
    (folder / LEDGER).write_text(json.dumps(ledger))
    said = text(folder)
    assert "assumed: 1.5 points of sd for each method" in said
    assert "length" not in said  # tokens have no points
    assert row(said, "gold_help T=1")[-6] == "checkpoint"
    assert row(text(folder, seeds=5), "gold_help T=1")[-6] == "method"


def test_a_larger_spread_over_seeds_hides_more(tmp_path):
    folder = write_results(tmp_path / "r", seeds=(0,))
    small, large = (
        float(row(text(folder, seeds=5, seed_sd=sd), "gold_safe T=1")[-4]) for sd in (0.5, 5.0)
    )
    assert large > 2 * small


def test_without_results_all_is_assumed_and_said_so(tmp_path):
    said = text(tmp_path / "none", seeds=1, prompts=500)
    assert "No results yet, so all is assumed" in said
    assert row(said, "an accuracy of 50 %")[-4] == "0.063"  # 6.3 points, the table of the field
    with pytest.raises(InputError, match="--prompts"):
        text(tmp_path / "none")


def test_numbers_that_cannot_be_planned_with_are_refused(tmp_path):
    for wrong in ({"seeds": 0}, {"prompts": 1}, {"seed_sd": -1.0}):
        with pytest.raises(InputError, match="--seeds of 1 or more"):
            text(tmp_path / "none", **{"prompts": 100, **wrong})


def test_a_plan_for_fewer_prompts_than_clusters_need_says_so(tmp_path):
    folder = write_results(tmp_path / "r", seeds=(0,))
    assert "too few prompts" in text(folder, prompts=3)


def test_names_hold_no_terminal_escapes():
    series = Series("b", "d", "dpo", "s", "m\x1b[31m", "T=1", "", "")
    assert power_report.named(series, {series: None}) == "m T=1"


def test_the_command_needs_no_torch():
    script = (
        "import sys; from harness.commands import main\n"
        "try: main(['power', 'demo', '--prompts', '400', '--results', '/nonexistent'])\n"
        "except SystemExit as end: assert end.code in (0, None), end.code\n"
        "assert not {'torch', 'transformers', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "80 % power" in done.stdout


def test_the_prompts_that_tell_a_win_rate_from_one_half_are_the_published_ones():
    """Sizes at 80 % power, two-sided 5 %, as planned for studies with raters."""
    assert "55% needs 783, 60% needs 194, 65% needs 85" in power_report.against_half()
