"""What trainers share: planned batches, resuming to the bit, stopping at a NaN, the schedule."""

from __future__ import annotations

import csv
import math
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from interrupted_training import STAGES as TRAINED
from interrupted_training import Fatal, data_for, train
from tiny import random_llama, tiny_demonstrations, tiny_policy, write_policy

import harness.training
from harness.artifacts import Policy
from harness.draft import Checkpoint, Diverged, Draft, Interrupted
from harness.own_losses import OwnLoss
from harness.stages.finetune import finetune
from harness.tokens import longer_side, pair_tokens
from harness.training import Recipe, planned_batches, tamed_trl, without_dropout

STAGES = tuple(TRAINED)


def recipe(**changes) -> Recipe:
    known = {"learning_rate": 1e-3, "epochs": 3, "batch_size": 8, "schedule": "cosine"}
    return Recipe(**{**known, "warmup": 0.0, "weight_decay": 0.0, "seed": 0, **changes})


def lengths(n: int) -> list[int]:
    return [random.Random(n + i).randint(5, 90) for i in range(n)]


@pytest.mark.parametrize("n", [1, 7, 8, 9, 100, 1001])
def test_every_epoch_has_every_row_once_in_batches_of_nearly_equal_size(n):
    batches = planned_batches(lengths(n), recipe())
    steps = math.ceil(n / 8)
    assert len(batches) == 3 * steps
    for epoch in range(3):
        part = batches[epoch * steps : (epoch + 1) * steps]
        assert sorted(row for batch in part for row in batch) == list(range(n))
        sizes = [len(batch) for batch in part]
        assert max(sizes) <= 8
        assert max(sizes) - min(sizes) <= 1


def test_epochs_and_seeds_differ_in_order_and_the_same_seed_does_not():
    batches = planned_batches(lengths(64), recipe())
    assert batches[:8] != batches[8:16]
    assert batches == planned_batches(lengths(64), recipe())
    assert batches != planned_batches(lengths(64), recipe(seed=1))


def test_batches_of_like_length_waste_little_on_padding():
    known = lengths(800)
    batches = planned_batches(known, recipe(epochs=1))
    padded = sum(len(batch) * max(known[row] for row in batch) for batch in batches)
    assert sum(known) / padded > 0.95


def test_a_pairs_tokens_count_its_prompt_twice():
    row = {"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, 5, 6]}
    assert pair_tokens([row, row]) == 16
    assert longer_side(row) == 5


def curve(folder: Path) -> list[dict[str, float]]:
    with (folder / "curves.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("schedule", "shape"),
    [
        ("linear", lambda share: 1 - share),
        ("cosine", lambda share: 0.5 * (1 + math.cos(math.pi * share))),
        ("constant", lambda share: 1.0),
    ],
)
def test_the_learning_rate_warms_up_and_follows_its_schedule(make, tmp_path, schedule, shape):
    policy, data = make(tiny_policy(seed=0)), make(tiny_demonstrations(n=10, seed=0))
    settings = {"epochs": 2, "batch_size": 1, "warmup": 0.2, "learning_rate": 1e-3}
    finetune.body(Draft(tmp_path), policy, data, schedule=schedule, **settings, seed=0)
    rates = [row["learning_rate"] for row in curve(tmp_path)]
    assert len(rates) == 20
    expected = [s / 4 if s < 4 else shape((s - 4) / 16) for s in range(20)]
    assert rates == pytest.approx([1e-3 * share for share in expected], abs=1e-12)


def test_a_training_of_one_step_takes_it_at_the_full_rate(make, tmp_path):
    policy, data = make(tiny_policy(seed=0)), make(tiny_demonstrations(n=4, seed=0))
    finetune.body(Draft(tmp_path), policy, data, epochs=1, batch_size=8, warmup=0.03, seed=0)
    assert [row["learning_rate"] > 0 for row in curve(tmp_path)] == [True]


def payload(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Return a function that trains a stage without interruption, once, and returns its files."""
    done = {}

    def files(name):
        if name not in done:
            done[name] = payload(train(name, tmp_path_factory.mktemp(name), 0).path)
        return done[name]

    return files


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_killed_at_a_random_step_and_resumed_equals_uninterrupted_to_the_bit(
    name, tmp_path, uninterrupted
):
    child = [sys.executable, str(Path(__file__).with_name("interrupted_training.py")), name]
    for step in (random.Random(name).randint(2, 5), random.Random(name).randint(6, 8)):
        died = subprocess.run([*child, str(tmp_path), str(step)], check=False, capture_output=True)
        assert died.returncode == -signal.SIGKILL, died.stderr.decode()
        newest = max(int(c.name[5:]) for c in (tmp_path / "checkpoints").glob("step-*"))
        assert newest == step - 1
    resumed = train(name, tmp_path, 0)
    assert payload(resumed.path) == uninterrupted(name)


@pytest.mark.parametrize("name", STAGES)
def test_a_run_asked_to_stop_keeps_a_checkpoint_and_goes_on_to_the_same_bytes(
    name, tmp_path, uninterrupted, monkeypatch
):
    def stop(self, label, done, total):
        self.stopping = done == 7

    with monkeypatch.context() as patch:
        patch.setattr(Fatal, "progress", stop)
        with pytest.raises(Interrupted, match="step 7"):
            train(name, tmp_path, 0, seconds=1e9)
    assert [c.name for c in (tmp_path / "checkpoints").iterdir()] == ["step-7"]
    assert payload(train(name, tmp_path, 0).path) == uninterrupted(name)


PARTS = (
    "weights.safetensors",
    "optimiser.safetensors",
    "random.safetensors",
    "loop.json",
    "trainer_state.json",
)


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    """Return a folder with the checkpoints of steps 6 and 7 of an interrupted fine-tuning."""
    folder = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:

        def stop(self, label, done, total):
            self.stopping = done == 7

        patch.setattr(Fatal, "progress", stop)
        with pytest.raises(Interrupted):
            train("finetune", folder, 0)
    return folder / "checkpoints"


def remove(file: Path) -> None:
    file.unlink()


def empty(file: Path) -> None:
    file.write_bytes(b"")


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


@pytest.mark.parametrize("damage", [remove, empty, truncate])
@pytest.mark.parametrize("part", PARTS)
def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_is_used(
    part, damage, tmp_path, two_checkpoints, uninterrupted, capsys
):
    shutil.copytree(two_checkpoints, tmp_path / "checkpoints")
    damage(tmp_path / "checkpoints" / "step-7" / part)
    resumed = train("finetune", tmp_path, 0)
    said = capsys.readouterr().out
    assert part in said
    assert "resumed from the checkpoint of step 6" in said
    assert (tmp_path / "checkpoints" / "broken-step-7").is_dir()
    assert payload(resumed.path) == uninterrupted("finetune")


@pytest.mark.parametrize("part", PARTS)
def test_training_never_resumes_from_half_a_checkpoint(part, tmp_path, two_checkpoints):
    shutil.copytree(two_checkpoints / "step-7", tmp_path / "half")
    (tmp_path / "half" / part).unlink()

    class Trusting(Fatal):
        def resume(self):
            return Checkpoint(7, tmp_path / "half")

    out = Trusting(tmp_path, 0)
    policy, rows = tmp_path / "policy", data_for("finetune", tmp_path / "rows")
    policy.mkdir()
    write_policy(policy, attention_dropout=0.1)
    with pytest.raises(FileNotFoundError, match=part):
        finetune.body(out, Policy("p", path=policy), rows, epochs=2, batch_size=5, seed=1)


def test_no_checkpoint_is_a_pickle(two_checkpoints):
    suffixes = {file.suffix for file in two_checkpoints.rglob("*") if file.is_file()}
    assert suffixes == {".safetensors", ".json"}


class Poisoned(Draft):
    """A draft that makes a weight of the model it trains NaN after a step."""

    def __init__(self, folder: Path, step: int) -> None:
        super().__init__(folder)
        self.step = step

    def progress(self, label, done, total):
        if done == self.step:
            with torch.no_grad():
                next(self.model.parameters()).fill_(math.nan)


@pytest.mark.parametrize("name", STAGES)
def test_a_loss_that_is_not_finite_stops_the_run_within_one_step(name, tmp_path, monkeypatch):
    known = harness.training.PlannedTraining.run

    def run(self):
        self.job.out.model = self.model
        return known(self)

    monkeypatch.setattr(harness.training.PlannedTraining, "run", run)
    (tmp_path / "policy").mkdir()
    (tmp_path / "out").mkdir()
    write_policy(tmp_path / "policy")
    out = Poisoned(tmp_path / "out", 3)
    stage, settings = TRAINED[name]
    policy = Policy("policy", path=tmp_path / "policy")
    with pytest.raises(Diverged, match="loss is nan at step 4 of") as stopped:
        stage.body(out, policy, data_for(name, tmp_path / "rows"), **settings, seed=1)
    assert '"step": 3' in str(stopped.value)
    kept = curve(out.path)
    assert [row["step"] for row in kept] == [1, 2, 3]
    assert all(math.isfinite(value) for row in kept for value in row.values())


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_model_in_training_mode_without_dropout_says_what_it_says_in_eval_mode(architecture):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    made = {
        "llama": lambda: random_llama(0, attention_dropout=0.5),
        "gpt2": lambda: GPT2LMHeadModel(
            GPT2Config(
                vocab_size=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=1
            )
        ),
    }
    model, ids = made[architecture](), torch.arange(2, 40)[None]
    with torch.no_grad():
        quiet = model.eval()(ids).logits
        assert not torch.equal(model.train()(ids).logits, quiet)
        assert torch.equal(without_dropout(model).train()(ids).logits, quiet)


def test_trl_is_left_as_it_was_found():
    from trl.trainer import utils

    known = utils._use_triton
    with tamed_trl():
        assert utils._use_triton("cpu")
    assert utils._use_triton is known


def test_a_value_of_a_step_is_the_mean_over_its_rows_however_they_were_divided():
    measured = OwnLoss()
    measured.seen = [{"rows": 3, "accuracy": 1.0}, {"rows": 1, "accuracy": 0.0}]
    assert measured.shown() == {"accuracy": 0.75}
