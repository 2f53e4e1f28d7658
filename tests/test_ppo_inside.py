"""Inside an iteration of PPO: what it measures, and what reaches its losses, by hand."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from loops import FIRST, STOP, letters, loop, prompts, settings

from harness.draft import Diverged
from harness.networks import ValueNetwork, answer_logprobs
from harness.ppo_settings import PRESETS
from harness.rollout import Episode, final_scores, packs_of
from harness.stages.reward import with_head
from harness.tiny import random_llama


def first_token(episodes):
    return [float(one.token_ids[0] == FIRST) for one in episodes]


def begun(folder, *, policy=None, micro_batch=None, **changes):
    """Return a run of 12 answers of unequal lengths, whose gradients are left to be looked at."""
    given = settings(**{"batch_size": 12, "max_new_tokens": 9, **changes})
    policy = policy or letters(vocabulary=12)
    asked = prompts(12, kinds=4)
    run = loop(folder, first_token, given, policy=policy, asked=asked, micro_batch=micro_batch)
    run.take_step = lambda rates, *, frozen: {}
    return run


def nudged(model, size=0.05, seed=7):
    """Move a network a little, as a gradient step would."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += size * torch.randn(weight.shape, generator=draw)


def tokens_of(part, name):
    """Return a rollout's numbers of all tokens, pack after pack."""
    return torch.cat([getattr(one, name)[one.pack.is_token] for one in part]).double().numpy()


def text_gradient(model, rows):
    """Return the gradient of the mean next-token loss on texts of one length, by transformers."""
    model = copy.deepcopy(model)
    model.zero_grad()
    ids = torch.tensor(rows)
    model(input_ids=ids, labels=ids).loss.backward()
    return [weight.grad for weight in model.parameters()]


@pytest.mark.parametrize("micro_batch", [None, 5])
def test_later_steps_are_held_to_the_policy_and_the_values_that_drew_the_batch(
    tmp_path, micro_batch
):
    run = begun(tmp_path, micro_batch=micro_batch, clip=0.1, value_clip=0.05)
    episodes = run.draw(0)
    ((part,), _) = run.evaluate(0, episodes, first_token(episodes))
    old_logp, advantages = tokens_of(part, "old_logp"), tokens_of(part, "advantages")
    old_values, returns = tokens_of(part, "old_values"), tokens_of(part, "returns")
    nudged(run.networks.policy)
    nudged(run.networks.value.classifier)
    with torch.no_grad():
        logp = [answer_logprobs(run.networks.policy, one.pack, 1.0) for one in part]
        values = [run.networks.value(one.pack) for one in part]
    new = [
        replace(one, old_logp=a, old_values=b) for one, a, b in zip(part, logp, values, strict=True)
    ]
    ratio = np.exp(tokens_of(new, "old_logp") - old_logp)
    free, held = -advantages * ratio, -advantages * np.clip(ratio, 0.9, 1.1)
    now = tokens_of(new, "old_values")
    near = old_values + np.clip(now - old_values, -0.05, 0.05)
    errors = np.maximum((now - returns) ** 2, (near - returns) ** 2) / 2
    found = run.update(part, 0, 1)
    assert 0.1 < (held > free).mean() < 0.9, "the clip must matter here"
    assert not np.allclose(errors, (now - returns) ** 2 / 2), "and that of the values too"
    assert found["policy_loss"] == pytest.approx(np.maximum(free, held).mean(), abs=1e-5)
    assert found["clip_fraction"] == pytest.approx((held > free).mean(), abs=1e-6)
    assert found["value_loss"] == pytest.approx(errors.mean(), rel=1e-4)
    assert found["ratio_gap"] == pytest.approx(np.abs(np.log(ratio)).max(), abs=1e-5)


def test_returns_are_of_the_advantages_before_whitening(tmp_path):
    parts = []
    for whiten in (True, False):
        run = begun(tmp_path / str(whiten), whiten_advantages=whiten)
        nudged(run.networks.value.classifier)
        episodes = run.draw(0)
        ((part,), _) = run.evaluate(0, episodes, first_token(episodes))
        parts.append(part)
    white, plain = parts
    assert tokens_of(white, "returns") == pytest.approx(tokens_of(plain, "returns"), abs=1e-6)
    raw = tokens_of(plain, "advantages")
    assert tokens_of(plain, "returns") - tokens_of(plain, "old_values") == pytest.approx(
        raw, abs=1e-6
    )
    by_hand = (raw - raw.mean()) / raw.std()  # over the whole minibatch, the population's
    assert tokens_of(white, "advantages") == pytest.approx(by_hand, abs=1e-4)


def test_whitened_rewards_keep_their_mean(tmp_path):
    rewards = []
    for whiten in (True, False):
        run = begun(tmp_path / str(whiten), whiten_rewards=whiten, kl=0.5)
        run.networks.reference = letters(seed=1, vocabulary=12)
        episodes = run.draw(0)
        ((part,), _) = run.evaluate(0, episodes, first_token(episodes))
        rewards.append(tokens_of(part, "rewards"))
    white, plain = rewards
    by_hand = (plain - plain.mean()) / plain.std() + plain.mean()
    assert white == pytest.approx(by_hand, abs=1e-4)
    assert abs(plain.mean()) > 1e-3


@pytest.mark.parametrize("rule", ["replace", "subtract", "keep"])
def test_the_rule_for_a_missing_eos_is_what_the_rewards_add_up_to(tmp_path, rule):
    run = begun(tmp_path, missing_eos=rule, missing_eos_score=-3.0, max_new_tokens=3)
    one, other = run.prompts[:2]
    ended = Episode(one, (3, STOP), finished=True, logp=0.0)
    cut_off = Episode(other, (3, 4, 5), finished=False, logp=0.0)
    _, measured = run.evaluate(0, [ended, cut_off], [2.0, 5.0])
    missing = {"replace": -3.0, "subtract": 2.0, "keep": 5.0}[rule]
    assert measured["reward"] == pytest.approx((2.0 + missing) / 2, abs=1e-5)
    assert measured["proxy"] == 3.5, "the proxy is the score itself"
    assert measured["eos_rate"] == 0.5
    assert measured["length"] == 2.5


def test_a_missing_eos_costs_the_same_however_scores_are_scaled():
    asked = prompts(3)
    episodes = [Episode(one, (3, STOP), i != 2, 0.0) for i, one in enumerate(asked)]
    given = settings(whiten_scores=True, missing_eos="replace", missing_eos_score=-1.0)
    found = [
        final_scores(episodes, [scale * x for x in (1.0, 2.0, 3.0)], given) for scale in (1, 99)
    ]
    # By hand: mean 2, population deviation sqrt(2/3); the third is replaced after that.
    assert found[0] == pytest.approx([-math.sqrt(1.5), 0.0, -1.0], abs=1e-5)
    assert found[1] == pytest.approx(found[0], abs=1e-5)


def test_a_policy_that_knows_nothing_has_the_entropy_of_its_vocabulary(tmp_path):
    policy = letters(vocabulary=12)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.zero_()
    run = begun(tmp_path, policy=policy)
    episodes = run.draw(0)
    _, measured = run.evaluate(0, episodes, first_token(episodes))
    assert len({len(one.token_ids) for one in episodes}) > 1
    assert measured["entropy"] == pytest.approx(math.log(12), abs=1e-5)


def test_the_curve_has_both_estimators_of_kl_and_the_variance_explained_by_the_values(tmp_path):
    run = begun(tmp_path, kl=0.3)
    run.networks.reference = letters(seed=1, vocabulary=12)
    nudged(run.networks.value.classifier)
    episodes = run.draw(0)
    ((part,), measured) = run.evaluate(0, episodes, first_token(episodes))
    ratio = tokens_of(part, "log_ratio")
    assert measured["kl"] == pytest.approx(ratio.sum() / 12, abs=1e-5)
    assert measured["kl_k3"] == pytest.approx((np.exp(-ratio) - 1 + ratio).sum() / 12, abs=1e-5)
    assert measured["kl_k3"] != pytest.approx(measured["kl"], abs=1e-3)
    returns, values = tokens_of(part, "returns"), tokens_of(part, "old_values")
    explained = 1 - (returns - values).var() / returns.var()
    assert measured["explained_variance"] == pytest.approx(explained, abs=1e-4)


def test_every_step_adds_the_weighted_gradient_of_pretraining_text(tmp_path):
    text = [[2, 3, 4, 5, 6, 7]]
    found = []
    for weight in (0.0, 0.5):
        run = begun(tmp_path / str(weight), pretraining_weight=weight, pretraining_rows=3)
        run.pretraining = text
        episodes = run.draw(0)
        ((part,), _) = run.evaluate(0, episodes, first_token(episodes))
        run.update(part, 0, 0)
        found.append([w.grad.clone() for w in run.networks.policy.parameters()])
    assert run.out.counters["tokens_trained"] == 3 * 12 * 6, "so many blocks for every answer"
    expected = text_gradient(run.networks.policy, text)
    for without, added, one in zip(*found, expected, strict=True):
        torch.testing.assert_close(added - without, 0.5 * one, atol=1e-5, rtol=1e-3)


def test_the_penalty_adapts_by_the_kl_of_whole_answers(tmp_path):
    given = {
        "kl": 0.01,
        "passes": 4.0,
        "learning_rate": 1e-2,
        "max_new_tokens": 4,
        "batch_size": 64,
    }
    plain = loop(tmp_path / "plain", first_token, settings(**given), policy=letters())
    kls = [row["kl"] for row in plain.iterate()]
    target = kls[1] / 1.1  # within a fifth, so that the controller's own clip does nothing
    adaptive = settings(**given, kl_target=target, kl_horizon=640)
    run = loop(tmp_path / "adaptive", first_token, adaptive, policy=letters())
    rows = list(run.iterate())
    assert rows[0]["kl"] == 0
    assert rows[1]["beta"] == pytest.approx(0.01 * (1 - 0.1 * 0.2))
    error = rows[1]["kl"] / target - 1
    assert 0.02 < abs(error) < 0.2
    assert rows[2]["beta"] == pytest.approx(rows[1]["beta"] * (1 + 0.1 * error))


def look(seen, weights):
    """Note the norm of the gradients that an optimiser was to step along."""
    seen.append(math.sqrt(sum(float((weight.grad**2).sum()) for weight in weights)))


def test_gradients_are_cut_to_norm_one_before_a_step_of_adam_as_papers_set_it(tmp_path):
    run = loop(tmp_path, lambda e: [1e3 * x for x in first_token(e)], settings(), policy=letters())
    seen = []
    for optimiser in run.optimisers:
        (group,) = optimiser.param_groups
        assert (group["eps"], group["betas"]) == (1e-5, (0.9, 0.999))
        optimiser.step = partial(look, seen, group["params"])
    row = next(run.iterate())
    assert row["value_grad_norm"] > 10, "what is reported is the norm before the cut"
    assert max(seen) <= 1 + 1e-4


def test_a_first_ratio_that_is_not_one_stops_the_run_and_a_later_one_does_not(tmp_path):
    run = begun(tmp_path)
    episodes = run.draw(0)
    ((part,), _) = run.evaluate(0, episodes, first_token(episodes))
    off = [replace(one, old_logp=one.old_logp - 0.01) for one in part]
    run.update(off, 0, 1)
    with pytest.raises(Diverged, match=r"first log-ratio of the batch is 0\.0\d+, not 0 at step 1"):
        run.update(off, 0, 0)


def test_a_policy_that_is_not_at_its_own_reference_in_the_beginning_stops_the_run(tmp_path):
    run = begun(tmp_path)
    assert run.same_at_start
    run.networks.reference = letters(seed=1, vocabulary=12)  # as an adapter that is not silent
    episodes = run.draw(0)
    _, measured = run.evaluate(0, episodes, first_token(episodes))
    assert abs(measured["kl"]) > 1e-4
    with pytest.raises(Diverged, match=r"KL to the policy itself is \S+, not 0 at step 1 of 1"):
        run.guard(0, measured)
    run.curve = [measured]
    run.guard(1, measured)  # later it may be anywhere


def test_kl_that_stays_below_zero_stops_the_run_and_chance_does_not(tmp_path):
    run = begun(tmp_path)
    run.same_at_start = False
    run.networks.reference = letters(seed=1, vocabulary=12)
    episodes = run.draw(0)
    ((part,), measured) = run.evaluate(0, episodes, first_token(episodes))
    each = np.concatenate([one.log_ratio.sum(1).double().numpy() for one in part])
    assert measured["kl_error"] == pytest.approx(each.std() / math.sqrt(12), rel=1e-4)
    chance, surely = ({**measured, "kl": kl, "kl_error": 0.1} for kl in (-0.25, -0.35))
    run.curve = [surely] * 4
    run.guard(4, chance)
    run.curve = [surely, chance, surely, surely, surely]
    run.guard(5, surely)
    run.curve = [surely] * 3
    run.guard(3, surely)
    run.curve = [chance, *[surely] * 4]
    with pytest.raises(Diverged, match="KL is negative by 3 standard errors in 5 batches"):
        run.guard(5, surely)


def gpt2(vocabulary=12):
    """Return a GPT-2, whose positions are absolute: padding on the left would be wrong for it."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    small = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": vocabulary}
    small |= {"initializer_range": 0.5, "bos_token_id": None, "eos_token_id": STOP}
    model = GPT2LMHeadModel(GPT2Config(**small))
    return model.eval()


@pytest.mark.parametrize("architecture", [gpt2, lambda: random_llama(0, vocab_size=12)])
def test_padding_and_company_change_neither_log_probabilities_nor_values(architecture):
    model = architecture()
    classifier = with_head(model, 0, 0).eval()
    draw = torch.Generator().manual_seed(0)
    asked = prompts(5)
    episodes = []
    for one, size in zip(asked, (6, 1, 4, 2, 9), strict=True):
        ids = tuple(torch.randint(FIRST, 12, (size,), generator=draw).tolist())
        whole = replace(one, ids=one.ids * size)  # prompts of several lengths too
        episodes.append(Episode(whole, ids, finished=True, logp=0.0))
    (together,) = packs_of(episodes, range(5), "cpu")
    poisoned = replace(together, ids=together.ids.clone())
    for row, number in enumerate(together.numbers):
        poisoned.ids[row, episodes[number].length :] = 11  # what stands in the padding
    networks = (
        (answer_logprobs, model),
        (lambda value, pack, _: value(pack), ValueNetwork(classifier)),
    )
    with torch.no_grad():
        for ask, network in networks:
            found = ask(network, together, 0.7)
            torch.testing.assert_close(ask(network, poisoned, 0.7), found, atol=1e-6, rtol=0)
            for row, number in enumerate(together.numbers):
                (alone,) = packs_of(episodes, [number], "cpu")
                own = ask(network, alone, 0.7)[0]
                assert own.any()
                torch.testing.assert_close(found[row, : len(own)], own, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "papers"),
    [
        # Ouyang et al. 2022, appendix C.4
        (
            "instructgpt",
            {"kl": 0.02, "batch_size": 512, "minibatches": 8, "epochs": 1, "clip": 0.2},
        ),
        ("instructgpt", {"value_learning_rate": 9e-6, "temperature": 1.0, "warmup": 10}),
        # Huang et al. 2024's code
        ("n_plus", {"kl": 0.05, "batch_size": 512, "minibatches": 1, "epochs": 4, "lam": 0.95}),
        ("n_plus", {"learning_rate": 3e-6, "schedule": "linear", "temperature": 0.7}),
        ("n_plus", {"clip": 0.2, "value_clip": 0.2, "missing_eos": "replace"}),
        # Touvron et al. 2023, section 3.2.3
        ("llama2", {"kl": 0.01, "batch_size": 512, "minibatches": 8, "epochs": 1, "clip": 0.2}),
        ("llama2", {"learning_rate": 1e-6, "schedule": "constant", "weight_decay": 0.1}),
        ("llama2", {"adam_betas": (0.9, 0.95), "whiten_scores": True}),
        # Lee et al. 2023: 0.05 / (1 - 0.05), T = 0.9, batch 128
        ("reinforce_v", {"kl": pytest.approx(0.0526316), "batch_size": 128, "temperature": 0.9}),
        ("reinforce_v", {"learning_rate": 1e-5, "epochs": 1, "clip": None, "value_clip": None}),
        ("reinforce_v", {"lam": 1.0, "whiten_advantages": False}),
    ],
)
def test_presets_have_the_papers_values(name, papers):
    assert {key: PRESETS[name][key] for key in papers} == papers
