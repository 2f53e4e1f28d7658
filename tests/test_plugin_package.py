"""A real third-party package: installed, found by its entry point, checked and run from outside."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = Path(__file__).parent / "plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Install the package as a user would, into a folder of its own, and return the folder."""
    source = tmp_path_factory.mktemp("source") / "plugin"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    done = subprocess.run(
        [*pip, *offline, str(source)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return target


def outside(installed: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python in another folder, with the package installed."""
    path = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_package_imports_the_public_names_alone():
    text = (PACKAGE / "alignment_orpo.py").read_text()
    ours = [
        line
        for line in text.splitlines()
        if "harness" in line or "methods" in line or "evals" in line
    ]
    assert ours == ["from harness import ("]


def test_its_method_is_found_through_the_entry_point(installed, tmp_path):
    program = (
        "from harness.registry import discover, get; discover(); p = get('method', 'orpo');"
        "print(p.distribution, p.owner, p.paper)"
    )
    done = outside(installed, "-c", program, cwd=tmp_path)
    assert done.stdout == "alignment-orpo alignment_orpo arXiv:2403.07691\n", done.stderr


def test_its_loss_is_the_papers(tmp_path, installed):
    # P = 1/2 and 1/5 have odds 1 and 1/4: the ratio is 4, and s(log 4) = 4/5.
    program = (
        "import math, torch; from alignment_orpo import orpo_loss as loss;"
        "one = lambda p: torch.log(torch.tensor([p], dtype=torch.float64));"
        "print(loss(one(.5), one(.2), 0.1).item(), loss(one(.3), one(.3), 2.0).item())"
    )
    done = outside(installed, "-c", program, cwd=tmp_path)
    apart, equal = map(float, done.stdout.split())
    assert apart == pytest.approx(math.log(2) + 0.1 * math.log(5 / 4))
    assert equal == pytest.approx(-math.log(0.3) + 2 * math.log(2))


def test_the_distribution_decides_no_id(installed, tmp_path):
    """The same module given as a file asks for the same artifact as the installed package."""
    program = (
        "import sys; from pathlib import Path; from harness.registry import discover, get;"
        "from harness.tiny import tiny_shared; discover(tuple(map(Path, sys.argv[1:])));"
        "print(get('method', 'orpo')(tiny_shared(0)).id)"
    )
    by_entry_point = outside(installed, "-c", program, cwd=tmp_path)
    by_file = outside(tmp_path, "-c", program, str(PACKAGE / "alignment_orpo.py"), cwd=tmp_path)
    assert by_entry_point.stdout == by_file.stdout != "", by_file.stderr


@pytest.mark.slow
def test_it_conforms_when_run_through_its_entry_point(installed, tmp_path):
    done = outside(installed, str(ROOT / "run_matrix.py"), "check", "orpo", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout
    assert "orpo-remakes_the_same_bytes" in done.stdout


STUDY = """
schema = 1
name = "outside"
seeds = [0]

[bases.tiny]
path = "model"

[datasets.pairs]
plugin = "jsonl"
path = "pairs.jsonl"

[sft]
learning_rate = 1e-3
epochs = 1

[methods.sft]
[methods.orpo]
learning_rate = 1e-3
batch_size = 8

[evaluation]
suites = ["preference"]
samples = 1
max_new_tokens = 8

[judge]
plugin = "contains"
word = "e"
"""


@pytest.mark.slow
def test_a_study_of_another_folder_compares_it_with_sft(installed, tmp_path, tiny_policy_folder):
    shutil.copytree(tiny_policy_folder, tmp_path / "model")
    rows = [
        {"prompt": f"Say {n}.", "chosen": f"please, {n}", "rejected": f"{n} no"} for n in range(60)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "outside.toml").write_text(STUDY)
    done = outside(installed, str(ROOT / "run_matrix.py"), "outside.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    scores = (tmp_path / "results" / "outside" / "scores.csv").read_text()
    assert ",orpo," in scores
    assert ",sft," in scores
