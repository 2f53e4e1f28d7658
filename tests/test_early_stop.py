"""PPO that ends early by what it does on other prompts, and keeps the policy of the right look."""

from __future__ import annotations

import csv
import hashlib
import json

import pytest
import torch
from loops import FIRST, loop, settings
from test_optimise import SETTINGS, Stopping, digests, run
from tiny import tiny_policy, tiny_prompts

import harness.early_stop
from harness.draft import Diverged, Interrupted
from harness.early_stop import EarlyStop, Lookout
from harness.judge import Contains
from harness.networks import weights_of
from harness.rollout import Asked
from harness.stage import plain
from harness.stages.optimise import optimise

OTHERS = [Asked(f"v{i}", (FIRST,), None) for i in range(32)]


def first_token(episodes):
    return [float(one.token_ids[0] == FIRST) for one in episodes]


def watched(folder, rule, grade=first_token, **changes):
    given = settings(**{"passes": 12.0, "learning_rate": 1e-2, "kl": 0.0, **changes})
    made = loop(folder, grade, given)
    made.lookout = Lookout(rule, OTHERS)
    return made


def planned(**changes):
    return EarlyStop(tiny_prompts(n=4, seed=9), **changes)


def weights_at(made):
    """Run to the end; return the weights after each iteration, the start's first."""
    found = [weights_of(made.networks.policy)]
    found += [weights_of(made.networks.policy) for _ in made.iterate()]
    return found


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_training_ends_where_kl_on_other_prompts_is_too_large_and_keeps_the_policy_before(tmp_path):
    made = watched(tmp_path, planned(every=2, kl=0.2))
    found = weights_at(made)
    kls = [look["kl"] for look in made.lookout.looks]
    assert kls[0] == 0
    assert kls[-1] > 0.2
    assert all(kl <= 0.2 for kl in kls[:-1])
    steps = [look["step"] for look in made.lookout.looks]
    assert steps == list(range(0, steps[-1] + 1, 2))
    assert len(made.curve) == steps[-1] < made.steps
    assert same(weights_of(made.networks.policy), found[int(steps[-2])])
    assert not same(weights_of(made.networks.policy), found[-1])


def scripted(values):
    """Grade answers to other prompts by a script, one value a look, and the rest by a rule."""
    left = list(values)

    def grade(episodes):
        if episodes[0].asked.prompt_id.startswith("v"):
            return [left.pop(0)] * len(episodes)
        return first_token(episodes)

    return grade


def test_training_ends_when_patience_does_and_keeps_the_best_policy(tmp_path):
    grade = scripted([1.0, 3.0, 2.0, 3.0, 9.0])
    made = watched(tmp_path, planned(every=1, patience=2), grade)
    found = weights_at(made)
    assert [look["proxy"] for look in made.lookout.looks] == [1.0, 3.0, 2.0, 3.0]
    assert [look["kept"] for look in made.lookout.looks] == [1, 1, 0, 0]
    assert len(made.curve) == 3
    assert same(weights_of(made.networks.policy), found[1])


def test_patience_does_not_run_out_while_the_policy_waits_for_its_value(tmp_path):
    grade = scripted([1.0, 2.0, 1.5, 1.0])
    rule = planned(every=1, patience=2)
    made = watched(tmp_path, rule, grade, value_warmup=3, passes=9.0)
    found = weights_at(made)
    assert [look["step"] for look in made.lookout.looks] == [0, 4, 5, 6]
    assert [look["kept"] for look in made.lookout.looks] == [1, 1, 0, 0]
    assert same(weights_of(made.networks.policy), found[4])
    assert not same(found[4], found[0])


def test_a_look_that_runs_out_of_memory_is_taken_again_with_half_the_rows(tmp_path, monkeypatch):
    known, tries = harness.early_stop.mean_kl, []

    def short(networks, episodes, temperature, device, rows):
        tries.append(rows)
        if rows is None:
            raise torch.OutOfMemoryError("CUDA out of memory (planted)")
        return known(networks, episodes, temperature, device, rows)

    monkeypatch.setattr(harness.early_stop, "mean_kl", short)
    made = watched(tmp_path, planned(every=1, kl=1e9), passes=1.0)
    made.lookout.look(made)
    assert tries == [None, 16], "32 answers are looked at"
    assert made.lookout.looks[0]["kl"] == 0


def test_a_policy_that_only_gets_worse_stays_as_it_was(tmp_path):
    made = watched(tmp_path, planned(every=1, patience=1), scripted([1.0, 0.5]))
    found = weights_at(made)
    assert same(weights_of(made.networks.policy), found[0])


def test_a_run_that_nothing_stops_is_looked_at_in_the_end(tmp_path):
    made = watched(tmp_path, planned(every=5, kl=1e9), passes=7.0)
    found = weights_at(made)
    assert [look["step"] for look in made.lookout.looks] == [0, 5, 7]
    assert same(weights_of(made.networks.policy), found[-1])


def test_looking_changes_nothing_of_training_and_costs_are_counted(tmp_path):
    plain_run = loop(
        tmp_path / "plain",
        first_token,
        settings(passes=3.0, learning_rate=1e-2, kl=0.0),
    )
    seen = watched(tmp_path / "seen", planned(every=1, kl=1e9), passes=3.0)
    assert [row["proxy"] for row in seen.iterate()] == [row["proxy"] for row in plain_run.iterate()]
    assert same(weights_of(seen.networks.policy), weights_of(plain_run.networks.policy))
    extra = seen.out.counters["tokens_generated"] - plain_run.out.counters["tokens_generated"]
    assert extra == sum(look["length"] * 32 for look in seen.lookout.looks)


def test_a_score_on_other_prompts_that_is_no_number_stops_the_run(tmp_path):
    made = watched(tmp_path, planned(every=1, patience=1), scripted([1.0, float("nan")]))
    with pytest.raises(Diverged, match=r"validation_score is nan at step 1 of 12; last finite"):
        list(made.iterate())


@pytest.mark.parametrize(
    ("changes", "message"),
    [({}, "needs kl, patience or both"), ({"kl": 1.0, "every": 0}, "at least 1")],
)
def test_a_rule_that_means_nothing_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        planned(**changes)


def test_the_stage_keeps_what_was_seen_and_goes_on_to_the_same_bytes(make, tmp_path):
    policy, asked = make(tiny_policy(seed=0)), make(tiny_prompts(n=16, seed=0))
    rule = EarlyStop(make(tiny_prompts(n=8, seed=9)), every=1, kl=1e9)
    done = run(tmp_path / "done", policy, asked, early_stop=rule)
    with (done / "validation.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["0", "1", "2", "3"]
    with pytest.raises(Interrupted):
        run(tmp_path, policy, asked, draft=Stopping(tmp_path, 2), early_stop=rule)
    resumed = run(tmp_path, policy, asked, draft=Stopping(tmp_path, 0), early_stop=rule)
    assert digests(resumed.path) == digests(done.path)


def test_work_from_before_there_was_an_early_stop_keeps_its_id():
    start, asked = tiny_policy(seed=0), tiny_prompts(n=16, seed=0)
    off = optimise(start, asked, reward=Contains("e"), value=None, **SETTINGS)
    identity = {key: plain(value) for key, value in off.recipe.arguments.items()}
    assert "early_stop" not in identity
    known = ["alignment-matrix:optimise", 3, identity]
    text = json.dumps(known, sort_keys=True, separators=(",", ":"))
    assert off.id == f"optimise-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    rule = planned(kl=1.0)
    on = optimise(start, asked, reward=Contains("e"), value=None, **SETTINGS, early_stop=rule)
    assert on.id != off.id
    assert rule.prompts in on.inputs
