"""Selection: the best candidate by noisy validation judgements, each of them paid for."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import toy_study

from harness.artifacts import Policy, Preferences, Samples, write_rows
from harness.control import Control
from harness.draft import Draft
from harness.judge import Contains
from harness.ledger import CELL_COLUMNS, Book
from harness.models import weights_folder
from harness.run import run
from harness.selection import selected
from harness.stages.choose import checkpoint, choose, pick, validate, validation_judgements
from harness.store import Store
from harness.study import Study
from harness.study_file import Selection, StudyError
from harness.tiny import tiny_shared


def stored(folder, kind, rows):
    """Return an artifact whose folder holds rows."""
    folder.mkdir()
    write_rows(Draft(folder), rows)
    return kind(folder.name, path=folder)


def answer(number, completion, tag="general"):
    return {
        "prompt_id": f"p{number}",
        "sample": 0,
        "messages": [{"role": "user", "content": "?"}],
        "completion": completion,
        "finished": True,
        "tag": tag,
    }


def policy_at(folder, manner=None):
    folder.mkdir(parents=True)
    (folder / "generation.json").write_text(json.dumps(manner or {}))
    return Policy(folder.name, path=folder)


def draft(folder):
    folder.mkdir()
    return Draft(folder)


def test_our_answers_are_judged_against_theirs_on_the_axis_of_their_tag(tmp_path):
    ours = [answer(0, "please"), answer(1, "no", "red-team"), answer(2, "same")]
    theirs = [answer(0, "no"), answer(1, "please", "red-team"), answer(2, "same")]
    samples = [
        stored(tmp_path / name, Samples, rows) for name, rows in (("a", ours), ("b", theirs))
    ]
    out = draft(tmp_path / "out")
    validate.body(out, *samples, judge=Contains("please"), source="human")
    rows = {r["prompt_id"]: r for r in Preferences("out", path=tmp_path / "out")}
    assert rows["p0"]["p1"] == pytest.approx(0.731059, abs=1e-6)  # 1 / (1 + exp(-1))
    assert rows["p1"]["p1"] == pytest.approx(0.268941, abs=1e-6)
    assert rows["p2"]["p1"] == 0.5
    assert [rows[p]["axis"] for p in ("p0", "p1", "p2")] == ["helpful", "safe", "helpful"]
    assert out.counters["labels_used"] == 2  # equal answers cost nothing


def test_answers_to_other_prompts_are_refused(tmp_path):
    a = stored(tmp_path / "a", Samples, [answer(0, "x")])
    b = stored(tmp_path / "b", Samples, [answer(1, "x")])
    with pytest.raises(ValueError, match="different prompts"):
        validate.body(draft(tmp_path / "out"), a, b, judge=Contains("x"), source="human")


def test_the_candidate_that_wins_most_is_picked_and_keeps_its_manner(tmp_path):
    candidates = tuple(policy_at(tmp_path / f"c{n}", {"stop_ids": [n]}) for n in range(3))
    shares = ([0.5, 0.5], [0.9, 0.5], [0.2, 1.0])
    judgements = tuple(
        stored(tmp_path / f"j{n}", Preferences, [{"p1": p} for p in share])
        for n, share in enumerate(shares)
    )
    pick.body(draft(tmp_path / "out"), candidates, judgements)
    chosen = Policy("out", path=tmp_path / "out")
    assert weights_folder(chosen) == candidates[1].path
    assert chosen.generation() == {"stop_ids": [1]}


def test_a_checkpoint_points_into_the_policy_in_order_of_steps(tmp_path):
    policy = policy_at(tmp_path / "ppo")
    for step in (2, 10, 30):
        (policy.path / "checkpoints" / f"step-{step}").mkdir(parents=True)
    checkpoint.body(draft(tmp_path / "out"), policy, number=2)
    found = weights_folder(Policy("out", path=tmp_path / "out"))
    assert found == policy.path / "checkpoints" / "step-10"
    with pytest.raises(ValueError, match="keeps 3 checkpoints"):
        checkpoint.body(draft(tmp_path / "more"), policy, number=4)


def test_selection_reaches_neither_gold_nor_test_prompts():
    shared = tiny_shared(0)
    chosen = choose((shared.base, shared.sft), shared)
    waiting, seen = [chosen], {}
    while waiting:
        artifact = waiting.pop()
        seen[artifact.id] = artifact
        waiting += artifact.inputs
    names = {a.recipe.arguments.get("split") for a in seen.values()}
    assert "validation" in names
    assert "test" not in names
    assert "Truth" not in {type(a).__name__ for a in seen.values()}


def test_a_dataset_without_an_annotator_cannot_select():
    shared = replace(tiny_shared(0), annotator=None)
    with pytest.raises(ValueError, match="annotator"):
        validation_judgements(shared.sft, shared)


BY_VALIDATION = Selection(rule="validation", candidates=3)


def walked(shared, **settings):
    """Return the policy of a toy that keeps checkpoints on the way."""
    return toy_study.toy_walk_far(shared.sft, **settings, seed=0)


def test_the_rule_last_and_a_run_without_checkpoints_leave_the_policy_as_it_is():
    shared = tiny_shared(0)
    policy = walked(shared, checkpoints=3, peak=20)
    assert selected(policy, shared, Selection()) is policy
    assert selected(shared.sft, shared, BY_VALIDATION) is shared.sft
    none = walked(shared, checkpoints=0, peak=20)
    assert selected(none, shared, BY_VALIDATION) is none


def test_candidates_are_the_last_policy_and_the_latest_checkpoints():
    shared = tiny_shared(0)
    policy = walked(shared, checkpoints=3, peak=20)
    last, *earlier = selected(policy, shared, BY_VALIDATION).recipe.arguments["candidates"]
    assert last == policy
    assert [a.recipe.arguments["number"] for a in earlier] == [2, 3]
    many = selected(policy, shared, Selection(rule="validation", candidates=100))
    assert len(many.recipe.arguments["candidates"]) == 4


@pytest.mark.parametrize(("peak", "step"), [(20, 20), (30, 30), (90, 40)])
def test_a_study_selects_by_validation_and_charges_it_apart_from_training(
    tmp_path, monkeypatch, peak, step
):
    toy_study.install(monkeypatch.setattr)
    (tmp_path / "toy.toml").write_text(
        f"""
schema = 1
name = "toy"
seeds = [0]
plugins = ['{toy_study.__file__}']
[bases.tiny]
[datasets.toy]
[methods.toy_dpo]
[methods.toy_walk]
peak = {peak}
[selection]
rule = "validation"
[evaluation]
suites = ["toy_help"]
"""
    )
    study, store = Study.load(tmp_path / "toy.toml"), Store(tmp_path / "store")
    dpo, walk = study.cells()
    run([target for cell in (dpo, walk) for target in cell.targets], store, workers=0)
    text = (weights_folder(store.open(walk.policy)) / "policy.txt").read_text()
    assert text.startswith(f"step {step} ")
    book = Book(study, store)
    held = Control(book).held(walk)
    assert held["preferences"] == "not used"
    assert held["labels, human"] == "0"
    assert held["labels, selection"] == "16"  # four candidates, four prompts
    assert Control(book).held(dpo)["labels, selection"] == "0"
    assert Control(book).held(dpo)["preferences"] != "not used"
    assert dict(zip(CELL_COLUMNS[9:], book.costs(walk), strict=True))["labels_used"] == 16


CHECKPOINTS = """
schema = 1
name = "toy"
seeds = [0]
plugins = ['{plugin}']
[bases.tiny]
[datasets.toy]
[methods.toy_walk]
[methods.early]
method = "toy_walk"
at_checkpoint = {number}
[selection]
rule = "validation"
[evaluation]
suites = ["toy_help"]
"""


def test_a_row_may_stand_for_a_policy_on_the_way_of_the_same_training(tmp_path, monkeypatch):
    toy_study.install(monkeypatch.setattr)
    file = tmp_path / "toy.toml"
    file.write_text(CHECKPOINTS.format(plugin=toy_study.__file__, number=2))
    study, store = Study.load(file), Store(tmp_path / "store")
    whole, early = study.cells()
    (trained,) = early.policy.inputs
    assert trained in whole.policy.recipe.arguments["candidates"]  # not trained again
    run([target for cell in (whole, early) for target in cell.targets], store, workers=0)
    text = (weights_folder(store.open(early.policy)) / "policy.txt").read_text()
    assert text.startswith("step 20 ")


@pytest.mark.parametrize("number", ["0", "4", "true", '"last"'])
def test_a_row_at_a_checkpoint_that_is_not_kept_is_refused_while_planning(
    tmp_path, monkeypatch, number
):
    toy_study.install(monkeypatch.setattr)
    file = tmp_path / "toy.toml"
    file.write_text(CHECKPOINTS.format(plugin=toy_study.__file__, number=number))
    with pytest.raises(StudyError, match=r"methods\.early: at_checkpoint = .*keeps 3 policies"):
        Study.load(file).cells()
