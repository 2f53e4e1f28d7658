"""The hub as its own client reads it: our commands in processes of their own, a hub on loopback.

Nothing is patched: HF_ENDPOINT says where the hub is, HF_HOME where its cache lies.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import fake_hub
import pytest
from conftest import ROOT
from test_prepare import FIRST, ROWS, STUDY, rows

HF = Path(sys.executable).with_name("hf")
PICKLED = "d" * 40
PLAIN = STUDY.split("[evaluation]")[0] + (
    "[sft]\nepochs = 1\n\n"
    '[evaluation]\nsuites = ["preference"]\ntemperatures = [0.0]\nmax_new_tokens = 4\n'
)


@pytest.fixture
def hub(tiny_policy_folder):
    """Return a hub with a model that has a pickle beside its weights, one of pickles, and rows."""
    with fake_hub.serving() as served:
        served.add_folder("models", "org/tiny", FIRST, tiny_policy_folder)
        files = served.repositories["models/org/tiny"].commits[FIRST]
        files["pytorch_model.bin"] = b"pickle"
        bare = {name: body for name, body in files.items() if not name.endswith(".safetensors")}
        served.add("models", "org/pickled", PICKLED, bare)
        served.add("datasets", "org/rows", ROWS, {"data/train-0.jsonl": rows(30), "big.jsonl": b""})
        yield served


@pytest.fixture
def told(hub, tmp_path):
    """Return a function that runs a command in a process of its own, with the hub or without."""
    (tmp_path / "carried.toml").write_text(PLAIN)

    def run(*command, online: bool) -> subprocess.CompletedProcess:
        words = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, "NO_COLOR": "1"}
        offline = {} if online else {"HF_HUB_OFFLINE": "1"}
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        return subprocess.run(
            [str(word) for word in command],
            cwd=tmp_path,
            env={**kept, **words, **offline},
            capture_output=True,
            text=True,
        )

    return run


def ours(*words) -> list[str]:
    """Return the command line of the harness."""
    return [sys.executable, str(ROOT / "run_matrix.py"), *words]


@pytest.mark.slow
def test_a_branch_is_fetched_once_at_the_commit_it_was_pinned_to_and_then_runs_offline(
    told, hub, tmp_path
):
    fetched = told(*ours("prepare", "carried.toml", "--to", "mirror"), online=True)
    assert fetched.returncode == 0, fetched.stderr
    lock = json.loads((tmp_path / "carried.lock").read_text())
    assert lock["commits"] == {"model org/tiny@main": FIRST}
    assert "pytorch_model.bin" not in hub.fetched
    assert "big.jsonl" not in hub.fetched
    before = list(hub.fetched)
    again = told(*ours("prepare", "carried.toml", "--to", "mirror"), online=True)
    assert again.returncode == 0
    assert hub.fetched == before
    asked = hub.requests
    made = told(*ours("run", "carried.toml", "--mirror", "mirror", "--workers", "0"), online=False)
    assert made.returncode == 0, made.stderr
    assert "carried: 1 cells: 1 done" in made.stdout
    assert hub.requests == asked


@pytest.mark.slow
def test_what_the_hubs_own_client_fetches_is_what_a_study_reads_from_its_cache(told, hub):
    told_to = told(*ours("plan", "carried.toml"), online=False)
    assert f"hf download org/rows --repo-type dataset --revision {ROWS}" in told_to.stderr
    for line in (
        ["org/tiny", "--revision", FIRST],
        ["org/rows", "--repo-type", "dataset", "--revision", ROWS],
    ):
        done = told(HF, "download", *line, online=True)
        assert done.returncode == 0, done.stderr
    asked = hub.requests
    study = ours("plan", "carried.toml", "--set", f"bases.x.revision={FIRST}")
    planned = told(*study, online=False)
    assert planned.returncode == 0, planned.stderr
    assert "1 cells" in planned.stdout
    assert hub.requests == asked


def test_a_repository_of_pickles_alone_is_refused_once_and_nothing_of_it_is_fetched(
    told, hub, tmp_path
):
    text = PLAIN.replace("org/tiny", "org/pickled")
    (tmp_path / "carried.toml").write_text(text)
    refused = told(*ours("prepare", "carried.toml", "--to", "mirror"), online=True)
    assert refused.returncode == 2
    assert refused.stderr.startswith("1 problem in the study:")
    assert "has its weights in pytorch_model.bin, and loading a pickle runs code" in refused.stderr
    assert "config.json" not in hub.fetched


def test_a_commit_that_the_hub_does_not_have_is_refused_by_name(told, tmp_path):
    (tmp_path / "carried.toml").write_text(PLAIN.replace('"main"', f'"{"9" * 40}"'))
    refused = told(*ours("prepare", "carried.toml", "--to", "mirror"), online=True)
    assert refused.returncode == 2
    assert f"model org/tiny@{'9' * 40} could not be fetched (RevisionNotFound" in refused.stderr
