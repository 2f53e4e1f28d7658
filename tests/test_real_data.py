"""The same command on a model and on preferences that nobody here made."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
MODEL = SHARED / "models" / "TinyStories-656K"
PAIRS = SHARED / "data" / "hh_rlhf" / "harmless-base" / "test.jsonl.gz"

STUDY = """
schema = 1
name = "real"
seeds = [0]

[bases.tinystories]
path = "{model}"
template = "plain"

[datasets.harmless]
plugin = "jsonl"
path = "{pairs}"
prompt = ""
axis = "safe"
max_rows = 300

[sft]
learning_rate = 1e-4
epochs = 1

[methods.sft]

[methods.dpo]
learning_rate = 1e-4
batch_size = 32

[judge]
plugin = "contains"
word = "sorry"

[evaluation]
suites = ["preference"]
samples = 1
max_new_tokens = 32
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for needed in (MODEL, PAIRS):
        if not needed.exists():
            pytest.skip(f"no {needed}: this test runs on a real checkpoint and real preferences")
    folder = tmp_path_factory.mktemp("real")
    (folder / "real.toml").write_text(STUDY.format(model=MODEL, pairs=PAIRS))
    command = [sys.executable, str(ROOT / "run_matrix.py"), "run", str(folder / "real.toml")]
    options = ["--store", str(folder / "store"), "--results", str(folder / "results")]
    done = subprocess.run(  # our own command
        [*command, *options], cwd=folder, capture_output=True, text=True, timeout=540
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return folder


@pytest.mark.slow
def test_sft_and_dpo_run_on_a_real_checkpoint_and_real_preferences(results: Path) -> None:
    with (results / "results" / "real" / "cells.csv").open() as file:
        cells = {row["label"]: row["state"] for row in csv.DictReader(file)}
    assert cells == {"sft": "done", "dpo": "done"}


@pytest.mark.slow
def test_real_pairs_are_those_of_the_file_split_by_prompt(results: Path) -> None:
    manifests = [json.loads(f.read_text()) for f in (results / "store").glob("*/manifest.json")]
    used = [m["counters"].get("labels_used", 0) for m in manifests if m["kind"] == "Policy"]
    assert 200 <= max(used) <= 300


@pytest.mark.slow
def test_the_report_on_real_data_names_both_rows_and_claims_nothing_about_methods(
    results: Path,
) -> None:
    report = (results / "results" / "real" / "report.md").read_text()
    assert "dpo" in report
    assert "sft" in report
    assert "checkpoint" in report.lower()
    page = (results / "results" / "real" / "report.html").read_text()
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.slow
def test_trained_weights_differ_from_the_checkpoint_that_they_started_from(results: Path) -> None:
    from safetensors.numpy import load_file

    start = load_file(MODEL / "model.safetensors")["model.norm.weight"]
    tuned = [load_file(f) for f in (results / "store").glob("prefer-*/model.safetensors")]
    assert len(tuned) == 1
    assert (tuned[0]["model.norm.weight"] != start).any()
