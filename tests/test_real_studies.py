"""The shipped studies of real models and real rows are valid where their files are at hand."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from collections import Counter

import pytest
from conftest import ROOT, SHARED

from harness.registry import PLUGINS, discover
from harness.study import Study
from harness.study_file import SHIPPED, Overrides, StudyError, read

# Their rows are files of their own, which tests of the benchmarks look after.
NO_BENCHMARKS = ("evaluation.settings={}", 'evaluation.suites=["preference", "diagnostics"]')
CONTROLS = {"always_comply", "always_refuse", "longest_of_n", "tempered", "verbatim"}


def ours(method):
    """Say whether a method is one that the project compares: neither a control nor a plugin's."""
    shipped = PLUGINS["method", method].function.__module__.startswith("methods.")
    return shipped and method not in CONTROLS


def folder_of_a_model(folder):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return a hub's cache in which every commit that the studies name is there."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    discover()
    for name in ("hh", "saferlhf"):
        raw = read(SHIPPED / f"{name}.toml")
        (base,), (data,) = raw["bases"].values(), raw["datasets"].values()
        helper, commit = data["assistant"].split("@")
        for model, revision in ((base["hub"], base["revision"]), (helper, commit)):
            place = tmp_path / f"models--{model.replace('/', '--')}" / "snapshots" / revision
            if not place.is_dir():
                folder_of_a_model(place)
        (label,) = raw["datasets"]
        hub = PLUGINS["dataset", label].settings["hub"].default
        folder = tmp_path / f"datasets--{hub.replace('/', '--')}" / "snapshots" / data["revision"]
        for part in ("helpful-base", "harmless-base", "data/Alpaca-7B"):
            (folder / part).mkdir(parents=True)
            for split in ("train", "test"):
                (folder / part / f"{split}.jsonl").write_text("")
                (folder / part / f"{split}.jsonl.gz").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize("name", ["hh", "saferlhf"])
def test_a_study_on_the_hub_compares_every_method_where_its_commits_are_at_hand(
    name, cache, tmp_path
):
    judge = folder_of_a_model(tmp_path / "judge")
    settings = (f'judge={{plugin="classifier", path="{judge}"}}', *NO_BENCHMARKS)
    study = Study.load(SHIPPED / f"{name}.toml", overrides=Overrides(settings=settings))
    methods = Counter(cell.label for cell in study.cells())
    assert set(methods) == {plugin for kind, plugin in PLUGINS if kind == "method" and ours(plugin)}
    assert set(methods.values()) == {3}


@pytest.mark.parametrize("name", ["hh", "saferlhf"])
def test_without_its_commits_a_study_says_what_to_fetch(name, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    judge = folder_of_a_model(tmp_path / "judge")
    settings = (f'judge={{plugin="classifier", path="{judge}"}}', *NO_BENCHMARKS)
    with pytest.raises(StudyError, match=r"hf download Qwen/Qwen2\.5-0\.5B --revision"):
        Study.load(SHIPPED / f"{name}.toml", overrides=Overrides(settings=settings)).cells()


def test_the_tiny_real_study_names_what_to_put_beside_it():
    with pytest.raises(StudyError) as raised:
        Study.load(SHIPPED / "tiny_real.toml").cells()
    for problem, key in zip(
        raised.value.problems, ("datasets.hh_rlhf.path", "bases.tinystories.path"), strict=True
    ):
        assert problem.startswith(f"{key} = ")
        assert f"--set {key}=PLACE, or add --mirror DIR" in problem


def test_paths_that_are_missing_are_said_together_with_what_the_hub_does_not_have_here(
    tmp_path, monkeypatch
):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    settings = ("datasets.hh_rlhf.assistant=none/here",)
    with pytest.raises(StudyError) as raised:
        Study.load(SHIPPED / "hh.toml", overrides=Overrides(settings=settings))
    problems = raised.value.problems
    suites = ["safety", "capability", "helpfulness", "truth_and_bias"]
    paths = [f"evaluation.settings.benchmark_{suite}.path = 'benchmarks'" for suite in suites]
    assert [p.split(": no such")[0] for p in problems[:5]] == [
        *paths,
        "datasets.hh_rlhf.assistant = 'none/here'",
    ]
    assert all("`run_matrix.py prepare STUDY --to DIR`" in p for p in problems[:5])
    assert {p.split(":")[0] for p in problems[5:]} == {
        "bases.qwen",
        "datasets.hh_rlhf",
        "judge",
    }


def test_the_tiny_real_study_names_every_method_of_the_table(tmp_path):
    rows = tmp_path / "hh"
    for part in ("helpful-base", "harmless-base"):
        (rows / part).mkdir(parents=True)
        (rows / part / "test.jsonl.gz").write_bytes(json.dumps({}).encode())
    settings = (
        f"bases.tinystories.path={folder_of_a_model(tmp_path / 'model')}",
        f"datasets.hh_rlhf.path={rows}",
    )
    study = Study.load(SHIPPED / "tiny_real.toml", overrides=Overrides(settings=settings))
    listed = {cell.label for cell in study.cells()}
    assert listed == set(read(SHIPPED / "tiny_real.toml")["methods"])
    assert listed == {plugin for kind, plugin in PLUGINS if kind == "method" and ours(plugin)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the results of the tiny real study on a real checkpoint and fewer real rows."""
    model, rows = SHARED / "models" / "TinyStories-656K", SHARED / "data" / "hh_rlhf"
    for needed in (model, rows):
        if not needed.exists():
            pytest.skip(f"no {needed}: this test runs on a real checkpoint and real preferences")
    folder = tmp_path_factory.mktemp("tiny_real")
    sets = [f"bases.tinystories.path={model}", f"datasets.hh_rlhf.path={rows}"]
    sets += ["datasets.hh_rlhf.max_rows=240", "datasets.hh_rlhf.test=0.08"]
    command = [sys.executable, str(ROOT / "run_matrix.py"), "tiny_real", "--workers", "2"]
    command += [part for one in sets for part in ("--set", one)]
    places = ["--store", str(folder / "store"), "--results", str(folder / "results")]
    done = subprocess.run(
        [*command, *places], cwd=folder, capture_output=True, text=True, timeout=1500
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return folder / "results" / "tiny_real"


def cells_of(results):
    with (results / "cells.csv").open(newline="") as file:
        return {row["label"]: row for row in csv.DictReader(file)}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_every_method_runs_on_a_real_checkpoint_and_real_preferences(whole):
    methods = read(SHIPPED / "tiny_real.toml")["methods"]
    assert {label: row["state"] for label, row in cells_of(whole).items()} == dict.fromkeys(
        methods, "done"
    )


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_every_trained_policy_is_one_of_its_own(whole):
    ledger = json.loads((whole / "ledger.json").read_text())
    payloads = {
        one["cell"].split("/")[2]: one["payload"] for one in ledger["provenance"]["policies"]
    }
    assert len(set(payloads.values())) == len(payloads) == 13


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_labels_that_taught_the_labeller_are_charged_to_the_rows_that_it_labelled(whole):
    charged = {label for label, row in cells_of(whole).items() if int(row["labels_labeller"])}
    assert charged == {"rlaif", "rlaif_direct", "dno"}
    direct = cells_of(whole)["rlaif_direct"]
    assert int(direct["labels_ai_rating"]) == int(direct["judge_calls"]) > 0


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_report_of_the_tiny_real_study_says_mechanics_only_and_shows_all_rows_answers(whole):
    assert "Mechanics only" in (whole / "report.md").read_text().split("##")[0]
    with gzip.open(whole / "answers.jsonl.gz", "rt") as file:
        lines = [json.loads(line) for line in file]
    assert len(lines) >= 20
    assert all(len(line["answers"]) == 13 for line in lines)
