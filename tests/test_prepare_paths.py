"""Air gap: all that a study names by path is in its mirror, whatever else has the same bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny import write_policy

from harness.constitution_file import SHIPPED
from harness.mirror import Mirror
from harness.preflight import preflight
from harness.prepare import Preparing, ids_of, opened
from harness.study import Study
from harness.study_file import Overrides, StudyError
from harness.study_sources import changes, record, used

STUDY = """
schema = 1
name = "local"
seeds = [0]

[bases.x]
path = "one"

[bases.y]
path = "two"

[datasets.first]
plugin = "jsonl"
path = "a.jsonl"
assistant = "base"

[datasets.second]
plugin = "jsonl"
path = "b.jsonl"
assistant = "base"

[datasets.third]
plugin = "jsonl"
path = "./a.jsonl"
assistant = "base"

[datasets.fourth]
plugin = "jsonl"
path = "rows"
assistant = "two"

[methods.cai]
stage = "sl"
constitution = "ours.yaml"

[labeller]
plugin = "guard"
path = "nobodys"
form = "questions"

[judge]
plugin = "contains"
word = "zero"

[evaluation]
suites = ["preference"]
temperatures = [0.0]
max_new_tokens = 4
"""
NAMES = {"one", "two", "nobodys", "a.jsonl", "b.jsonl", "./a.jsonl", "rows", "ours.yaml"}


@pytest.fixture
def file(tmp_path) -> Path:
    """Return a study of equal models and equal rows under several names, with a constitution.

    Its labeller has nothing to label.
    """
    folder = tmp_path / "study"
    (folder / "rows").mkdir(parents=True)
    write_policy(folder / "one")
    for name in ("two", "nobodys"):
        shutil.copytree(folder / "one", folder / name)
    lines = [
        {"prompt": f"question {k} of many", "chosen": "zero words", "rejected": "one"}
        for k in range(60)
    ]
    for name in ("a.jsonl", "b.jsonl", "rows/c.jsonl", "rows/d.jsonl"):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    shutil.copyfile(SHIPPED / "general.yaml", folder / "ours.yaml")
    (folder / "local.toml").write_text(STUDY)
    return folder / "local.toml"


def prepared(file: Path) -> Mirror:
    """Return the mirror of a study, beside its folder."""
    one = Preparing(str(file), opened(file.parent.parent / "mirror"), say=lambda _: None)
    one.run()
    return one.mirror


def carried(file: Path, mirror: Mirror) -> Study:
    """Return the study as it is planned where only its file and the mirror are."""
    place = mirror.root.parent / "elsewhere"
    place.mkdir(exist_ok=True)
    alone = Path(shutil.copyfile(file, place / file.name))
    return Study.load(alone, Overrides(settings=(f"mirror={json.dumps(str(mirror.root))}",)))


def test_a_study_file_and_its_mirror_are_enough_though_inputs_have_equal_bytes(file):
    mirror = prepared(file)
    assert {one.name for one in mirror.kept.values()} == NAMES
    study = carried(file, mirror)
    assert ids_of(study) == ids_of(Study.load(file))
    assert preflight(study) == []


def test_a_constitution_that_rots_in_a_mirror_is_seen_before_work(file):
    mirror = prepared(file)
    study = carried(file, mirror)
    copy = mirror.copy_of("ours.yaml")
    copy.write_text(copy.read_text() + "\n# changed\n")
    (problem,) = preflight(study)
    assert f"{copy.resolve()} has changed" in problem


def test_a_constitution_that_was_edited_is_copied_anew(file):
    prepared(file)
    ours = file.parent / "ours.yaml"
    ours.write_text(ours.read_text().replace("weight: 1.0", "weight: 2.0", 1))
    mirror = prepared(file)
    assert mirror.copy_of("ours.yaml").read_bytes() == ours.read_bytes()
    assert ids_of(carried(file, mirror)) == ids_of(Study.load(file))


def test_a_run_records_its_constitution_and_says_when_it_changed(file, tmp_path):
    record(Study.load(file), tmp_path)
    ours = file.parent / "ours.yaml"
    ours.write_text(ours.read_text() + "\n# a remark\n")
    (line,) = changes(Study.load(file), tmp_path)
    assert line.startswith("ours.yaml was sha256")
    assert "general.yaml" not in used(Study.load(file))


def test_a_constitution_that_is_not_there_is_a_problem_of_the_study(file):
    (file.parent / "ours.yaml").unlink()
    with pytest.raises(StudyError, match=r"methods.cai: no constitution file .*ours.yaml"):
        Study.load(file)
