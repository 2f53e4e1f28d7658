"""Policy-gradient mathematics against golden numbers, hand calculation and invariants."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.policy_gradient import (
    adapted_beta,
    explained_variance,
    gae,
    k1,
    k2,
    k3,
    masked_mean,
    policy_losses,
    token_rewards,
    value_losses,
    whiten,
)

NAN = float("nan")
REWARDS = torch.tensor([[-0.01, 0.02, -0.03, 1.0]], dtype=torch.float64)
VALUES = torch.tensor([[0.5, 0.4, 0.6, 0.2]], dtype=torch.float64)
ALL = torch.ones(1, 4, dtype=torch.bool)


def close(found, expected, tolerance=1e-6):
    assert found.flatten().tolist() == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(
    ("lam", "advantages"),
    [
        (0.0, [-0.11, 0.22, -0.43, 0.8]),
        (0.95, [0.396825, 0.5335, 0.33, 0.8]),
        (1.0, [0.48, 0.59, 0.37, 0.8]),
    ],
)
def test_advantages_and_returns_are_the_known_ones_of_four_tokens(lam, advantages):
    found, returns = gae(REWARDS, VALUES, ALL, lam=lam)
    close(found, advantages)
    close(returns, [a + v for a, v in zip(advantages, VALUES[0].tolist(), strict=True)])


def test_an_answer_that_ends_early_has_the_advantages_of_a_shorter_row():
    rewards = torch.cat([REWARDS, torch.full((1, 2), NAN)], dim=1)
    values = torch.cat([VALUES, torch.full((1, 2), NAN)], dim=1)
    is_token = torch.tensor([[True] * 4 + [False] * 2])
    found, returns = gae(rewards, values, is_token)
    close(found, [0.396825, 0.5335, 0.33, 0.8, 0, 0])
    close(returns, [0.896825, 0.9335, 0.93, 1.0, 0, 0])


@pytest.mark.parametrize(
    ("after_eos", "expected"),
    [(False, [0.451, 0.58, 0.4, 0.0]), (True, [0.4149, 0.542, 0.36, 0.8])],
)
def test_a_score_at_eos_and_one_slot_after_it_give_their_known_advantages(after_eos, expected):
    is_token = torch.tensor([[True, True, True]])
    is_state = torch.tensor([[True, True, True, after_eos]])
    ratio = torch.zeros(1, 3, dtype=torch.float64)
    rewards = token_rewards(ratio, torch.tensor([1.0]), is_token, is_state, 0.1)
    found, _ = gae(rewards, VALUES, is_state, lam=0.95)
    close(found, expected)


def test_the_score_stands_on_the_last_token_and_the_penalty_on_all_of_them():
    ratio = torch.tensor([[0.5, -1.0, NAN], [2.0, NAN, NAN]])
    is_token = torch.tensor([[True, True, False], [True, False, False]])
    rewards = token_rewards(ratio, torch.tensor([3.0, 4.0]), is_token, is_token, 0.1)
    close(rewards, [-0.05, 3.1, 0.0, 3.8, 0.0, 0.0])


def test_the_penalty_is_not_clamped_where_a_log_ratio_is_negative():
    ratio = torch.tensor([[-2.0]])
    here = torch.tensor([[True]])
    rewards = token_rewards(ratio, torch.zeros(1), here, here, 0.5)
    assert rewards.item() == 1.0


def test_whitening_gives_the_known_values_with_and_without_the_mean():
    values = torch.arange(12, 21, dtype=torch.float64)[None] / 10
    mask = torch.ones_like(values, dtype=torch.bool)
    close(whiten(values, mask)[:, :3], [-1.549193, -1.161895, -0.774597])
    close(whiten(values, mask, shift_mean=False)[:, :3], [0.050807, 0.438105, 0.825403])


def test_whitening_is_of_the_tokens_alone():
    values = torch.tensor([[1.0, 3.0, NAN], [NAN, NAN, 5.0]])
    found = whiten(values, ~values.isnan())
    tokens = found[~values.isnan()].numpy()
    assert tokens.mean() == pytest.approx(0, abs=1e-6)
    assert np.var(tokens) == pytest.approx(1, abs=1e-6)
    assert found[values.isnan()].tolist() == [0.0] * 3


def test_kl_estimators_have_the_known_means_and_variances():
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    q = torch.tensor([0.4, 0.4, 0.2], dtype=torch.float64)
    ratio = p.log() - q.log()
    means = {k.__name__: float((p * k(ratio)).sum()) for k in (k1, k2, k3)}
    assert means == pytest.approx({"k1": 0.02526715, "k2": 0.02486241, "k3": 0.02526715}, abs=1e-8)
    close(k1(ratio), [0.223144, -0.287682, 0])
    close(k3(ratio), [0.023144, 0.045651, 0])
    for k, variance in ((k1, 0.049086), (k3, 0.000255)):
        found = float((p * k(ratio) ** 2).sum() - means[k.__name__] ** 2)
        assert found == pytest.approx(variance, abs=1e-6)


@given(st.floats(-20, 20))
def test_k2_and_k3_are_never_negative(ratio):
    assert k2(torch.tensor(ratio)) >= 0
    assert k3(torch.tensor(ratio, dtype=torch.float64)) >= 0


@pytest.mark.parametrize(
    ("advantage", "ratio", "loss", "held"),
    [
        (1, 1.3, -1.2, True),
        (1, 0.7, -0.7, False),
        (-1, 1.3, 1.3, False),
        (-1, 0.7, 0.8, True),
    ],
)
def test_the_clipped_policy_loss_has_the_known_values(advantage, ratio, loss, held):
    logp = torch.tensor([[math.log(ratio)]], dtype=torch.float64)
    found, clipped = policy_losses(logp, torch.zeros(1, 1), torch.tensor([[advantage]]), 0.2)
    assert found.item() == pytest.approx(loss, abs=1e-9)
    assert clipped.item() is held


def test_a_clipped_token_has_no_gradient_and_a_free_one_has_reinforces():
    logp = torch.tensor([[math.log(1.3), 0.0]], dtype=torch.float64, requires_grad=True)
    old = torch.zeros(1, 2, dtype=torch.float64)
    policy_losses(logp, old, torch.tensor([[1.0, 3.0]]), 0.2)[0].sum().backward()
    close(logp.grad, [0.0, -3.0])


def test_a_value_that_left_its_old_one_is_held_there_where_that_is_worse():
    values = torch.tensor([[1.0, 1.0]])
    losses, held = value_losses(values, torch.zeros(1, 2), torch.tensor([[1.0, -1.0]]), 0.2)
    close(losses, [0.8**2 / 2, 2.0])
    assert held.tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("kl", "by_horizon", "by_constant"),
    [(12, 1.01024, 1.02), (6, 1, 1), (3, 0.98976, 0.98), (6.6, 1.00512, 1.01)],
)
def test_the_adaptive_coefficient_moves_by_the_known_factors(kl, by_horizon, by_constant):
    assert adapted_beta(1.0, kl, target=6, gain=512 / 10_000) == pytest.approx(by_horizon)
    assert adapted_beta(1.0, kl, target=6, gain=0.1) == pytest.approx(by_constant)


def test_nan_in_padding_reaches_no_loss_and_no_gradient():
    torch.manual_seed(0)
    is_token = torch.tensor([[True, True, False], [True, False, False]])
    parts = [torch.randn(2, 3) for _ in range(4)]

    def total(fill):
        logp, old, advantages, values = (part.masked_fill(~is_token, fill) for part in parts)
        logp.requires_grad_()
        losses = policy_losses(logp, old, whiten(advantages, is_token), 0.2)[0]
        errors = value_losses(values, old, advantages, 0.2)[0]
        loss = masked_mean(losses, is_token) + masked_mean(errors, is_token)
        loss.backward()
        return loss.item(), logp.grad[is_token].tolist()

    assert total(NAN) == total(0.0)


def test_parts_of_a_batch_add_up_to_its_mean_over_tokens():
    values, is_token = torch.randn(6, 5), torch.rand(6, 5) > 0.4
    whole = masked_mean(values, is_token)
    count = float(is_token.sum())
    parts = sum(masked_mean(values[i : i + 2], is_token[i : i + 2], count) for i in (0, 2, 4))
    assert float(parts) == pytest.approx(float(whole), abs=1e-6)


def test_explained_variance_is_one_for_perfect_values_and_zero_for_their_mean():
    returns, is_token = torch.tensor([[1.0, 2.0, 3.0]]), torch.ones(1, 3, dtype=torch.bool)
    assert explained_variance(returns, returns, is_token) == 1.0
    assert explained_variance(torch.full((1, 3), 2.0), returns, is_token) == 0.0
    assert explained_variance(returns, torch.full((1, 3), 2.0), is_token) == 0.0
