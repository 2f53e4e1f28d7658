"""The loop of PPO: what it must not change, what it must reach, and what stops it."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from loops import FIRST, STOP, answers, letters, loop, probabilities, prompts, settings

from harness.draft import Diverged
from harness.networks import ValueNetwork, answer_logprobs
from harness.policy_gradient import gae, token_rewards
from harness.ppo_settings import PRESETS
from harness.rollout import (
    Asked,
    Episode,
    collect,
    final_scores,
    is_repetitive,
    packs_of,
    shuffled,
    with_ends,
)
from harness.sampling import Decoding
from harness.stages.reward import with_head
from harness.tiny import random_llama


def first_token(episodes):
    return [float(one.token_ids[0] == FIRST) for one in episodes]


def bits(model):
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def gradients(model):
    return [weight.grad.clone() for weight in model.parameters()]


def episodes_of(lengths, *, prompt=3, vocabulary=12):
    """Return episodes of random tokens, each with its prompt and answer lengths."""
    draw = torch.Generator().manual_seed(0)

    def ids(n):
        return tuple(torch.randint(FIRST, vocabulary, (n,), generator=draw).tolist())

    return [
        Episode(Asked(f"p{i}", ids(prompt + i % 3), None), ids(n), finished=True, logp=0.0)
        for i, n in enumerate(lengths)
    ]


def test_at_learning_rate_zero_nothing_moves_and_every_ratio_is_exactly_one(tmp_path):
    policy = letters(vocabulary=12)
    given = settings(
        learning_rate=0.0,
        value_learning_rate=0.0,
        max_new_tokens=9,
        minibatches=3,
        epochs=3,
        batch_size=20,
        temperature=0.7,
    )
    asked = prompts(60, kinds=4)
    run = loop(tmp_path, first_token, given, policy=policy, asked=asked)
    before, value = bits(run.networks.policy), bits(run.networks.value.classifier)
    rows = list(run.iterate())
    assert len(rows) == 3
    for row in rows:
        assert (row["ratio_gap"], row["clip_fraction"], row["kl"], row["kl_k3"]) == (0, 0, 0, 0)
        assert 1 < row["length"] < 9, "answers of several lengths, some of them cut"
    assert same(before, bits(run.networks.policy))
    assert same(value, bits(run.networks.value.classifier))


def test_before_the_first_step_the_policy_earns_its_score_and_no_penalty(tmp_path):
    run = loop(tmp_path, first_token, settings(kl=100.0))
    row = next(run.iterate())
    assert row["kl"] == 0
    assert row["reward"] == pytest.approx(row["proxy"], abs=1e-6)


def test_a_gradient_is_the_same_however_the_batch_is_cut(tmp_path):
    found = []
    for rows in (1, 8, None):
        given = settings(batch_size=8, max_new_tokens=9, value_learning_rate=0.0)
        policy = letters(vocabulary=12)
        asked = prompts(8, kinds=4)
        run = loop(
            tmp_path / str(rows), first_token, given, policy=policy, asked=asked, micro_batch=rows
        )
        run.take_step = lambda rates, *, frozen: {}
        episodes = run.draw(0)
        assert len({one.length for one in episodes}) > 2
        ((part,), _) = run.evaluate(0, episodes, first_token(episodes))
        run.update(part, 0, 0)
        both = (run.networks.policy, run.networks.value.classifier)
        found.append([gradient for model in both for gradient in gradients(model)])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=0)


def test_reinforce_with_a_value_baseline_is_a_preset_of_the_same_loop(tmp_path):
    paper = PRESETS["reinforce_v"]
    given = settings(**{**paper, "kl": 0.3, "batch_size": 6, "max_new_tokens": 4})
    policy = letters(vocabulary=12)
    run = loop(tmp_path, first_token, given, policy=policy, asked=prompts(6, kinds=3))
    run.networks.reference = letters(seed=1, vocabulary=12)
    with torch.no_grad():
        run.networks.value.classifier.score.weight.fill_(0.1)
    run.take_step = lambda rates, *, frozen: {}
    episodes = run.draw(0)
    ((part,), _) = run.evaluate(0, episodes, first_token(episodes))
    run.update(part, 0, 0)
    # By hand, one answer at a time: -log pi(a_t) (Z_t - V_t) and (Z_t - V_t)^2 / 2, where Z_t is
    # the score less what is still to come of the penalty.
    other, value = copy.deepcopy(policy), copy.deepcopy(run.networks.value.classifier)
    other.zero_grad()
    value.zero_grad()
    count = sum(len(one.token_ids) for one in episodes)
    for one, score in zip(episodes, first_token(episodes), strict=True):
        ids = torch.tensor([[*one.asked.ids, *one.token_ids]])
        start = len(one.asked.ids)
        each = [
            (model(input_ids=ids).logits[0] / 0.9).log_softmax(-1)
            for model in (other, run.networks.reference)
        ]
        values = value.score(value.base_model(input_ids=ids).last_hidden_state)[0, :, 0]
        for t in range(len(one.token_ids)):
            to_come = range(t, len(one.token_ids))
            kl = sum(
                each[0][start - 1 + u, one.token_ids[u]].item()
                - each[1][start - 1 + u, one.token_ids[u]].item()
                for u in to_come
            )
            left = score - 0.3 * kl - values[start - 1 + t].item()
            loss = -each[0][start - 1 + t, one.token_ids[t]] * left / count
            loss.backward(retain_graph=True)
            error = (values[start - 1 + t] - left - values[start - 1 + t].item()) ** 2
            (error / 2 / count).backward(retain_graph=True)
    for found, expected in ((run.networks.policy, other), (run.networks.value.classifier, value)):
        for one, two in zip(gradients(found), gradients(expected), strict=True):
            torch.testing.assert_close(one, two, atol=1e-6, rtol=0)


def test_a_two_armed_bandit_is_learnt(tmp_path):
    given = settings(kl=0.01, max_new_tokens=1, passes=20.0, learning_rate=1e-2)
    run = loop(tmp_path, first_token, given)
    for _ in run.iterate():
        pass
    every = answers(6, 1)
    assert float(probabilities(run.networks.policy, every)[every.index((FIRST,))]) > 0.9


def test_without_a_reward_the_policy_stays_at_its_reference(tmp_path):
    policy = letters()
    given = settings(kl=0.5, passes=10.0, learning_rate=2e-3, whiten_advantages=False)
    run = loop(tmp_path, lambda episodes: [0.0] * len(episodes), given, policy=policy)
    for _ in run.iterate():
        pass
    every = answers(6, 2)
    gap = probabilities(run.networks.policy, every) - probabilities(policy, every)
    assert float(gap.abs().sum() / 2) < 0.02


def test_a_constant_reward_and_a_perfect_value_give_the_policy_no_gradient(tmp_path):
    given = settings(**{**PRESETS["reinforce_v"], "kl": 0.3})
    run = loop(tmp_path, first_token, given)
    run.networks.value.offset = 0.75  # of a head of zeros: the value everywhere
    run.take_step = lambda rates, *, frozen: {}
    episodes = run.draw(0)
    ((part,), _) = run.evaluate(0, episodes, [0.75] * len(episodes))
    run.update(part, 0, 0)
    assert all(float(gradient.abs().max()) == 0 for gradient in gradients(run.networks.policy))


def test_an_answers_log_probabilities_are_those_of_its_sequence_alone():
    model = random_llama(0, vocab_size=12)
    episodes = episodes_of([5, 1, 3, 2])
    (pack,) = packs_of(episodes, range(4), "cpu")
    with torch.no_grad():
        found = answer_logprobs(model, pack, 0.7)
        for row, number in enumerate(pack.numbers):
            one = episodes[number]
            logits = model(input_ids=torch.tensor([[*one.asked.ids, *one.token_ids]])).logits[0]
            each = (logits / 0.7).log_softmax(-1)[len(one.asked.ids) - 1 : -1]
            alone = each.gather(1, torch.tensor(one.token_ids)[:, None])[:, 0]
            torch.testing.assert_close(found[row, : len(alone)], alone, atol=1e-5, rtol=0)
            assert not found[row, len(alone) :].any()


def test_a_value_is_of_the_state_before_its_token_and_padding_changes_none():
    classifier = with_head(random_llama(0, vocab_size=12), 0, 0)
    value = ValueNetwork(classifier, gain=2.0, offset=0.5)
    episodes = episodes_of([5, 1, 3, 2])
    (pack,) = packs_of(episodes, range(4), "cpu")
    with torch.no_grad():
        found = value(pack)
        for row, number in enumerate(pack.numbers):
            one = episodes[number]
            for t in range(len(one.token_ids)):
                before = torch.tensor([[*one.asked.ids, *one.token_ids[:t]]])
                raw = float(classifier(input_ids=before).logits[0, 0])
                assert float(found[row, t]) == pytest.approx(2 * raw + 0.5, abs=1e-5)


def test_draws_belong_to_step_prompt_and_pass_and_not_to_the_batch(tmp_path):
    given = settings(max_new_tokens=6, passes=2.0, batch_size=16)
    asked = prompts(16)
    drawn = [
        loop(
            tmp_path / str(rows),
            first_token,
            given,
            policy=letters(),
            asked=asked,
            micro_batch=rows,
        )
        for rows in (None, 3)
    ]
    ids = [[one.token_ids for one in run.draw(0)] for run in drawn]
    assert ids[0] == ids[1]
    assert ids[0] != [one.token_ids for one in drawn[0].draw(1)]
    other = loop(tmp_path / "other", first_token, replace(given, seed=1), asked=asked)
    assert sorted(ids[0]) != sorted(one.token_ids for one in other.draw(0))


def test_every_pass_asks_every_prompt_once(tmp_path):
    run = loop(tmp_path, first_token, settings(passes=3.0, batch_size=10), asked=prompts(15))
    assert run.steps == 4, "45 answers are four batches of 10; the rest of the last is left out"
    names = [(one.asked.number, one.asked.prompt_id) for step in range(3) for one in run.draw(step)]
    assert len(set(names[:15])) == 15
    assert {number for number, _ in names[:15]} == {0}
    assert len({name for _, name in names[15:30]}) == 15


@pytest.mark.parametrize(
    ("rule", "earned"),
    [("replace", [2.0, -1.0]), ("subtract", [2.0, 4.0]), ("keep", [2.0, 5.0])],
)
def test_a_missing_eos_is_looked_for_in_the_answer_and_priced_by_rule(rule, earned):
    asked = Asked("p", (STOP, 5), None)  # a chat prompt holds EOS too
    policy = letters()
    decoding = Decoding(1.0, 1, (STOP,), 0)
    wanted = [Asked(f"p{i}", asked.ids, None) for i in range(40)]
    for one in collect(policy, wanted, decoding):
        assert one.finished == (one.token_ids[-1] == STOP)
    episodes = [Episode(asked, (3, STOP), True, 0.0), Episode(asked, (3, 4), False, 0.0)]
    given = settings(missing_eos=rule, missing_eos_score=-1.0)
    assert final_scores(episodes, [2.0, 5.0], given) == earned


@pytest.mark.parametrize("micro_batch", [None, 1])
def test_a_score_after_eos_has_the_known_advantages_and_none_where_the_answer_was_cut_off(
    tmp_path, micro_batch
):
    given = settings(legacy_after_eos=True, lam=0.95, kl=0.0, whiten_advantages=False, batch_size=2)
    run = loop(tmp_path, first_token, given, asked=prompts(2), micro_batch=micro_batch)
    ended = Episode(run.prompts[0], (3, 4, STOP), finished=True, logp=0.0)
    cut_off = Episode(run.prompts[1], (3, 4, 5), finished=False, logp=0.0)
    known = torch.tensor([0.5, 0.4, 0.6, 0.2])
    seen = []

    def values(states):
        seen.append(states)
        return known[None, : states.is_token.shape[1]].masked_fill(~states.is_token, 0.0)

    run.networks.value = values
    ((part,), _) = run.evaluate(0, [ended, cut_off], [1.0, 1.0])
    found = {
        number: one.advantages[row].tolist()
        for one in part
        for row, number in enumerate(one.pack.numbers)
    }
    returns = {
        number: one.returns[row].tolist()
        for one in part
        for row, number in enumerate(one.pack.numbers)
    }
    assert found[0] == pytest.approx([0.4149, 0.542, 0.36], abs=1e-6)
    assert found[1] == pytest.approx([0.451, 0.58, 0.4], abs=1e-6)
    assert returns[0] == pytest.approx([0.9149, 0.942, 0.96, 1.0], abs=1e-6)
    assert sum(int(states.is_token.sum()) for states in seen) == 4 + 3


def test_the_state_after_eos_is_valued_as_the_whole_answer_is(tmp_path):
    classifier = with_head(random_llama(0, vocab_size=12), 0, 0)
    episodes = [replace(one, finished=i != 1) for i, one in enumerate(episodes_of([5, 4, 3, 5]))]
    (pack,) = packs_of(episodes, range(4), "cpu")
    with torch.no_grad():
        found = ValueNetwork(classifier)(with_ends(pack, episodes))
        for row, number in enumerate(pack.numbers):
            one = episodes[number]
            whole = torch.tensor([[*one.asked.ids, *one.token_ids]])
            last = float(classifier(input_ids=whole).logits[0, 0]) if one.finished else 0.0
            assert float(found[row, len(one.token_ids)]) == pytest.approx(last, abs=1e-5)


def test_scores_whitened_over_the_batch_have_mean_zero_and_variance_one():
    episodes = episodes_of([2, 2, 2, 2])
    found = final_scores(episodes, [1.0, 5.0, 2.0, 9.0], settings(whiten_scores=True))
    assert sum(found) == pytest.approx(0, abs=1e-5)
    assert sum(x * x for x in found) / 4 == pytest.approx(1, abs=1e-5)


def test_the_value_is_fitted_alone_before_the_policy_moves(tmp_path):
    run = loop(tmp_path, first_token, settings(value_warmup=2))
    before, value = bits(run.networks.policy), bits(run.networks.value.classifier)
    rows = run.iterate()
    next(rows), next(rows)
    once = run.out.counters["tokens_trained"]
    assert same(before, bits(run.networks.policy))
    assert not same(value, bits(run.networks.value.classifier))
    next(rows)
    assert not same(before, bits(run.networks.policy))
    assert run.steps == 3
    each = sum(row["length"] + 1 for row in run.curve) * 64 * 4  # prompts of one token, four epochs
    last = (run.curve[-1]["length"] + 1) * 64 * 4
    assert once == pytest.approx(each - last), "one network learns while the other waits"
    assert run.out.counters["tokens_trained"] == pytest.approx(each + last)


def test_the_value_warms_up_from_the_start_and_the_policy_from_where_it_moves():
    given = settings(value_warmup=2, warmup=2, schedule="constant")
    found = [given.rates(step, 6) for step in range(6)]
    assert [policy for policy, _ in found] == pytest.approx([0.1, 0.1, 0.1, 0.55, 1.0, 1.0])
    assert [value for _, value in found] == pytest.approx([0.1, 0.55, 1.0, 1.0, 1.0, 1.0])
    falling = settings(value_warmup=2, schedule="linear")
    both = [falling.rates(step, 6) for step in range(6)]
    assert both == [(level, level) for level in (1.0, 1.0, 1.0, 0.75, 0.5, 0.25)]


def test_too_few_answers_to_tell_are_never_held_against_a_policy(tmp_path):
    asked = prompts(4, kinds=4)  # fewer different prompts than tell anything
    run = loop(tmp_path, first_token, settings(batch_size=4), asked=asked)
    again = tuple([FIRST, FIRST + 1] * 10)
    episodes = [Episode(one, again, finished=True, logp=0.0) for one in asked]
    _, measured = run.evaluate(0, episodes, [0.0] * 4)
    assert measured["repeating"] == 1.0
    assert measured["repetitive"] == 0.0


def test_pretraining_of_weight_adds_its_next_token_gradient(tmp_path):
    text = [[2, 3, 4, 5], [5, 4, 3, 2]]
    given = settings(pretraining_weight=0.5, pretraining_rows=1, batch_size=4)
    run = loop(tmp_path, first_token, given, asked=prompts(4), text=text)
    run.add_pretraining_gradient(40, 0, 0)
    found = gradients(run.networks.policy)
    other = letters()
    rows = torch.tensor(text)
    losses = [other(input_ids=row[None], labels=row[None]).loss for row in rows]
    assert 0.2 < share_of_first(found, other, losses) < 0.8, "40 draws of two blocks hold both"


def share_of_first(found, model, losses):
    """Return the share w with which found = 0.5 (w grad(losses[0]) + (1 - w) grad(losses[1]))."""
    parts = [
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, model.parameters())])
        for loss in losses
    ]
    flat = torch.cat([g.flatten() for g in found]) / 0.5
    step = parts[0] - parts[1]
    share = float((flat - parts[1]) @ step / (step @ step))
    torch.testing.assert_close(share * parts[0] + (1 - share) * parts[1], flat, atol=1e-5, rtol=0)
    return share


def test_an_adaptive_penalty_rises_where_the_policy_is_too_far(tmp_path):
    given = settings(kl_target=1e-6, kl_horizon=640, kl=0.01, passes=4.0, learning_rate=1e-2)
    run = loop(tmp_path, first_token, given)
    betas = [row["beta"] for row in run.iterate()]
    assert betas[0] == 0.01
    # 64 answers over a horizon of 640 are a tenth, and the error is cut to a fifth either way.
    assert betas[1] == pytest.approx(0.01 * (1 - 0.02))
    assert betas[3] == pytest.approx(betas[2] * (1 + 0.02))


@pytest.mark.parametrize(
    ("changes", "rates"),
    [
        ({"schedule": "linear"}, [1.0, 0.75, 0.5, 0.25]),
        ({"schedule": "constant"}, [1.0] * 4),
        ({"schedule": "constant", "warmup": 3}, [0.1, 0.4, 0.7, 1.0]),
    ],
)
def test_the_learning_rate_follows_its_schedule(tmp_path, changes, rates):
    given = settings(passes=4.0, learning_rate=1e-3, **changes)
    run = loop(tmp_path, first_token, given)
    found = [row["learning_rate"] for row in run.iterate()]
    assert found == pytest.approx([1e-3 * rate for rate in rates])
    assert run.optimisers[0].param_groups[0]["lr"] == pytest.approx(1e-3 * rates[-1])


def test_training_ends_early_where_the_policy_has_gone_far_enough(tmp_path):
    given = settings(passes=30.0, learning_rate=1e-2, kl=0.0, stop_kl=0.2)
    rows = list(loop(tmp_path, first_token, given).iterate())
    assert len(rows) < 30
    assert rows[-1]["kl"] > 0.2
    assert all(row["kl"] <= 0.2 for row in rows[:-1])


def test_a_reward_that_is_not_a_number_stops_the_run_with_the_last_finite_values(tmp_path):
    calls = []

    def grade(episodes):
        calls.append(0)
        return [math.nan if len(calls) == 3 else 1.0] * len(episodes)

    run = loop(tmp_path, grade, settings(passes=5.0))
    with pytest.raises(Diverged, match=r"score is nan at step 3 of 5; last finite .*\"step\": 2"):
        list(run.iterate())


def test_a_policy_that_runs_away_from_its_reference_stops_the_run(tmp_path):
    run = loop(tmp_path, first_token, settings(passes=3.0))
    with torch.no_grad():
        run.networks.reference.get_input_embeddings().weight[FIRST:] *= 300
        run.networks.reference.lm_head.weight *= 300
    run.same_at_start = False
    with pytest.raises(Diverged, match=r"KL to the reference is \d\S* nats a token at step 1 of 3"):
        list(run.iterate())


def test_a_gradient_that_is_not_a_number_stops_the_run_before_it_is_taken(tmp_path):
    run = loop(tmp_path, first_token, settings(passes=3.0))
    next(run.iterate())
    before = bits(run.networks.policy)
    weight = next(run.networks.policy.parameters())
    weight.register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(Diverged, match=r"grad_norm is nan at step 2 of 3; last .*\"step\": 1"):
        next(run.iterate())
    assert same(before, bits(run.networks.policy))


def test_a_policy_that_is_not_what_was_sampled_stops_the_run(tmp_path):
    run = loop(tmp_path, first_token, settings())
    episodes = [replace(one, logp=one.logp - 1) for one in run.draw(0)]
    _, measured = run.evaluate(0, episodes, first_token(episodes))
    with pytest.raises(Diverged, match="sampler and training forward differ by"):
        run.guard(0, measured)


def test_a_dropout_left_on_stops_the_run_at_the_first_ratio(tmp_path):
    run = loop(tmp_path, first_token, settings(), policy=letters(attention_dropout=0.5))
    run.networks.policy.train()
    with pytest.raises(Diverged, match=r"differ by|first log-ratio|KL to the policy itself"):
        list(run.iterate())


def without_step(row):
    """Return what was measured in a row of the curve."""
    return {name: value for name, value in row.items() if name != "step"}


def test_answers_that_come_to_repeat_themselves_stop_the_run(tmp_path):
    run = loop(tmp_path, first_token, settings())
    row = next(run.iterate())
    with pytest.raises(Diverged, match="90% of the answers repeat themselves"):
        run.guard(1, without_step(row) | {"repetitive": 0.9})


@pytest.mark.parametrize(
    ("kind", "said"),
    [("empty", "are empty"), ("identical", "are one and the same"), ("unending", "to no end")],
)
def test_answers_that_all_come_to_nothing_stop_the_run(tmp_path, kind, said):
    run = loop(tmp_path, first_token, settings())
    row = next(run.iterate())
    run.guard(1, without_step(row) | {kind: 0.98})
    with pytest.raises(Diverged, match=rf"100% of the answers \D*{said} .* at step 2 of 1"):
        run.guard(1, without_step(row) | {kind: 1.0})


@pytest.mark.slow
def test_a_reward_for_saying_nothing_ends_in_a_run_that_stops(tmp_path):
    asked = [Asked(f"p{i}", (FIRST + i % 10, FIRST + i // 10), None) for i in range(64)]
    given = settings(kl=0.0, passes=60.0, learning_rate=1e-2, max_new_tokens=6)
    policy = letters(vocabulary=12)
    run = loop(
        tmp_path,
        lambda e: [-float(len(one.token_ids)) for one in e],
        given,
        policy=policy,
        asked=asked,
    )
    with pytest.raises(Diverged, match=r"100% of the answers are (empty|one and the same)"):
        list(run.iterate())
    assert run.curve[-1]["length"] < run.curve[0]["length"]


def test_weights_that_are_no_numbers_after_the_last_step_stop_the_run(tmp_path):
    run = loop(tmp_path, first_token, settings(passes=1.0))
    rows = run.iterate()
    next(rows)
    with torch.no_grad():
        next(run.networks.policy.parameters())[3] = math.inf
    with pytest.raises(
        Diverged, match=r"weight \S+ is inf at step 1 of 1; last finite .*\"step\": 1"
    ):
        next(rows)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [([5, 6] * 12, True), (list(range(30)), False), ([5] * 8, False), ([5] * 20, True)],
)
def test_an_answer_is_repetitive_when_long_and_made_of_old_pieces(ids, expected):
    assert is_repetitive(ids) is expected


def test_the_penalty_in_the_rewards_is_the_very_kl_that_is_reported(tmp_path):
    run = loop(tmp_path, lambda e: [0.0] * len(e), settings(passes=3.0))
    run.networks.reference = letters(seed=1)
    run.same_at_start = False
    for row in run.iterate():
        assert row["reward"] == pytest.approx(-row["beta"] * row["kl"], abs=1e-6)
    assert row["kl"] != 0


def test_orders_of_prompts_and_minibatches_are_permutations_of_their_own():
    assert sorted(shuffled(9, 0, "prompts", 1)) == list(range(9))
    assert shuffled(9, 0, "prompts", 1) != shuffled(9, 0, "prompts", 2)
    assert shuffled(9, 0, "prompts", 1) != shuffled(9, 1, "prompts", 1)


def test_rewards_without_score_after_the_first_token_have_gae_of_the_penalty_alone():
    ratio = torch.tensor([[0.2, 0.4]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    rewards = token_rewards(ratio, torch.zeros(1), mask, mask, 0.5)
    advantages, _ = gae(rewards, torch.zeros(1, 2), mask, lam=1.0)
    assert advantages[0].tolist() == pytest.approx([-0.3, -0.2])
