"""Bars of performance that are counted, so that a busy machine cannot blur them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import ROOT

SCRIPTS = ROOT / "tests" / "benchmarks"


@pytest.mark.slow
def test_ppo_on_a_shared_base_holds_at_most_35_hundredths_of_four_whole_models():
    script = str(SCRIPTS / "memory_of_ppo.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["ratio"] <= 0.35
    # Weight, gradient and two moments of policy and value, and two frozen weights, 4 bytes each.
    by_hand = 40 * found["parameters of the base"]
    assert found["four whole models"]["total"] == pytest.approx(by_hand, rel=0.01)
    assert found["frozen base unchanged"]


def test_what_is_for_a_gpu_is_skipped_and_never_passed_without_one():
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    script = str(SCRIPTS / "gpu_stages.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.startswith("skipped: this machine has no GPU")
