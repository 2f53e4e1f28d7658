"""Out of memory: one more try with half the rows, the same step, recorded; never a third."""

from __future__ import annotations

import csv

import pytest
import torch
from safetensors.torch import load_file
from test_optimise import SETTINGS
from tiny import questions, tiny_demonstrations, tiny_pairs, tiny_policy, tiny_prompts
from transformers import LlamaModel

from harness.artifacts import Rankings, Samples, write_rows
from harness.decoding import LlamaSteps
from harness.draft import Draft
from harness.judge import Contains
from harness.memory import given_room, rows_at_once
from harness.stage import stage
from harness.stages.finetune import finetune
from harness.stages.hindsight import Relabelled, follow_goals
from harness.stages.optimise import optimise
from harness.stages.prefer import prefer
from harness.stages.reward import fit_reward
from harness.stages.sample import sample
from harness.stages.steps import StepLabels, fit_step_reward
from harness.tiny import END, byte_tokenizer

SAID = "CUDA out of memory (planted). Tried to allocate 20 GiB"
QUICK = {"learning_rate": 1e-3, "epochs": 2, "batch_size": 8, "seed": 0}


@stage(makes=Rankings)
def rankings(out: Draft, *, n: int, seed: int) -> None:
    """Write n prompts with four ranked answers each."""
    said = ("no", "please", "a", "yes, yes")
    known = {"axis": "helpful", "population": None, "source": "human", "ranks": [3, 1, 4, 2]}
    write_rows(
        out,
        (
            {**known, **row, "responses": [f"{number} {text}" for text in said]}
            for number, row in enumerate(questions(n, seed))
        ),
    )


@stage(makes=StepLabels)
def labelled_steps(out: Draft, *, n: int, seed: int) -> None:
    """Write n answers of one step each, right and wrong by turns."""
    rows = enumerate(questions(n, seed))
    said = ("please", "no")
    found = ({**row, "completion": said[k % 2], "labels": [1.0 - k % 2]} for k, row in rows)
    write_rows(out, found)


@stage(makes=Relabelled)
def goals_reached(out: Draft, *, n: int, seed: int) -> None:
    """Write n safe answers that were helpful and not by turns."""
    tokens = byte_tokenizer()
    rows = [
        {**row, "completion": text, "token_ids": [*tokens(text)["input_ids"], END]}
        for k, row in enumerate(questions(n, seed))
        for text in [f"{k} {('please', 'no')[k % 2]}"]
    ]
    goal = {"sample": 0, "start": 0, "safe": True}
    write_rows(out, ({**row, **goal, "helpful": k % 2 == 0} for k, row in enumerate(rows)))


# What a row takes in a forward pass, such as a pair's two answers, which go together.
STAGES = {
    "finetune": (finetune, tiny_demonstrations, 1),
    "fit_reward": (fit_reward, tiny_pairs, 2),
    "prefer": (prefer, tiny_pairs, 2),
    "ranked": (fit_reward, rankings, 4),
    "steps": (fit_step_reward, labelled_steps, 1),
    "hindsight": (follow_goals, goals_reached, 2),
}
HOLDS_OUT = ("fit_reward", "ranked", "steps")  # two prompts of sixteen
# Columns that a mixin of ours adds up over the parts of a batch.
MEASURED = {
    "hindsight": ("supervised", "contrast", "contrast_accuracy", "entropy"),
    "ranked": ("accuracy", "margin", "mean_reward"),
    "steps": ("accuracy",),
}
OWN = {"hindsight": {"goalless": 0.0, "entropy": 0.1}}


@pytest.fixture
def small_device(monkeypatch):
    """Return a function that gives the device room for so many rows, in training or sampling."""
    known, decode, passes = LlamaModel.forward, LlamaSteps.step, []

    def limit(rows, *, sampling=False):
        def check(asked):
            if torch.is_inference_mode_enabled() != sampling:
                return
            passes.append(asked)
            if asked > rows:
                raise torch.OutOfMemoryError(SAID)

        def forward(self, input_ids=None, **kwargs):
            check(len(input_ids))
            return known(self, input_ids=input_ids, **kwargs)

        def step(self, tokens):
            check(len(tokens))
            return decode(self, tokens)

        monkeypatch.setattr(LlamaModel, "forward", forward)
        monkeypatch.setattr(LlamaSteps, "step", step)
        return passes

    return limit


def trained(make, folder, name):
    train, rows, _ = STAGES[name]
    folder.mkdir()
    out = Draft(folder)
    data = make(rows(n=16, seed=0))
    given = (data,) if name == "hindsight" else data
    train.body(out, make(tiny_policy(seed=0)), given, **QUICK, **OWN.get(name, {}))
    return out


def curve(out):
    with (out / "curves.csv").open() as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize("name", STAGES)
def test_half_the_rows_at_once_take_the_same_steps_and_are_recorded(
    make, tmp_path, name, small_device
):
    whole = trained(make, tmp_path / "whole", name)
    assert "out_of_memory" not in whole.facts
    small_device(5 * STAGES[name][2])
    halved = trained(make, tmp_path / "halved", name)
    said = halved.facts["out_of_memory"]["training"]
    widest = 7 if name in HOLDS_OUT else 8
    assert said == {"first": widest, "then": widest // 2, "said": SAID.split(". ")[0]}
    for one, other in zip(curve(whole), curve(halved), strict=True):
        for column in ("loss", "grad_norm", *MEASURED.get(name, ())):
            assert one[column] == pytest.approx(other[column], rel=1e-3, abs=1e-4)
    ours, theirs = (load_file(out / "model.safetensors") for out in (whole, halved))
    assert all(torch.allclose(ours[part], theirs[part], atol=1e-4) for part in ours)


def optimised(make, folder):
    folder.mkdir()
    out, asked = Draft(folder), make(tiny_prompts(n=16, seed=0))
    given = {**SETTINGS, "checkpoints": 0, "reward": Contains("e"), "value": None}
    optimise.body(out, make(tiny_policy(seed=0)), asked, **given)
    return out


@pytest.mark.parametrize(("phase", "room"), [("training", 5), ("sampling", 8)])
def test_ppo_goes_on_with_half_the_rows_and_draws_the_same_answers(
    make, tmp_path, small_device, phase, room
):
    whole = optimised(make, tmp_path / "whole")
    small_device(room, sampling=phase == "sampling")
    halved = optimised(make, tmp_path / "halved")
    (found,) = halved.facts["out_of_memory"].items()
    assert found[0] == phase
    assert found[1]["then"] == found[1]["first"] // 2
    assert halved.counters == whole.counters
    for one, other in zip(curve(whole), curve(halved), strict=True):
        for column in ("proxy", "length", "kl", "grad_norm", "value_grad_norm"):
            assert one[column] == pytest.approx(other[column], rel=1e-3, abs=1e-4)


def test_answers_drawn_with_half_the_rows_at_once_are_the_same_answers(
    make, tmp_path, small_device
):
    inputs = make(tiny_policy(seed=0)), make(tiny_prompts(n=16, seed=0))
    rows = []
    for name in ("whole", "halved"):
        (tmp_path / name).mkdir()
        out = Draft(tmp_path / name)
        sample.body(out, *inputs, n=2, temperature=1.0, max_new_tokens=6, seed=0)
        rows.append(Samples(name, path=out.path).rows())
        small_device(16, sampling=True)
    assert out.facts["out_of_memory"]["sampling"]["then"] == 16
    columns = ("prompt_id", "sample", "token_ids", "finished")
    said = [[[row[column] for column in columns] for row in one] for one in rows]
    assert said[0] == said[1]


@pytest.mark.parametrize("name", STAGES)
def test_a_device_without_room_for_half_fails_after_two_tries_saying_what_helps(
    make, tmp_path, name, small_device
):
    passes = small_device(1)
    with pytest.raises(torch.OutOfMemoryError, match=r"planted\). Tried with . and then . rows"):
        trained(make, tmp_path / "out", name)
    assert len(passes) == 2, passes


def test_work_is_tried_once_more_with_half_the_rows_and_kept_to_them(tmp_path):
    out, tries, undone = Draft(tmp_path), [], []

    def work():
        tries.append(rows_at_once(out, "training"))
        if tries[-1] is None:
            raise torch.OutOfMemoryError(SAID)
        return "done"

    assert given_room(out, "training", 9, work, lambda: undone.append(1)) == "done"
    assert tries == [None, 4]
    assert undone == [1]
    assert rows_at_once(out, "training") == 4
    assert rows_at_once(out, "sampling") is None, "another phase has another room"


def test_one_row_has_no_half(tmp_path):
    def work():
        raise torch.OutOfMemoryError(SAID)

    with pytest.raises(torch.OutOfMemoryError, match=r"Tried with 1 rows at once .*lora"):
        given_room(Draft(tmp_path), "sampling", 1, work)


def test_other_errors_are_not_tried_again(tmp_path):
    tries = []

    def work():
        tries.append(1)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        given_room(Draft(tmp_path), "training", 8, work)
    assert tries == [1]
