"""`compare` and `merge`: over results folders whose difference is known."""

from __future__ import annotations

import csv
import json

import fixed_results
import pytest
from fixed_results import LEVELS, write_answers, write_curves, write_results
from typer.testing import CliRunner

from harness.commands import main
from harness.report.compared import changes, unpaired
from harness.report.tables import Matrix
from harness.results import CELLS, LEDGER, SCORES, read_csv, read_items
from harness.statistics import estimate, mean
from harness.transcripts import read_answers


def call(*words, code=0):
    done = CliRunner().invoke(main, list(map(str, words)))
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = write_results(tmp_path_factory.mktemp("whole"), seeds=(0, 1))
    write_answers(folder, ["one", "two"])
    write_curves(folder, labels=("dpo",), seeds=(0, 1))
    return folder


@pytest.fixture
def halves(tmp_path):
    """The same study from two machines: one made the base and SFT, the other the methods."""
    made = []
    for name, labels in (("here", ("base", "sft")), ("there", ("best_of_n", "dpo"))):
        folder = write_results(tmp_path / name, seeds=(0, 1), labels=labels)
        write_answers(folder, ["one", "two"], labels=labels)
        write_curves(folder, labels=[x for x in labels if x == "dpo"], seeds=(0, 1))
        made.append(folder)
    return made


def test_merging_the_halves_of_a_study_gives_the_whole(whole, halves, tmp_path):
    into = tmp_path / "merged"
    said = call("merge", *halves, "--into", into)
    assert said.count(": 4 cells") == 2
    assert read_items(into) == read_items(whole)
    for name in (SCORES, CELLS, "curves.csv"):
        assert sorted((into / name).read_text().splitlines()) == sorted(
            (whole / name).read_text().splitlines()
        ), name
    found, expected = (json.loads((f / LEDGER).read_text()) for f in (into, whole))
    (stage,) = found["provenance"]["stages"].values()
    assert stage.pop("made") == 2 * 4  # each machine made four
    next(iter(expected["provenance"]["stages"].values())).pop("made")
    assert found == expected
    assert {frozenset(line["answers"]) for line in read_answers(into)} == {frozenset(LEVELS)}
    assert (into / "report.html").is_file()


def test_merging_keeps_what_each_machine_tuned_and_how_its_labellers_did(tmp_path):
    tuned = {"trials": 8.0, "labels": 80.0, "seconds": 4.0}
    folders = []
    for label, artifacts in (("best_of_n", ["relabel-1"]), ("dpo", ["relabel-1", "relabel-2"])):
        labelled = [{"artifact": x, "pairs": 9, "rows": [label]} for x in artifacts]
        spent = {"hamlet/hamlet": {label: tuned}}
        given = {"labels": (label,), "trials": spent, "labelling": labelled}
        folders.append(write_results(tmp_path / label, **given))
    call("merge", *folders, "--into", tmp_path / "merged")
    found = json.loads((tmp_path / "merged" / LEDGER).read_text())
    assert found["trials"] == {"hamlet/hamlet": {"best_of_n": tuned, "dpo": tuned}}
    assert {one["artifact"]: one["rows"] for one in found["labelling"]} == {
        "relabel-1": ["best_of_n", "dpo"],
        "relabel-2": ["dpo"],
    }


def calls(n):
    return {"calls": n, "tokens_read": 10 * n, "tokens_written": n, "invalid": 0, "floored": 0}


def read_by(artifact, **changes):
    noted = {"read": 9, "rows": {"train": 7}, "dropped": {"long": 2}, "digests": {"train": "aa"}}
    facts = {"plugin": "hamlet", "settings": {"budget": 100}, "notes": {artifact: noted}}
    return {"hamlet": {**facts, **changes}}


def test_merging_adds_what_served_judges_cost_and_counts_once_what_two_machines_made(tmp_path):
    """Both labelled pairs-1 (5 calls), each judged one row (3 and 4 calls): 12, and never 17."""
    folders = [
        write_results(tmp_path / label, labels=(label,), endpoint={"pairs-1": calls(5), **own})
        for label, own in (("sft", {"judged-1": calls(3)}), ("dpo", {"judged-2": calls(4)}))
    ]
    call("merge", *folders, "--into", tmp_path / "merged")
    found = json.loads((tmp_path / "merged" / LEDGER).read_text())["endpoint"]
    assert sum(one["calls"] for one in found.values()) == 5 + 3 + 4
    said = "12 calls, 120 tokens read, 12 tokens written, 0 invalid, 0 floored"
    assert said in " ".join((tmp_path / "merged" / "report.md").read_text().split())


def test_merging_keeps_what_each_machine_noted_of_the_rows_it_read(tmp_path):
    folders = []
    for label, artifact in (("sft", "rows-1"), ("dpo", "rows-2")):
        settings = {label: {"beta": 0.1}}
        given = {"datasets": read_by(artifact), "whole_settings": settings}
        given["embedded_world"] = label == "dpo"
        folders.append(write_results(tmp_path / label, labels=(label,), **given))
    call("merge", *folders, "--into", tmp_path / "merged")
    found = json.loads((tmp_path / "merged" / LEDGER).read_text())
    assert set(found["datasets"]["hamlet"]["notes"]) == {"rows-1", "rows-2"}
    assert set(found["whole_settings"]) == {"sft", "dpo"}
    assert found["embedded_world"]
    report = (tmp_path / "merged" / "report.md").read_text()
    assert "rows-1" in report
    assert "rows-2" in report


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (read_by("rows-1", settings={"budget": 200}), "differ in the dataset hamlet"),
        (read_by("rows-1", notes={"rows-1": {"rows": {}, "dropped": {}}}), "read other rows into"),
    ],
)
def test_machines_that_read_other_data_are_refused(tmp_path, other, said):
    one = write_results(tmp_path / "one", labels=("sft",), datasets=read_by("rows-1"))
    two = write_results(tmp_path / "two", labels=("dpo",), datasets=other)
    assert said in " ".join(call("merge", one, two, "--into", tmp_path / "m", code=2).split())
    assert not (tmp_path / "m").exists()


def test_a_cell_that_failed_here_and_is_done_there_is_taken_from_there(tmp_path):
    failed = {("dpo", 0): ("failed", "x: broke")}
    bad = write_results(tmp_path / "bad", states=failed, left_out=[("dpo", 0)])
    good = write_results(tmp_path / "good", labels=("dpo",))
    call("merge", bad, good, "--into", tmp_path / "merged")
    states = {row["label"]: row["state"] for row in read_csv(tmp_path / "merged" / CELLS)}
    assert states == dict.fromkeys(LEVELS, "done")
    found = {series.label for series in read_items(tmp_path / "merged")}
    assert found == set(LEVELS)


def test_a_cell_that_both_made_differently_is_refused_and_nothing_is_written(halves, tmp_path):
    rows = read_csv(halves[0] / CELLS)
    with (halves[1] / CELLS).open("a", newline="") as lines:
        csv.writer(lines, lineterminator="\n").writerow({**rows[0], "artifact": "other"}.values())
    said = call("merge", *halves, "--into", tmp_path / "merged", code=2)
    assert "made with other settings or inputs" in said
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize(("name", "value"), [("study", "another"), ("margin", 5.0)])
def test_parts_of_other_studies_are_refused(halves, tmp_path, name, value):
    facts = json.loads((halves[1] / LEDGER).read_text())
    (halves[1] / LEDGER).write_text(json.dumps({**facts, name: value}))
    assert f"differ in {name}" in call("merge", *halves, "--into", tmp_path / "m", code=2)


def test_results_are_never_merged_over_others(halves):
    assert "has results already" in call("merge", *halves, "--into", halves[0], code=2)


def test_what_is_no_results_folder_is_refused(tmp_path, whole):
    assert "is no results folder" in call("compare", tmp_path, whole, code=2)
    assert "is no results folder" in call("merge", tmp_path, "--into", tmp_path / "m", code=2)


def test_a_folder_against_itself_has_not_changed(whole):
    said = call("compare", whole, whole)
    assert "nothing that the ledgers record" in said
    assert "Numbers beyond noise (Holm over" in said
    assert said.split("Numbers beyond noise")[1].split("\n")[1].strip() == "none"


def test_a_planted_change_is_beyond_noise_and_its_setting_is_named(whole, tmp_path, monkeypatch):
    monkeypatch.setitem(fixed_results.LEVELS, "dpo", (0.48, 0.88))
    other = write_results(tmp_path, seeds=(0, 1))
    facts = json.loads((other / LEDGER).read_text())
    dpo = next(row for row in facts["methods"] if row["label"] == "dpo")
    dpo["settings"] = {"beta": 0.5, "epochs": 2}
    (other / LEDGER).write_text(json.dumps(facts))
    said = call("compare", whole, other)
    beyond = said.split("Numbers beyond noise")[1].split("Not distinguishable")[0]
    assert [line.split(":")[0].strip() for line in beyond.splitlines()[1:] if line.strip()] == [
        "hamlet/hamlet/dpo gold_safe (T=1)",
        "hamlet/hamlet/dpo gold_safe (greedy)",
    ]
    assert "+0.300" in beyond
    assert "row dpo: beta 0.1 -> 0.5" in said
    assert "row dpo: epochs its default -> 2" in said


def test_folders_without_a_common_prompt_are_compared_unpaired(whole, tmp_path, monkeypatch):
    original = fixed_results.items

    def renamed(seeds, labels):
        for row in original(seeds, labels):
            yield {**row, "prompt_id": f"other-{row['prompt_id']}"}

    monkeypatch.setattr(fixed_results, "items", renamed)
    other = Matrix(write_results(tmp_path, seeds=(0, 1)))
    found = list(changes(Matrix(whole), other))
    assert found
    assert not any(change.is_paired for change in found)


def test_unpaired_differences_are_welchs():
    from scipy.stats import ttest_ind

    one, other = [0.1, 0.5, 0.4, 0.9], [0.3, 0.2, 0.7, 0.8, 1.0, 0.1]
    ours = unpaired(mean(one), mean(other))
    assert ours.p == pytest.approx(ttest_ind(one, other, equal_var=False).pvalue)
    nothing = estimate(0.5, 0.0, 3, n=4, clusters=4, seeds=1, claim="checkpoint")
    assert unpaired(nothing, nothing).value == 0
