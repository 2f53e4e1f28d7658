"""Several sets as one: what is true of one set is true of the mixture."""

from __future__ import annotations

import json

import pytest
from conftest import SHARED
from tiny import tiny_policy, write_policy

from harness import registry
from harness.mixture import mixture
from harness.prepare import written_paths
from harness.run import in_order
from harness.study import Study
from harness.study_file import StudyError

REAL = SHARED / "data"
STUDY = """
schema = 1
name = "mixed"
seeds = [0]
[bases.mine]
path = "model"
[datasets.both]
plugin = "mixture"
test = 0.25
[datasets.both.parts.own]
plugin = "jsonl"
path = "own.jsonl"
[datasets.both.parts.other]
plugin = "jsonl"
path = "other.jsonl"
prompt = "asked"
chosen = "good"
rejected = "bad"
axis = "safe"
[methods.sft]
[judge]
plugin = "contains"
word = "yes"
[evaluation]
suites = ["preference"]
"""


def own(numbers):
    return [{"prompt": f"Why {k}?", "chosen": f"yes {k}", "rejected": f"no {k}"} for k in numbers]


def other(numbers):
    return [{"asked": f"Why {k}?", "good": f"no {k}", "bad": f"go on {k}"} for k in numbers]


def written(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def parts(tmp_path):
    """Return two parts whose columns and axes differ, and half of whose prompts are the same."""
    columns = {"prompt": "asked", "chosen": "good", "rejected": "bad", "axis": "safe"}
    first = written(tmp_path / "own.jsonl", own(range(40)))
    second = written(tmp_path / "other.jsonl", other(range(20, 60)))
    return {
        "own": {"plugin": "jsonl", "path": str(first)},
        "other": {"plugin": "jsonl", "path": str(second), **columns},
    }


def mixed(parts, **settings):
    return mixture(tiny_policy(seed=0), 0, parts=parts, test=0.25, **settings)


def test_rows_of_all_parts_are_there_on_their_own_axes(make, parts):
    pairs = make(mixed(parts).preferences(None)).rows()
    by_axis = {axis: [row for row in pairs if row["axis"] == axis] for axis in ("helpful", "safe")}
    assert len(by_axis["helpful"]) > 20
    assert len(by_axis["safe"]) > 20
    assert all("yes" in r["chosen"] + r["rejected"] for r in by_axis["helpful"])
    assert all("go on" in r["chosen"] + r["rejected"] for r in by_axis["safe"])


def test_a_prompt_of_two_parts_is_in_one_split(make, parts):
    data = mixed(parts)
    splits = [data.prompts, data.validation, data.test]
    seen = [row["prompt_id"] for split in splits for row in make(split)]
    assert len(seen) == len(set(seen)) == 60
    assert len(make(data.test).rows()) == 15
    held = {row["prompt_id"] for split in splits[1:] for row in make(split)}
    assert not held & {row["prompt_id"] for row in make(data.preferences(None))}


def test_the_same_rows_in_two_parts_count_once_and_the_budget_is_of_the_whole(make, parts):
    twice = {"a": parts["own"], "b": {**parts["own"]}}
    whole = make(mixed(twice).preferences(None)).rows()
    assert len(whole) == len({row["prompt_id"] for row in whole}) < 40
    assert len(make(mixed(parts, budget=12).preferences(None)).rows()) == 12


def test_the_order_of_the_tables_changes_nothing(parts):
    turned = dict(reversed(parts.items()))
    assert mixed(turned).test.id == mixed(parts).test.id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"own": {"budget": 3}}, r"parts.own.budget: say it of the mixture"),
        ({"own": {"plugin": "hamlet"}}, r"dataset 'hamlet' reads no fixed rows"),
        ({"own": {"plugin": "jsonll"}}, r"no dataset 'jsonll'. Did you mean"),
        ({"own": {"colour": "red"}}, "colour"),
        ({"other": None}, "two parts at least"),
    ],
)
def test_what_makes_no_part_is_refused_with_the_remedy(parts, change, message):
    registry.discover()
    for label, table in change.items():
        if table is None:
            del parts[label]
        else:
            kept = {} if table.get("plugin") == "hamlet" else parts[label]
            parts[label] = {**kept, **table}
    with pytest.raises((ValueError, TypeError, registry.UnknownNameError), match=message):
        mixed(parts)


@pytest.fixture
def study(tmp_path, parts):
    """Return a study of a mixture of files beside it."""
    (tmp_path / "model").mkdir()
    write_policy(tmp_path / "model")
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path / "study.toml"


def test_paths_of_parts_lie_beside_the_study_and_are_carried_into_a_mirror(study):
    (cell,) = Study.load(study).cells()
    names = [a.recipe.stage.name for a in in_order(cell.targets) if a.recipe]
    assert names.count("read_pairs") == 1
    raw = {"parts": {"own": {"path": "own.jsonl"}, "other": {"path": "other.jsonl"}}}
    assert written_paths({"datasets": {"both": raw}}) == ["own.jsonl", "other.jsonl"]


def test_a_part_that_is_not_there_is_named_by_its_place_in_the_study(study):
    (study.parent / "other.jsonl").unlink()
    with pytest.raises(StudyError, match=r"datasets\.both\.parts\.other\.path = 'other.jsonl'"):
        Study.load(study)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the shared data is not here")
def test_real_sets_of_two_publishers_become_one(make):
    registry.discover()
    real = {
        "hh_rlhf": {
            "path": str(REAL / "hh_rlhf"),
            "helpful": "helpful*/test.jsonl.gz",
            "harmless": "",
            "helpful_test": "",
            "harmless_test": "",
        },
        "pku_saferlhf": {
            "path": str(REAL / "pku_saferlhf"),
            "train": "pku_saferlhf_safe_vs_unsafe_2500.jsonl.gz",
            "tests": "",
            "axis": "safe",
        },
    }
    rows = make(mixed(real, max_rows=300).preferences(None)).rows()
    axes = [row["axis"] for row in rows]
    assert min(axes.count("helpful"), axes.count("safe")) > 30
