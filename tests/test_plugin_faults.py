"""A plugin that breaks costs its own cells and no other, wherever it breaks (F15)."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PLUGINS = {
    "broken_at_registering": """
raise RuntimeError("this plugin does not even import")
""",
    "broken_at_planning": '''
from harness import Policy, Shared, method

@method(paper=None)
def broken_at_planning(shared: Shared) -> Policy:
    """Plan nothing."""
    raise ZeroDivisionError("this plugin cannot plan")
''',
    "broken_at_training": '''
from harness import Draft, Policy, Shared, method, stage

@stage(makes=Policy)
def trains_badly(out: Draft, policy: Policy, *, seed: int) -> None:
    """Fail."""
    raise ArithmeticError("this plugin cannot train")

@method(paper=None)
def broken_at_training(shared: Shared) -> Policy:
    """Train nothing."""
    return trains_badly(shared.sft, seed=shared.seed)
''',
    "broken_process": '''
import os, signal
from harness import Draft, Policy, Shared, method, stage

@stage(makes=Policy)
def dies(out: Draft, policy: Policy, *, seed: int) -> None:
    """Die as from a segmentation fault."""
    os.kill(os.getpid(), signal.SIGSEGV)

@method(paper=None)
def broken_process(shared: Shared) -> Policy:
    """Train nothing."""
    return dies(shared.sft, seed=shared.seed)
''',
}

STUDY = """
schema = 1
name = "faults"
seeds = [0]
plugins = [{files}]

[bases.tiny]
path = "model"

[datasets.pairs]
plugin = "jsonl"
path = "pairs.jsonl"

[sft]
epochs = 1

[methods.sft]
{tables}

[evaluation]
suites = ["preference"]
samples = 1
max_new_tokens = 8

[judge]
plugin = "contains"
word = "e"
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_policy_folder):
    """Run a study of SFT and four plugins that break; return its folder and what was printed."""
    folder = tmp_path_factory.mktemp("faults")
    shutil.copytree(tiny_policy_folder, folder / "model")
    rows = [
        {"prompt": f"Say {n}.", "chosen": f"yes, {n}", "rejected": f"{n} no"} for n in range(60)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in PLUGINS.items():
        (folder / f"{name}.py").write_text(text)
    files = ", ".join(f'"{name}.py"' for name in PLUGINS)
    tables = "\n".join(f"[methods.{name}]" for name in PLUGINS)
    (folder / "faults.toml").write_text(STUDY.format(files=files, tables=tables))
    done = subprocess.run(
        [sys.executable, str(ROOT / "run_matrix.py"), "faults.toml"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return folder, done


def cells(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "results" / "faults" / "cells.csv").open() as file:
        return {row["label"]: row for row in csv.DictReader(file)}


@pytest.mark.slow
def test_the_run_ends_with_the_code_for_failed_cells(finished):
    _, done = finished
    assert done.returncode == 1, done.stdout + done.stderr


@pytest.mark.slow
def test_cells_of_other_methods_are_done(finished):
    folder, _ = finished
    found = cells(folder)
    assert found["sft"]["state"] == "done"
    assert set(found) == {"sft", *PLUGINS}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("broken_at_registering", "this plugin does not even import"),
        ("broken_at_planning", "this plugin cannot plan"),
        ("broken_at_training", "this plugin cannot train"),
        ("broken_process", "SIGSEGV"),
    ],
)
def test_a_broken_cell_failed_for_the_reason_that_its_record_keeps(finished, label, reason):
    folder, _ = finished
    assert cells(folder)[label]["state"].startswith("failed")
    kept = "".join(
        file.read_text() for file in (folder / "results" / "store" / ".failed").glob("*.json")
    )
    assert reason in kept


@pytest.mark.slow
def test_the_report_names_every_hole(finished):
    folder, _ = finished
    report = (folder / "results" / "faults" / "report.md").read_text()
    assert all(label in report for label in PLUGINS)
