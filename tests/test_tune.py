"""Tuning from the command line: trials, what they choose, and runs with what was chosen."""

from __future__ import annotations

import csv
import json
import math
import tomllib

import pytest
import test_commands
from test_commands import STUDY, call, finish, snapshot, start

from harness.ranges import LogRange, drawn_settings
from harness.registry import get
from harness.run import in_order
from harness.store import Store
from harness.study import Study
from harness.study_file import StudyError
from harness.trials import trials_in
from harness.tune_problems import tune_problems
from harness.tune_trials import trials_of, tunable

folder = test_commands.folder
TUNE = """
[tune]
trials = 4
seeds = [100, 101]
[tune.ranges.toy_dpo]
beta = {log_range = [0.01, 1.0]}
"""
HERE = ("--workers", "0")


@pytest.fixture(autouse=True)
def study(folder):
    (folder / "toy.toml").write_text(STUDY + TUNE)


def betas(count=4):
    """Return the beta of each trial; trial 0 is the default."""
    plugin, ranges = get("method", "toy_dpo"), {"beta": LogRange(0.01, 1.0)}
    drawn = [drawn_settings(plugin, "toy_dpo", ranges, trial=n, seed=100) for n in range(count)]
    return [settings.get("beta", 0.1) for settings in drawn]


def read_trials(folder, name="results"):
    with (folder / name / "toy" / "trials.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_tuning_chooses_the_trial_that_the_annotator_prefers(folder):
    call("tune", "toy.toml", *HERE)
    best = max(betas())  # this annotator likes a high beta
    chosen = tomllib.loads((folder / "toy.tuned.toml").read_text())["methods"]
    assert list(chosen) == ["toy_dpo"]  # the other row has nothing to tune
    assert chosen["toy_dpo"]["settings"] == {"beta": best}
    assert chosen["toy_dpo"]["trial"] == betas().index(best)
    assert chosen["toy_dpo"]["score"] == pytest.approx(1 / (1 + math.exp(-best)))  # SFT has none
    made = Store(folder / "results/store").manifests()
    assert len(chosen["toy_dpo"]["policies"]) == 2
    assert set(chosen["toy_dpo"]["policies"]) <= made.keys()


def test_every_trial_is_published_with_what_it_cost(folder):
    call("tune", "toy.toml", *HERE)
    rows = read_trials(folder)
    assert [(row["trial"], row["seed"]) for row in rows] == [
        (str(trial), seed) for trial in range(4) for seed in ("100", "101")
    ]
    assert [json.loads(row["settings"]).get("beta", 0.1) for row in rows[::2]] == betas()
    assert {row["state"] for row in rows} == {"done"}
    assert {row["labels"] for row in rows} == {"4"}  # one for each of four validation prompts
    assert {row["trial"] for row in rows if row["chosen"] == "true"} == {
        str(betas().index(max(betas())))
    }


def test_time_that_trials_share_counts_once_for_the_row(folder):
    call("tune", "toy.toml", *HERE)
    store = Store(folder / "results/store").manifests()
    trials = trials_of(Study.load("toy.toml"))
    every = {a.id: a for trial in trials.cells() for a in in_order(trial.targets)}
    start = {
        a.id
        for trial in trials.cells()
        for a in in_order([trial.shared.sft, trial.shared.preferences])
    }
    each = [{a.id for a in in_order(t.targets)} - start for t in trials.cells()]
    assert sum(map(len, each)) > len(set().union(*each))  # some of it is shared
    later = [id for id in every if id not in start]
    spent = sum(float(row["seconds"]) for row in read_trials(folder))
    exact = sum(store[id]["seconds"] for id in later)
    assert spent == pytest.approx(exact, abs=0.05 * len(trials.cells()))


def test_trials_reach_neither_test_prompts_nor_gold_nor_reporting_seeds():
    trials = trials_of(Study.load("toy.toml"))
    reached = in_order([target for cell in trials.cells() for target in cell.targets])
    assert len(trials.cells()) == 8
    splits = {a.recipe.arguments.get("split") for a in reached} - {None}
    assert splits == {"validation"}
    assert "Scores" not in {type(a).__name__ for a in reached}
    assert {cell.seed for cell in trials.cells()} == {100, 101}


def test_a_trial_zero_is_the_cell_that_an_untuned_run_has(folder):
    trials = trials_of(Study.load("toy.toml"))
    untuned = Study.load("toy.toml").cells()[1]
    (folder / "toy.toml").write_text(STUDY.replace("[0]", "[100]"))
    assert trials.cells()[0].policy == Study.load("toy.toml").cells()[1].policy
    assert trials.cells()[0].policy != untuned.policy


def test_a_tuned_run_uses_what_was_chosen_and_the_plan_says_so(folder):
    call("tune", "toy.toml", *HERE)
    best = max(betas())
    won = 1 / (1 + math.exp(-best))
    said = call("plan", "toy.toml", "--tuned")
    assert f"beta={best}  (trial {betas().index(best)} of 4, won {won:.3f} +- 0.000)" in said
    said = call("run", "toy.toml", "--tuned", *HERE)
    assert f"beta={best}" in said
    assert "2 cells: 2 done" in said
    made = Store(folder / "results/store").manifests().values()
    ours = [m["recipe"]["arguments"] for m in made if m["recipe"]["stage"].endswith(":toy_prefer")]
    assert [a["beta"] for a in ours if a["seed"] == 0] == [best]


def test_a_report_that_knows_no_trials_is_written_again_once_there_are_some(folder):
    call("run", "toy.toml", *HERE)
    assert "nothing to do" in call("run", "toy.toml", *HERE)
    call("tune", "toy.toml", *HERE)
    assert "nothing to do" not in call("run", "toy.toml", *HERE)
    assert "nothing to do" in call("run", "toy.toml", *HERE)


def test_tuning_again_with_nothing_to_do_makes_nothing(folder):
    call("tune", "toy.toml", *HERE)
    store, text = snapshot(folder / "results/store"), (folder / "toy.tuned.toml").read_bytes()
    call("tune", "toy.toml", *HERE)
    assert snapshot(folder / "results/store") == store
    assert (folder / "toy.tuned.toml").read_bytes() == text


def test_garbage_collection_keeps_trials(folder):
    call("tune", "toy.toml", *HERE)
    assert "nothing to remove" in call("gc", "toy.toml")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[datasets.toy]", "[datasets.toy]\nsize = 5"),
        ("[0.01, 1.0]", "[0.01, 2.0]"),
        ("[100, 101]", "[100, 102]"),
        ("[methods.toy_dpo]", "[methods.toy_dpo]\nbeta = 0.3"),
        ("[bases.tiny]", "[sft]\nlearning_rate = 0.5\n[bases.tiny]"),
    ],
)
def test_a_tuned_file_of_another_study_is_refused_with_the_remedy(folder, old, new):
    call("tune", "toy.toml", *HERE)
    (folder / "toy.toml").write_text((STUDY + TUNE).replace(old, new))
    if "[sft]" in new:  # the toy SFT has other settings than the real one, whose are checked
        call("plan", "toy.toml")
    before = snapshot(folder)
    said = call("run", "toy.toml", "--tuned", code=2)
    assert "out of date" in said
    assert "run `tune toy.toml` again" in said
    assert snapshot(folder) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("schema = 1", 'schema = 1\nnote = "said"'),
        ("seeds = [0]", "seeds = [7]"),
        ("trials = 4", "trials = 3"),
    ],
)
def test_what_does_not_bear_on_the_trials_leaves_a_tuned_file_valid(folder, old, new):
    call("tune", "toy.toml", *HERE)
    (folder / "toy.toml").write_text((STUDY + TUNE).replace(old, new, 1))
    assert "of 4" in call("plan", "toy.toml", "--tuned")


def test_a_run_that_was_not_tuned_is_refused_with_the_remedy(folder):
    assert "run `tune`" in call("run", "toy.toml", "--tuned", code=2)
    (folder / "toy.tuned.toml").write_text("schema = 1")
    assert "is not what `tune` writes" in call("run", "toy.toml", "--tuned", code=2)


def test_a_study_with_nothing_to_tune_says_what_to_add(folder):
    (folder / "toy.toml").write_text(STUDY)
    assert "add [tune]" in call("tune", "toy.toml", code=2)
    (folder / "toy.toml").write_text(STUDY + "[tune]\nseeds = [100]\n")
    assert "no row has a setting with a range" in call("tune", "toy.toml", code=2)


def test_the_command_line_sets_the_number_of_trials_and_the_rows(folder):
    call("tune", "toy.toml", "--trials", "2", "--only", "toy_dpo", *HERE)
    assert {row["trial"] for row in read_trials(folder)} == {"0", "1"}
    assert "of 2" in call("plan", "toy.toml", "--tuned")
    assert "no setting with a range" in call("tune", "toy.toml", "--only", "toy_sft", code=2)


def test_a_row_that_nobody_tuned_yet_has_no_trials_in_the_table(folder):
    rows = "[methods.firm]\nmethod = 'toy_dpo'\nbeta = 0.5\n"
    ranges = "[tune.ranges.firm]\nbeta = {log_range = [0.1, 1.0]}\n"
    (folder / "toy.toml").write_text(STUDY + TUNE + ranges + rows)
    call("tune", "toy.toml", "--trials", "2", "--only", "firm", *HERE)
    assert {(row["label"], row["trial"]) for row in read_trials(folder)} == {
        ("firm", "0"), ("firm", "1"),
    }  # fmt: skip
    assert set(trials_in(folder / "results/toy")["tiny/toy"]) == {"firm"}


def test_failed_trials_are_published_and_only_cost_themselves(folder):
    broken = 'beta = {choice = [0.2, 0.3]}\nfault = {choice = ["raise", ""]}\n'
    ranged = TUNE.replace("beta = {log_range = [0.01, 1.0]}\n", broken)
    (folder / "toy.toml").write_text(STUDY + ranged.replace("trials = 4", "trials = 8"))
    said = call("tune", "toy.toml", *HERE, code=1)
    assert "the toy trainer broke" in said
    rows = read_trials(folder)
    for row in rows:
        failed = json.loads(row["settings"]).get("fault") == "raise"
        assert row["state"] == ("failed" if failed else "done")
        assert (row["score"] == "") == failed
    assert {row["state"] for row in rows} == {"failed", "done"}
    chosen = tomllib.loads((folder / "toy.tuned.toml").read_text())["methods"]["toy_dpo"]
    assert chosen["settings"] == {"beta": 0.3, "fault": ""}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[100, 101]", "[100, 0]", "report results too"),
        ("[100, 101]", "[100, 100]", "stands there twice"),
        ("trials = 4", "trails = 4", "Did you mean 'trials'"),
        ("ranges.toy_dpo", "ranges.toy_dqo", "Did you mean 'toy_dpo'"),
        ("beta = {log", "betta = {log", "Did you mean 'beta'"),
        ("[0.01, 1.0]", "[0.0, 1.0]", "above 0"),
        ("trials = 4", "trials = 0", "tune.trials = 0"),
        ("[tune]", '[selection]\nrule = "best"\n[tune]', "selection.rule"),
        ("[tune]", "[selection]\ncandidate = 3\n[tune]", "Did you mean 'candidates'"),
    ],
)
def test_problems_of_the_tables_are_found_before_any_work(folder, old, new, said):
    (folder / "toy.toml").write_text(STUDY + TUNE.replace(old, new))
    with pytest.raises(StudyError, match=said):
        Study.load("toy.toml")


def test_reporting_on_a_tuning_seed_is_refused(folder):
    assert "report results too" in call("run", "toy.toml", "--seeds", "0,101", code=2)


SIZES = "[tune.datasets.toy]\nsize = 3\n"


def test_trials_of_smaller_sizes_choose_for_a_run_of_the_studys_own(folder):
    (folder / "toy.toml").write_text(STUDY + TUNE + SIZES)
    call("tune", "toy.toml", *HERE)
    assert {row["sizes"] for row in read_trials(folder)} == {'{"size": 3}'}
    assert {row["labels"] for row in read_trials(folder)} == {"3"}  # of validation, one a prompt
    said = call("run", "toy.toml", "--tuned", *HERE)
    assert "(trials had datasets.toy.size = 3)" in said
    assert f"beta={max(betas())}" in said
    trials, cells = trials_of(Study.load("toy.toml")).cells(), Study.load("toy.toml").cells()
    store = Store(folder / "results/store")
    pairs = [len(store.open(cell.shared.preferences).rows()) for cell in (*trials, *cells)]
    assert pairs == [3] * len(trials) + [4] * len(cells)


@pytest.mark.parametrize("changed", ["size = 4", ""])
def test_a_tuned_file_of_other_sizes_is_refused(folder, changed):
    (folder / "toy.toml").write_text(STUDY + TUNE + SIZES)
    call("tune", "toy.toml", *HERE)
    (folder / "toy.toml").write_text(STUDY + TUNE + SIZES.replace("size = 3", changed))
    assert "out of date" in call("run", "toy.toml", "--tuned", code=2)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ("[tune.datasets.toi]\nsize = 3", "tune.datasets.toi: .*Did you mean 'toy'"),
        ("[tune.datasets.toy]\nsise = 3", "tune.datasets.toy.sise: .*Did you mean 'size'"),
        ("[tune.datasets.toy]\nsize = 3.5", "tune.datasets.toy.size must be"),
        ("[tune.datasets.toy]\nsize = true", "tune.datasets.toy.size must be"),
        ("[tune.datasets.toy]\npath = '.'", "trials may have other sizes.*one of size"),
        ("[tune.datasets.toy]\nplugin = 'toy'", "'toy' has no such setting"),
        ("[tune.datasets]\ntoy = 3", "tune.datasets.toy = 3"),
    ],
)
def test_sizes_of_no_dataset_are_refused_with_the_remedy(folder, sizes, said):
    (folder / "toy.toml").write_text(STUDY + TUNE + sizes)
    with pytest.raises(StudyError, match=said):
        Study.load("toy.toml")


def test_trials_never_have_other_annotators_or_labels_than_the_study():
    for setting in ("labels = 'oracle'", "flips = 0.0", "minority = 0.0"):
        changed = f"[tune]\nseeds = [100]\n[tune.datasets.hamlet]\n{setting}\n"
        raw = tomllib.loads(f"[datasets.hamlet]\n{changed}")
        assert any("trials may have other sizes" in said for said in tune_problems(raw))


IDLE = '''from typing import Annotated
from harness import LogRange, Policy, Shared, method

@method(paper=None)
def idle(shared: Shared, rate: Annotated[float, LogRange(0.1, 1.0)] = 0.5) -> Policy:
    """Return the shared SFT policy."""
    return shared.sft
'''


def test_a_row_that_no_draw_changes_gets_no_trials_and_runs_as_it_stands(folder):
    (folder / "idle.py").write_text(IDLE)
    named = STUDY.replace("plugins = [", "plugins = ['idle.py', ")
    (folder / "toy.toml").write_text(named + TUNE + "[methods.idle]\n")
    call("tune", "toy.toml", *HERE)
    assert {row["label"] for row in read_trials(folder)} == {"toy_dpo"}
    assert tunable(Study.load("toy.toml")) == ["toy_dpo"]
    assert "idle has no setting with a range that changes it" in call(
        "tune", "toy.toml", "--only", "idle", code=2
    )
    assert "3 cells: 3 done" in call("run", "toy.toml", "--tuned", *HERE)


def test_rounds_of_equal_draws_are_drawn_again_until_the_ranges_hold_no_more(folder):
    few = TUNE.replace("log_range = [0.01, 1.0]", "choice = [0.1, 0.3, 0.9]")
    (folder / "toy.toml").write_text(STUDY + few)
    said = call("tune", "toy.toml", *HERE)
    assert "toy_dpo: 3 trials, not 4: its ranges hold no others" in said
    tried = [json.loads(row["settings"]).get("beta") for row in read_trials(folder)[::2]]
    assert tried[0] is None  # the row as it stands, whose beta is 0.1
    assert sorted(tried[1:]) == [0.3, 0.9]
    assert "of 3" in call("plan", "toy.toml", "--tuned")


@pytest.mark.slow
@pytest.mark.parametrize("made", [3, 11])
def test_killed_and_resumed_tuning_chooses_and_writes_the_same(folder, made):
    whole = ["tune", "toy.toml", *HERE, "--store", "one", "--results", "first"]
    assert finish(start(folder, *whole))[0] == 0
    tuned = (folder / "toy.tuned.toml").read_bytes()
    (folder / "toy.tuned.toml").unlink()
    words = ["tune", "toy.toml", *HERE, "--store", "two", "--results", "second"]
    process = start(folder, *words)
    while len(Store(folder / "two").manifests()) < made and process.poll() is None:
        pass
    process.kill()
    process.communicate(timeout=60)
    assert finish(start(folder, *words))[0] == 0
    assert (folder / "toy.tuned.toml").read_bytes() == tuned
    both = [read_trials(folder, name) for name in ("first", "second")]
    for row in (*both[0], *both[1]):
        row["seconds"] = row["cpu_seconds"] = ""
    assert both[0] == both[1]
    assert finish(start(folder, "run", "toy.toml", "--tuned", *HERE, "--store", "two"))[0] == 0
