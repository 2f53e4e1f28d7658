"""A plan says what is cached, what is not and why, and what it may cost; it writes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import toy_study

from harness.find import Finder, NotFoundError, collect_garbage
from harness.planner import columns, duration, make_plan, plan_text, unplanned_text
from harness.run import in_order, run
from harness.stage import Stage
from harness.status import cell_states, status_json, status_text
from harness.store import Store
from harness.study import Study
from harness.study_file import Overrides

ROOT = Path(__file__).parents[1]
STUDY = f"""
schema = 1
name = "toy"
seeds = [0, 1]
plugins = ['{toy_study.__file__}']
[bases.tiny]
[datasets.toy]
[methods.toy_sft]
[methods.toy_dpo]
[evaluation]
suites = ["toy_help"]
"""


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    toy_study.install(monkeypatch.setattr)


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "toy.toml"
    file.write_text(STUDY)
    return file


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


INERT = """
schema = 1
name = "inert"
seeds = [0]
[bases.hamlet]
[datasets.hamlet]
[methods.sft]
[methods.sampling]
method = "llama2"
stages = "rs"
kl = 0.02
n = 4
[methods.revised]
method = "cai"
stage2 = "dpo_revision"
clamp = 0.4
beta = 0.2
[methods.ppo]
kl = 0.05
preset = "n_plus"
[labeller]
plugin = "labeller"
[evaluation]
suites = ["helpfulness"]
"""


def test_settings_that_the_rows_others_leave_without_effect_are_named(tmp_path, store):
    """RS alone has no PPO, DPO no clamp; 0.05 is N+'s own kl, and another would be another."""
    file = tmp_path / "inert.toml"
    file.write_text(INERT)
    said = plan_text(make_plan(Study.load(file), store))
    start = said.index("Set without effect")
    assert said[start:].splitlines()[1:4] == [
        "  methods.sampling: kl",
        "  methods.revised: clamp",
        "",
    ]


def produce(store, artifacts):
    """Make artifacts in this process; return their states."""
    return [outcome.state for outcome in run(artifacts, store, workers=0).values()]


def everything(study):
    return in_order([target for cell in study.cells() for target in cell.targets])


BROKEN = '''
"""A method with a slip."""
from harness import Policy, Shared, method

@method(paper="arXiv:0000.00000")
def slipped(shared: Shared) -> Policy:
    """Plan nothing."""
    return shared.sftt
'''


def test_a_plan_names_the_rows_that_cannot_be_planned_with_the_error_and_its_line(tmp_path, store):
    (tmp_path / "slipped.py").write_text(BROKEN.lstrip())
    plugins = f"plugins = ['{toy_study.__file__}', 'slipped.py']"
    study = STUDY.replace(f"plugins = ['{toy_study.__file__}']", plugins)
    (tmp_path / "toy.toml").write_text(f"{study}[methods.slipped]\n")
    plan = make_plan(Study.load(tmp_path / "toy.toml"), store)
    said = unplanned_text(plan)
    assert said in plan_text(plan)
    assert said.startswith("Planned nothing, so its cells will fail:\n")
    assert "slipped.py:7" in said
    assert "AttributeError" in said
    assert "sftt" in said
    assert said.count("methods.slipped") == 1, "once, not once a seed"


def test_a_plan_of_methods_that_plan_says_nothing_of_failing(file, store):
    assert unplanned_text(make_plan(Study.load(file), store)) == ""


def states(study, store):
    return {planned.artifact.id: planned for planned in make_plan(study, store).artifacts}


def test_on_an_empty_store_everything_is_new_and_the_cost_is_plainly_unknown(file, store):
    study = Study.load(file)
    plan = make_plan(study, store)
    assert {planned.state for planned in plan.artifacts} == {"new"}
    assert "unknown for 22 artifacts" in plan_text(plan)
    assert not store.root.exists()


def test_each_artifact_stands_once_after_its_inputs_with_the_number_of_cells_that_need_it(
    file, store
):
    plan = make_plan(Study.load(file), store)
    seen = set()
    for planned in plan.artifacts:
        assert {source.id for source in planned.artifact.inputs} <= seen
        assert planned.artifact.id not in seen
        seen.add(planned.artifact.id)
    base, test = plan.artifacts[0], next(p for p in plan.artifacts if "prompts" in p.artifact.id)
    assert base.cells == test.cells == 4
    unshared = sum(planned.cells for planned in plan.artifacts)
    assert f"Sharing saves {unshared - 22} of {unshared} makings." in plan_text(plan)


def test_what_is_made_is_cached_and_the_rest_names_the_key_that_differs(file, store):
    assert set(produce(store, everything(Study.load(file)))) == {"done"}
    changed = Study.load(file, Overrides(settings=("methods.toy_dpo.beta=0.5",)))
    planned = states(changed, store)
    (fresh, other) = (p for p in planned.values() if "toy_prefer-" in p.artifact.id)
    assert fresh.state == other.state == "new"
    assert "beta 0.1 -> 0.5" in fresh.reason
    assert "differs from toy_prefer-" in fresh.reason
    downstream = next(p for p in planned.values() if fresh.artifact in p.artifact.inputs)
    assert "policy toy_prefer-" in downstream.reason
    assert f"-> {fresh.artifact.id}" in downstream.reason
    assert {p.state for p in planned.values() if "finetune" in p.artifact.id} == {"cached"}


def test_the_nearest_recipe_is_the_one_with_the_fewest_differences(file, store):
    produce(store, everything(Study.load(file)))
    sft = Study.load(file, Overrides(seeds=(1,), settings=("sft.learning_rate=0.5",)))
    planned = next(p for p in states(sft, store).values() if "finetune" in p.artifact.id)
    assert planned.reason.endswith("in learning_rate 0.001 -> 0.5")


def test_a_raised_version_is_named(file, store, monkeypatch):
    produce(store, everything(Study.load(file)))
    old = toy_study.toy_prefer
    newer = Stage(old.body, old.makes, 2, old.name, old.owner)
    monkeypatch.setattr(toy_study, "toy_prefer", newer)
    study = Study.load(file)
    planned = [p for p in states(study, store).values() if "toy_prefer-" in p.artifact.id]
    assert all("version 1 -> 2" in p.reason for p in planned)


def test_code_that_changed_since_marks_the_artifact_and_remakes_nothing(file, store, monkeypatch):
    study = Study.load(file)
    produce(store, everything(study))
    assert {p.state for p in states(study, store).values()} == {"cached"}
    monkeypatch.setattr("harness.planner.code_digest", lambda stage: "other")
    plan = make_plan(study, store)
    assert {p.state for p in plan.artifacts} == {"changed"}
    assert plan.to_make == []
    assert "code has changed since" in plan_text(plan)


def test_expected_cost_is_the_median_of_past_runs_of_the_stage(file, store, monkeypatch):
    study = Study.load(file)
    produce(store, everything(study))
    manifests = store.manifests()
    for id, seconds in zip(sorted(m for m in manifests if "prefer-" in m), (10, 40), strict=True):
        manifests[id]["seconds"] = seconds
    monkeypatch.setattr(store, "manifests", lambda: manifests)
    changed = Study.load(file, Overrides(seeds=(0,), settings=("methods.toy_dpo.beta=0.5",)))
    plan = make_plan(changed, store)
    prefer = next(p for p in plan.to_make if "toy_prefer-" in p.artifact.id)
    assert prefer.seconds == 25
    assert "about 25 s of work for 4 artifacts" in plan_text(plan)


def test_a_failure_is_planned_again_with_its_reason_and_blocks_what_needs_it(file, store):
    study = Study.load(file, Overrides(("toy_dpo",), (0,), ("methods.toy_dpo.fault=raise",)))
    produce(store, [a for a in everything(study) if not blocked_by_prefer(a)])
    planned = states(study, store)
    failed = next(p for p in planned.values() if "toy_prefer-" in p.artifact.id)
    assert failed.state == "failed"
    assert "the toy trainer broke" in failed.reason
    (cell,) = cell_states(study.cells(), store)
    assert cell.state == "failed"
    assert "the toy trainer broke" in cell.reason


def blocked_by_prefer(artifact):
    return any("toy_prefer-" in a.id for a in in_order([artifact])[:-1])


def test_the_states_of_cells_sum_to_the_request(file, store):
    study = Study.load(file)
    assert [s.state for s in cell_states(study.cells(), store)] == ["pending"] * 4
    produce(store, in_order(study.cells()[0].targets))
    assert [s.state for s in cell_states(study.cells(), store)] == ["done"] + ["pending"] * 3
    said = json.loads(status_json(study, store))
    assert said["counts"] == {"done": 1, "pending": 3}
    assert sum(said["counts"].values()) == len(said["cells"]) == 4
    assert "tiny/toy/toy_sft/0" in status_text(study, store)


def test_a_claimed_artifact_makes_its_cells_running(file, store):
    study = Study.load(file)
    claims = store.claims()
    claim = claims.take(study.cells()[2].policy.id)
    assert [s.state for s in cell_states(study.cells(), store)] == ["pending"] * 2 + [
        "running",
        "pending",
    ]
    claims.release(claim)
    claims.close()


def test_what_failed_upstream_blocks_the_cells_below_it(file, store):
    study = Study.load(file)
    sft = study.cells()[0].shared.sft
    store.claims().close()
    store.fail(sft.id, {"state": "oom", "reason": "out of memory"})
    first, _, dpo, _ = cell_states(study.cells(), store)
    assert (first.state, dpo.state) == ("oom", "blocked")
    assert dpo.reason == f"{sft.id}: oom: out of memory"


def test_what_holds_up_several_cells_is_said_once_with_its_cause(file, store):
    study = Study.load(file)
    store.claims().close()
    base = study.cells()[0].shared.base
    store.fail(base.id, {"state": "failed", "reason": "ValueError: no column 'chosen'"})
    cells = study.cells()
    said = [line for line in status_text(study, store).splitlines() if "no column" in line]
    cause = f"{base.id}: failed: ValueError: no column 'chosen'"
    assert said == [f"{cells[0].name} and {len(cells) - 1} more: {cause}"]


def test_ids_are_found_by_prefix_and_by_cell_and_what_is_ambiguous_is_listed(file, store):
    study = Study.load(file)
    policy = study.cells()[2].policy
    finder = Finder(store, [str(file)], ())
    assert finder.id(policy.id[:-3]) == policy.id
    assert finder.id(f"{file}:toy_dpo/0") == policy.id
    assert finder.id(f"{file}:tiny/toy/toy_dpo/0") == policy.id
    with pytest.raises(NotFoundError, match=r"begins 2 ids: toy_prefer-.*, toy_prefer-"):
        finder.id("toy_prefer-")
    with pytest.raises(NotFoundError, match="names 2 cells"):
        finder.id(f"{file}:toy_dpo")
    with pytest.raises(NotFoundError, match="no artifact 'toy_prefre'"):
        finder.id("toy_prefre")


def test_why_tells_cached_from_never_made_from_failed_from_different(file, store):
    study = Study.load(file)
    finder = Finder(store, [str(file)], ())
    policy = study.cells()[2].policy
    assert finder.why(policy.id).endswith("new: never made, nor anything else by this stage")
    produce(store, everything(study))
    assert finder.why(policy.id) == f"{policy.id} is cached"
    store.remove(policy.id)
    assert "differs from toy_prefer-" in finder.why(policy.id)
    store.fail(policy.id, {"state": "diverged", "reason": "loss is nan at step 3"})
    assert finder.why(policy.id).endswith("is failed: diverged: loss is nan at step 3")


def test_show_gives_recipe_inputs_cost_and_who_needs_it(file, store):
    study = Study.load(file)
    produce(store, everything(study))
    cell = study.cells()[2]
    text = Finder(store, [str(file)], ()).show(cell.policy.id)
    assert "beta = 0.1" in text
    assert cell.shared.sft.id in text
    assert "policy.txt" in text
    assert f"  {cell.samples['greedy'].id}" in text
    assert "  toy:tiny/toy/toy_dpo/0" in text
    assert "  toy:tiny/toy/toy_sft/0" not in text


def test_garbage_is_what_no_given_study_reaches_and_only_delete_removes_it(file, store):
    study = Study.load(file)
    old = Study.load(file, Overrides(("toy_dpo",), (0,), ("methods.toy_dpo.beta=0.5",)))
    produce(store, in_order([*everything(study), *everything(old)]))
    kept = {artifact.id for artifact in everything(study)}
    extra = {artifact.id for artifact in everything(old)} - kept
    assert len(extra) == 4
    said = collect_garbage([study], store, delete=False)
    assert all(id in said for id in extra)
    assert not any(id in said for id in kept)
    assert store.manifests().keys() == kept | extra
    collect_garbage([study], store, delete=True)
    assert store.manifests().keys() == kept
    assert "nothing to remove" in collect_garbage([study], store, delete=True)


def test_a_log_is_printed_without_terminal_escapes(file, store):
    study = Study.load(file)
    produce(store, everything(study)[:1])
    id = everything(study)[0].id
    store.log(id).parent.mkdir(exist_ok=True)
    store.log(id).write_text("\x1b[31mred\x1b[0m \x1b]0;title\x07done\n")
    assert "".join(Finder(store, [str(file)], ()).log(id, follow=False)) == "red done\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599, "59 min 59 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_columns_are_aligned():
    assert columns([("a", "b"), ("long", "10")]) == "a      b\nlong  10"


PLAN_QUICKLY = """
import sys, time
from harness.commands import main
try:
    main(["plan", {study!r}, "--store", {store!r}])
except SystemExit as end:
    assert end.code in (0, None), end.code
print(time.process_time(), file=sys.stderr)  # CPU seconds: others may use the machine
heavy = {{"torch", "transformers", "trl", "peft", "datasets", "pandas", "rich.progress"}}
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
"""


@pytest.mark.parametrize("study", ["demo", "hamlet"])
def test_planning_a_shipped_study_takes_under_a_second_and_imports_nothing_heavy(study, tmp_path):
    code = PLAN_QUICKLY.format(study=study, store=str(tmp_path / "store"))
    seconds = []
    for _ in range(
        3
    ):  # a core whose other half is busy counts the same work as up to twice as long
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        seconds.append(float(done.stderr.split()[-1]))
    assert min(seconds) < 2  # one on a core of its own: two busy threads share what a core can do
    assert list(tmp_path.iterdir()) == []


def test_the_plan_of_the_embedded_study_is_the_golden_one(tmp_path):
    """To accept a new plan, read the difference and copy the new text into the golden file."""
    code = (
        "from harness.commands import main\n"
        f"main(['plan', 'demo', '--all', '--store', {str(tmp_path / 'store')!r}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    golden = ROOT / "tests" / "golden" / "plan_demo.txt"
    assert done.stdout == golden.read_text(encoding="utf-8")
