"""Faults planted in every trainer: weights that are no numbers, silent divergence, lost speech."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tiny import END, questions, write_policy

import harness.rollout
import harness.training
from harness.artifacts import Demonstrations, Policy, Preferences, write_rows
from harness.divergence import LONGEST, SPOKEN, Speech, degenerate, is_repetitive, shares, surge
from harness.draft import Diverged, Draft
from harness.models import load_policy, load_tokenizer
from harness.sampling import Drawn
from harness.stages.finetune import finetune
from harness.stages.hindsight import Relabelled, follow_goals
from harness.stages.prefer import prefer
from harness.stages.reward import fit_reward, fit_safe_reward, require_a_scale
from harness.stages.steps import StepLabels, fit_step_reward

PROMPTS = tuple((2, 3, number) for number in range(10, 20))
FLUENT = [(30 + number, 40, 50, END) for number in range(10)]
KINDS = {
    "finetune": Demonstrations,
    "fit_reward": Preferences,
    "fit_safe_reward": Preferences,
    "fit_step_reward": StepLabels,
    "prefer": Preferences,
}
SPEAKING = ("finetune", "prefer", "follow_goals")
STAGES = {
    "finetune": (finetune, {}),
    "fit_reward": (fit_reward, {"held_out": 0.0}),
    "fit_safe_reward": (fit_safe_reward, {"held_out": 0.0}),
    "fit_step_reward": (fit_step_reward, {"held_out": 0.0}),
    "prefer": (prefer, {"beta": 0.5}),
    "follow_goals": (follow_goals, {"goalless": 0.0}),
}


def goals_reached(folder: Path, tokenizer) -> Relabelled:
    """Write answers that reached the best goal and others that did not."""
    rows = [
        {
            **row,
            "sample": 0,
            "completion": text,
            "token_ids": [*tokenizer(text)["input_ids"], END],
            "start": 0,
            "helpful": number % 2 == 0,
            "safe": True,
        }
        for number, row in enumerate(questions(24, 0))
        for text in [f"please, {number}" if number % 2 == 0 else f"{number} no"]
    ]
    write_rows(Draft(folder), rows)
    return Relabelled("rows", path=folder)


def inputs(name: str, folder: Path):
    """Return a tiny policy and 24 rows of what a stage trains on, each with words of its own."""
    for part in ("policy", "rows", "out"):
        (folder / part).mkdir(parents=True)
    write_policy(folder / "policy")
    policy = Policy("policy", path=folder / "policy")
    if name == "follow_goals":
        return policy, (goals_reached(folder / "rows", load_tokenizer(policy)),)
    rows = [
        {
            **row,
            "completion": f"please, {number}",
            "chosen": f"please, {number}",
            "rejected": f"{number} no",
            **{"pair_id": str(number), "p1": 1.0, "axis": "helpful", "strength": None},
            **{"chosen_safe": True, "rejected_safe": False, "labels": [number % 2 == 0]},
        }
        for number, row in enumerate(questions(24, 0))
    ]
    write_rows(Draft(folder / "rows"), rows)
    return policy, KINDS[name]("rows", path=folder / "rows")


def train(name: str, folder: Path, out: Draft | None = None, **changes) -> Draft:
    policy, data = inputs(name, folder)
    stage, own = STAGES[name]
    out = out or Draft(folder / "out")
    settings = {"learning_rate": 1e-4, "epochs": 2, "batch_size": 6, **own, **changes}
    stage.body(out, policy, data, **settings, seed=0)
    return out


class Poisoned(Draft):
    """A draft that makes a weight NaN once the last step is shown."""

    def progress(self, label, done, total):
        if done == total:
            with torch.no_grad():
                next(self.model.parameters())[7] = math.nan


@pytest.mark.parametrize("name", STAGES)
def test_weights_that_are_no_numbers_after_the_last_step_are_never_written(
    name, tmp_path, monkeypatch
):
    known = harness.training.PlannedTraining.run

    def run(self):
        self.job.out.model = self.model
        return known(self)

    monkeypatch.setattr(harness.training.PlannedTraining, "run", run)
    (tmp_path / "out").mkdir()
    out = Poisoned(tmp_path / "out")
    with pytest.raises(Diverged, match=r"weight \S+ is nan at step 8 of 8; last .*\"step\": 8"):
        train(name, tmp_path / "in", out)
    assert not (out / "model.safetensors").exists()


@pytest.mark.parametrize("name", STAGES)
def test_a_loss_that_climbs_stops_the_run_though_it_is_a_number(name, tmp_path):
    said = r"(loss is \S+ over the last 5 steps|nats a token from its reference).* last finite"
    with pytest.raises(Diverged, match=said) as stopped:
        train(name, tmp_path, learning_rate=3.0, epochs=10)
    assert '"loss"' in str(stopped.value)
    assert (tmp_path / "out" / "curves.csv").is_file()
    assert not (tmp_path / "out" / "model.safetensors").exists()


LOST = {
    "are empty": [((END,), True)] * 10,
    "are one and the same": [((30, 40, END), True)] * 10,
    "come to no end": [((30 + n, 40, 50, 60), False) for n in range(10)],
    "repeat themselves": [((30 + n, *(40, 41) * 12, END), True) for n in range(10)],
}


@pytest.mark.parametrize("name", SPEAKING)
@pytest.mark.parametrize("how", LOST)
def test_a_policy_that_has_lost_its_speech_stops_the_run(name, how, tmp_path, monkeypatch):
    heard = [[(ids, True) for ids in FLUENT], LOST[how]]

    def drawn(self, out, model, seed):
        return [Drawn(ids, 0.0, done) for ids, done in heard.pop(0)]

    monkeypatch.setattr(Speech, "drawn", drawn)
    few = Speech.of.__func__

    def of_ten(cls, pairs, policy, tokenizer):
        made = few(cls, pairs, policy, tokenizer)
        return cls(made.prompts[:10], made.targets[:10], made.stop_ids)

    monkeypatch.setattr(Speech, "of", classmethod(of_ten))
    with pytest.raises(Diverged, match=rf"of the answers {how} .* at step 4 of 4; last finite"):
        train(name, tmp_path, epochs=1)
    assert heard == []


def test_a_healthy_run_is_left_alone_and_its_speech_is_really_drawn(tmp_path, monkeypatch):
    known, lengths = Speech.drawn, []

    def drawn(self, out, model, seed):
        found = known(self, out, model, seed)
        lengths.append(len(found))
        return found

    monkeypatch.setattr(Speech, "drawn", drawn)
    train("finetune", tmp_path)
    assert lengths == [SPOKEN, SPOKEN]


def test_listening_changes_neither_mode_nor_weights_nor_the_draws_of_training(tmp_path):
    policy, _ = inputs("finetune", tmp_path)
    model = load_policy(policy).train()
    speech = Speech(PROMPTS, tuple(FLUENT), (END,))
    state = torch.get_rng_state()
    out = Draft(tmp_path)
    first = speech.heard(out, model, 0)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert speech.heard(out, model, 0) == first


def test_answers_are_cut_at_twice_the_longest_target(tmp_path):
    policy, _ = inputs("finetune", tmp_path)
    speech = Speech(PROMPTS, tuple(FLUENT), ())
    out = Draft(tmp_path)
    assert {len(one.token_ids) for one in speech.drawn(out, load_policy(policy), 0)} == {8}
    assert LONGEST >= 8
    assert out.counters == {"tokens_generated": 80, "tokens_forward": 10 * (3 + 8)}


def test_a_policy_that_learns_to_answer_at_length_has_not_lost_its_speech(tmp_path, monkeypatch):
    policy, _ = inputs("finetune", tmp_path)
    model = load_policy(policy)
    cut_off = [Drawn((30 + n, *range(40, 60)), 0.0, False) for n in range(10)]
    monkeypatch.setattr(Speech, "drawn", lambda *_: cut_off)
    brief = shares(PROMPTS, FLUENT, [True] * 10)
    long = [(*range(20, 20 + LONGEST + n), END) for n in range(10)]
    assert not Speech(PROMPTS, tuple(long), (END,)).worse(Draft(tmp_path), model, 0, brief)
    said = Speech(PROMPTS, tuple(FLUENT), (END,)).worse(Draft(tmp_path), model, 0, brief)
    assert said.startswith("100% of the answers come to no end")


def test_listening_that_runs_out_of_memory_goes_on_with_half_the_rows(tmp_path, monkeypatch):
    policy, _ = inputs("finetune", tmp_path)
    model = load_policy(policy)
    speech = Speech(PROMPTS, tuple(FLUENT), (END,))
    whole = speech.heard(Draft(tmp_path), model, 0)
    known = harness.rollout.collect

    def short(model, asked, decoding, rows=None):
        if rows is None:
            raise torch.OutOfMemoryError("CUDA out of memory (planted)")
        return known(model, asked, decoding, rows)

    monkeypatch.setattr(harness.rollout, "collect", short)
    out = Draft(tmp_path)
    assert speech.heard(out, model, 0) == whole
    assert out.facts["out_of_memory"]["sampling"]["then"] == 5


def test_speech_is_of_few_lengths_and_each_prompt_once(tmp_path):
    policy, _ = inputs("finetune", tmp_path)
    pairs = [((1,) * (1 + n % 5), (n,)) for n in range(50)]
    pairs += [((1, 2, 3, 4, number), (number,)) for number in range(100, 120)]
    speech = Speech.of(pairs, policy, load_tokenizer(policy))
    assert len(speech.prompts) == SPOKEN == len(set(speech.prompts))
    assert {len(prompt) for prompt in speech.prompts} == {5}
    assert speech.stop_ids == (END,)


def test_a_loss_may_waver_and_must_not_triple():
    assert surge(2.0, [9.0] * 4) == "", "too few steps to tell"
    assert surge(2.0, [1.6, 1.1, 30.0, 1.0, 1.2]) == "", "one bad batch"
    assert surge(2.0, [6.9] * 5) == ""
    assert surge(2.0, [7.1] * 5) == "loss is 7.1 over the last 5 steps, and began at 2"
    assert surge(0.01, [0.9] * 5) == "", "next to nothing is no measure"
    assert surge(-0.2, [1.5] * 5), "a loss that may be negative still must not climb"


def test_degenerate_answers_are_counted_by_kind():
    every = [True] * 10
    assert shares(PROMPTS, FLUENT, every) == {
        "repetitive": 0.0,
        "empty": 0.0,
        "identical": 0.1,
        "unending": 0.0,
    }
    assert shares(PROMPTS, [(END,)] * 10, every)["empty"] == 1
    assert shares(PROMPTS, FLUENT, [False] * 9 + [True])["unending"] == 0.9
    assert shares(PROMPTS[:1] * 10, FLUENT[:1] * 10, every)["identical"] == 0, "one prompt alone"
    assert shares([], [], []) == dict.fromkeys(("repetitive", "empty", "identical", "unending"), 0)
    assert is_repetitive([5] * 20)


def test_only_what_came_with_training_is_held_against_a_policy():
    healthy = shares(PROMPTS, FLUENT, [True] * 10)
    silent = shares(PROMPTS, [(END,)] * 10, [True] * 10)
    assert degenerate(silent, healthy, healthy)
    assert not degenerate(silent, silent, healthy), "it never spoke"
    assert not degenerate(silent, healthy, silent), "it was taught to say nothing"
    nearly = shares(PROMPTS, [(END,)] * 9 + FLUENT[:1], [True] * 10)
    assert not degenerate(nearly, healthy, healthy), "a bad policy is for evaluation to show"


def test_a_reward_model_that_scores_all_alike_or_no_number_has_diverged():
    import numpy as np

    require_a_scale(np.array([0.1, 0.2]))
    with pytest.raises(Diverged, match=r"scores every answer 0\.5"):
        require_a_scale(np.array([0.5, 0.5]))
    with pytest.raises(Diverged, match="scores an answer nan"):
        require_a_scale(np.array([0.5, math.nan]))
