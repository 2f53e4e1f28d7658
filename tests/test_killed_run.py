"""A study through the command line, killed without warning and begun again: nothing differs."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "run_matrix.py"
SMALL = {
    "datasets.hamlet.budget": 48,
    "datasets.hamlet.demonstrations": 64,
    "datasets.hamlet.validation": 24,
    "datasets.hamlet.test": 24,
    "datasets.hamlet.probes": 8,
    "methods.best_of_n.n": 2,
    "methods.dpo.batch_size": 8,
    "evaluation.max_new_tokens": 16,
}
RUN_SECONDS = 900.0


def study(folder):
    """Return the command that runs four rows of the demo, made small, in `folder`."""
    settings = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    places = ["--store", str(folder / "store"), "--results", str(folder / "results")]
    rows = ["--only", "base,sft,best_of_n,dpo", "--workers", "2"]
    return [sys.executable, str(PROGRAM), "run", "demo", *rows, *settings, *places]


def begin(folder):
    """Start the study in a process group of its own."""
    return subprocess.Popen(
        study(folder),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(folder):
    """Run the study to its end and fail with its output where it does not end well."""
    process = begin(folder)
    output, _ = process.communicate(timeout=RUN_SECONDS)
    assert process.returncode == 0, output


def payloads(folder):
    """Return the digest of every artifact's files, by id."""
    manifests = (folder / "store").glob("*/manifest.json")
    return {m.parent.name: json.loads(m.read_text())["payload"] for m in manifests}


def wait_for(folder, artifacts, process):
    """Wait until the store holds so many artifacts, or the process has ended."""
    deadline = time.monotonic() + RUN_SECONDS
    while len(payloads(folder)) < artifacts and process.poll() is None:
        assert time.monotonic() < deadline, "the run makes no progress"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_same_digests_and_scores(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(whole)
    expected = payloads(whole)
    rng = random.Random(5)
    kills = 0
    for artifacts in sorted(rng.sample(range(len(expected) - 1), 3)):
        process = begin(broken)
        wait_for(broken, artifacts, process)
        time.sleep(rng.uniform(0, 2))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate()
    assert kills, "the run ended before it could be killed"
    finish(broken)
    assert payloads(broken) == expected
    scores = [(f / "results" / "demo" / "scores.csv").read_bytes() for f in (whole, broken)]
    assert scores[0] == scores[1]
