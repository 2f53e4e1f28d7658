"""The stage that runs PPO: what it writes, what it counts, what it refuses, and resuming."""

from __future__ import annotations

import csv
import hashlib
import math
from dataclasses import dataclass

import pytest
import torch
from loops import settings
from tiny import tiny_pairs, tiny_policy, tiny_prompts

from harness.artifacts import Policy
from harness.draft import Checkpoints, Diverged, Draft, Interrupted
from harness.judge import Answer, Contains
from harness.models import rewards
from harness.networks import weights_of
from harness.rollout import Asked, Episode, packs_of
from harness.stages.optimise import blocks, graded, optimise, value_network
from harness.stages.reward import fit_reward
from harness.tiny import END, byte_tokenizer, tiny_texts

SETTINGS = {
    "kl": 0.05,
    "passes": 3.0,
    "batch_size": 16,
    "minibatches": 2,
    "epochs": 2,
    "learning_rate": 1e-3,
    "value_learning_rate": 1e-3,
    "temperature": 1.0,
    "max_new_tokens": 6,
    "missing_eos": "keep",
    "kl_target": 0.5,
    "checkpoints": 2,
    "seed": 3,
}


@pytest.fixture(scope="module")
def policy(make):
    return make(tiny_policy(seed=0))


@pytest.fixture(scope="module")
def prompts(make):
    return make(tiny_prompts(n=16, seed=0))


@pytest.fixture(scope="module")
def reward_model(make):
    return make(
        fit_reward(
            tiny_policy(seed=0), tiny_pairs(n=30, seed=0), learning_rate=1e-3, batch_size=8, seed=0
        )
    )


def run(folder, policy, prompts, *, draft=None, **changes):
    folder.mkdir(exist_ok=True)
    out = draft or Draft(folder)
    given = {"reward": Contains("e"), "value": None, **SETTINGS, **changes}
    optimise.body(out, policy, prompts, **given)
    return out


def curve(folder):
    with (folder / "curves.csv").open() as file:
        return list(csv.DictReader(file))


def digests(folder):
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def done(policy, prompts, tmp_path_factory):
    return run(tmp_path_factory.mktemp("done") / "out", policy, prompts)


def test_the_policy_its_curve_and_checkpoints_on_the_way_are_kept(done):
    rows = curve(done.path)
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    kept = sorted(folder.name for folder in (done.path / "checkpoints").iterdir())
    assert kept == ["step-1", "step-2"]
    models = [Policy("x", path=done.path / "checkpoints" / name).load() for name in kept]
    models.append(Policy("x", path=done.path).load())
    first = [next(model.parameters()) for model in models]
    assert not first[0].equal(first[1])
    assert not first[1].equal(first[2])


def test_what_is_saved_is_the_policy_alone_and_answers_as_it_did(done, policy):
    loaded = Policy("x", path=done.path)
    names = {name for name, _ in loaded.load().named_parameters()}
    assert names == {name for name, _ in policy.load().named_parameters()}
    assert loaded.generation() == {"stop_ids": [END]}
    assert not (done.path / "norm.json").exists()


def test_the_ledger_counts_answers_and_tokens(done):
    rows = curve(done.path)
    generated = sum(float(row["length"]) * 16 for row in rows)
    counters = done.counters
    assert counters["tokens_generated"] == pytest.approx(generated)
    assert counters["judge_calls"] == 48
    assert counters["optimiser_steps"] == 3 * 2 * 2
    # Policy and value, two epochs each, against one look by sampler, policy, reference and value.
    assert counters["tokens_trained"] == counters["tokens_forward"]
    assert counters["tokens_trained"] > 4 * generated, "prompts are read too"


def test_the_same_seed_makes_the_same_bytes_and_another_seed_others(
    done, policy, prompts, tmp_path
):
    again = run(tmp_path / "again", policy, prompts)
    assert digests(again.path) == digests(done.path)
    other = run(tmp_path / "other", policy, prompts, seed=4)
    assert digests(other.path)["model.safetensors"] != digests(done.path)["model.safetensors"]


class Stopping(Draft):
    """A draft that is asked to stop once, after a step."""

    def __init__(self, folder, at):
        checkpoints = Checkpoints(folder / "kept", lambda: None, lambda path, reason: path)
        (folder / "out").mkdir(parents=True, exist_ok=True)
        super().__init__(folder / "out", checkpoints=checkpoints)
        self.at = at

    def progress(self, label, done, total):
        self.stopping = done == self.at
        super().progress(label, done, total)


@pytest.mark.parametrize("at", [1, 2])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(done, policy, prompts, tmp_path, at):
    with pytest.raises(Interrupted):
        run(tmp_path, policy, prompts, draft=Stopping(tmp_path, at))
    assert digests(tmp_path / "out") == {}
    resumed = run(tmp_path, policy, prompts, draft=Stopping(tmp_path, 0))
    assert digests(resumed.path) == digests(done.path)
    assert resumed.counters == done.counters


def test_a_divergence_leaves_the_curve_so_far(policy, prompts, tmp_path):
    with pytest.raises(Diverged, match=r"sampler and training forward|at step 2 of 3"):
        run(tmp_path / "out", policy, prompts, learning_rate=1e30, epochs=1, minibatches=1)
    assert [row["step"] for row in curve(tmp_path / "out")] == ["1"]


def test_a_value_network_can_start_as_the_reward_model_on_its_own_scale(reward_model, policy, make):
    tokenizer = policy.tokenizer()
    own = settings(value_head="reward")
    value = value_network(reward_model, policy, own, tokenizer.pad_token_id, "cpu")
    messages = [{"role": "user", "content": "hi"}]
    text = "please, 7 it is"
    expected = rewards(reward_model, [Answer("p", messages, text)])
    from harness.models import encode

    prompt = encode(tokenizer, messages)
    answer = encode(tokenizer, messages, text)[len(prompt) :]
    one = Episode(Asked("p", tuple(prompt), None), (*answer, END), True, 0.0)
    with torch.no_grad():
        found = value(packs_of([one], [0], "cpu")[0])  # before the added token: after EOS
    assert float(found[0, -1]) == pytest.approx(expected[0], abs=1e-4)


def test_values_start_at_zero_on_a_reward_models_body(reward_model, policy):
    value = value_network(reward_model, policy, settings(), 0, "cpu")
    assert not value.classifier.score.weight.any()
    body = weights_of(reward_model.load().base_model)
    assert all(
        weight.equal(body[name]) for name, weight in weights_of(value.classifier.base_model).items()
    )


def test_without_a_reward_model_values_start_at_zero_on_the_policys_body(policy):
    value = value_network(None, policy, settings(), 0, "cpu")
    assert not value.classifier.score.weight.any()
    body = weights_of(policy.load().base_model)
    assert all(
        weight.equal(body[name]) for name, weight in weights_of(value.classifier.base_model).items()
    )


def test_the_judge_sees_text_without_stop_token_and_whether_it_ended(tmp_path):
    seen = []

    class Watching(Contains):
        def grade(self, answers):
            seen.extend(answers)
            return super().grade(answers)

    tokenizer = byte_tokenizer()
    row = {"messages": [{"role": "user", "content": "q"}], "tag": "red-team"}
    asked = Asked("p", (3,), row)
    hello = tuple(tokenizer("hello")["input_ids"])
    episodes = [Episode(asked, (*hello, END), True, 0.0), Episode(asked, hello[:3], False, 0.0)]
    out = Draft(tmp_path)
    assert graded(out, Watching("lo"), tokenizer, (END,), episodes) == ([1.0, 0.0], {})
    assert [(a.completion, a.finished, a.tag) for a in seen] == [
        ("hello", True, "red-team"),
        ("hel", False, "red-team"),
    ]
    assert out.counters == {"judge_calls": 2}


def test_what_a_reward_says_of_its_grades_stands_in_the_curve_of_every_step(
    policy, prompts, tmp_path
):
    made = run(tmp_path / "out", policy, prompts, reward=Talking("a"))
    rows = curve(made.path)
    assert len(rows) > 1
    for row in rows:
        assert float(row["reward/mean"]) == pytest.approx(float(row["proxy"]))


@dataclass(frozen=True)
class Talking(Contains):
    """Say the mean of the grades."""

    def explained(self, answers):
        grades = self.grade(answers)
        return grades, {"mean": math.fsum(grades) / len(grades)}


def test_pretraining_text_is_cut_into_equal_blocks_and_a_weight_without_text_is_refused(make):
    texts = make(tiny_texts())
    tokenizer = byte_tokenizer()
    found = blocks(tokenizer, texts, 1.0)
    assert {len(ids) for ids in found} == {128}
    joined = "<|end|>".join(row["text"] for row in texts)
    assert joined.startswith(tokenizer.decode(found[0]))
    assert blocks(tokenizer, texts, 0.0) == []
    for nothing in (None, []):
        with pytest.raises(ValueError, match="there is none; set it to 0"):
            blocks(tokenizer, nothing, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"kl": 0.5},
        {"clip": None, "learning_rate": 1e-2},
        {"lam": 0.5},
        {"value_clip": 0.001},
        {"whiten_scores": True},
        {"whiten_rewards": True},
        {"whiten_advantages": False},
        {"missing_eos": "replace"},
        {"kl_target": None},
        {"adam_betas": (0.5, 0.9)},
        {"weight_decay": 0.5},
        {"temperature": 0.7},
        {"schedule": "constant"},
        {"warmup": 2},
        {"value_warmup": 1},
        {"legacy_after_eos": True},
        {"minibatches": 1},
        {"epochs": 1},
        {"value_learning_rate": 1e-2},
        {"kl_horizon": 16},
        {"missing_eos": "subtract", "missing_eos_score": -3.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_setting_changes_the_policy(done, policy, prompts, tmp_path, change):
    made = run(tmp_path / "out", policy, prompts, **change)
    assert digests(made.path)["model.safetensors"] != digests(done.path)["model.safetensors"]


def test_a_value_head_from_a_reward_model_needs_one(policy, prompts):
    how = {"reward": Contains("lo"), "value": None, "max_new_tokens": 4, "seed": 0}
    with pytest.raises(ValueError, match="needs a reward model"):
        optimise(policy, prompts, **how, value_head="reward")
