"""Preference losses against the golden numbers of the literature and against definitions."""

from __future__ import annotations

import math

import pytest
import torch

from harness.losses import agreement, bradley_terry, smoothed, token_logprobs


@pytest.mark.parametrize(
    ("delta", "margin", "golden"),
    [
        (0.0, 0.0, 0.693147),
        (0.7, 0.0, 0.403186),
        (0.7, 1.0, 0.854355),
        (0.7, 3.0, 2.395545),
        (1.7, 0.0, 0.167786),
        (1.7, 1.0, 0.403186),
    ],
)
def test_bradley_terry_with_margin_has_its_golden_values(delta, margin, golden):
    loss = bradley_terry(torch.tensor([delta]), margin=torch.tensor([margin]))
    assert loss.item() == pytest.approx(golden, abs=1e-6)


@pytest.mark.parametrize(
    ("beta", "dpo", "cdpo", "weight"),
    [(0.1, 0.620957, 0.635957, 0.046257), (0.5, 0.386871, 0.461871, 0.160410)],
)
def test_dpo_and_cdpo_at_h_of_one_and_a_half_have_their_golden_values(beta, dpo, cdpo, weight):
    h = torch.tensor([1.5], requires_grad=True)
    loss = bradley_terry(beta * h)
    assert loss.item() == pytest.approx(dpo, abs=1e-6)
    loss.backward()
    assert -h.grad.item() == pytest.approx(weight, abs=1e-6)
    assert bradley_terry(beta * h, smoothed(1.0, 0.1)).item() == pytest.approx(cdpo, abs=1e-6)


def test_cdpo_is_lowest_where_the_model_believes_in_the_flip_rate():
    delta = torch.tensor([2.197225], requires_grad=True)  # log(0.9 / 0.1)
    loss = bradley_terry(delta, smoothed(1.0, 0.1))
    loss.backward()
    assert loss.item() == pytest.approx(0.325083, abs=1e-6)
    assert delta.grad.item() == pytest.approx(0.0, abs=1e-6)


def test_an_undecided_label_has_no_gradient_where_the_scores_are_equal_even_with_a_margin():
    delta = torch.zeros(1, requires_grad=True)
    bradley_terry(delta, 0.5, 1.0).backward()
    assert delta.grad.item() == 0.0


def test_swapping_the_answers_and_the_label_changes_nothing():
    delta = torch.linspace(-3, 3, 13)
    p1 = torch.linspace(0, 1, 13)
    swapped = bradley_terry(-delta, 1 - p1, 0.3)
    torch.testing.assert_close(bradley_terry(delta, p1, 0.3), swapped)


def test_a_large_difference_neither_overflows_nor_underflows_to_a_wrong_loss():
    assert bradley_terry(torch.tensor([-1e4])).item() == 1e4
    assert bradley_terry(torch.tensor([1e4])).item() == 0.0


def test_smoothing_moves_a_label_towards_its_opposite():
    assert smoothed(1.0, 0.25) == 0.75
    assert smoothed(0.5, 0.25) == 0.5
    assert smoothed(0.9, 0.1) == pytest.approx(0.9 * 0.9 + 0.1 * 0.1)


def test_token_logprobs_are_those_of_the_next_token_and_zero_outside_the_completion():
    probabilities = torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4]]])
    ids = torch.tensor([[0, 1, 2]])
    found = token_logprobs(probabilities.log(), ids, torch.tensor([[False, False, True]]))
    assert found.shape == (1, 2)
    assert found[0].tolist() == pytest.approx([0.0, math.log(0.7)], abs=1e-6)


def test_what_stands_in_the_padding_changes_no_log_probability():
    logits = torch.randn(1, 4, 5, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[1, 2, 3, 0]])
    mask = torch.tensor([[0, 1, 1, 0]])
    poisoned = logits.clone()
    poisoned[:, 2:] = math.nan  # position 2 predicts the padding token
    assert torch.equal(token_logprobs(logits, ids, mask), token_logprobs(poisoned, ids, mask))


def test_ties_count_one_half():
    assert agreement(torch.tensor([1.0, 0.0, -1.0, 2.0])).item() == pytest.approx(2.5 / 4)
