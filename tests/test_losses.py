"""Preference losses against the golden numbers of the literature and against definitions."""

from __future__ import annotations

import math

import pytest
import torch

from harness.losses import (
    agreement,
    bradley_terry,
    difference,
    ipo,
    k_wise,
    length_margin,
    mean_nll,
    negative_entropy,
    own_goal,
    robust_dpo,
    safe_or_not,
    smoothed,
    smoothed_nll,
    token_logprobs,
)


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


def column(*values, **kwargs):
    return torch.tensor(values, dtype=torch.float64, **kwargs)


@pytest.mark.parametrize(
    ("beta", "robust", "squared"),
    [(0.1, 0.602207, 12.25), (0.5, 0.293121, 0.25)],
)
def test_robust_dpo_and_ipo_at_h_of_one_and_a_half_have_their_golden_values(beta, robust, squared):
    h = column(1.5)
    assert robust_dpo(beta * h, 0.1).item() == pytest.approx(robust, abs=1e-6)
    assert ipo(h, beta).item() == pytest.approx(squared, abs=1e-9)


def test_a_policy_that_is_its_reference_has_the_known_losses():
    tie = column(0.0)
    assert robust_dpo(tie, 0.3).item() == pytest.approx(math.log(2))
    assert ipo(tie, 0.1).item() == pytest.approx(25.0)


def test_robust_dpo_is_unbiased_under_flips():
    delta, flips = column(-2.0, 0.3, 4.0), 0.2
    mean = (1 - flips) * robust_dpo(delta, flips) + flips * robust_dpo(-delta, flips)
    torch.testing.assert_close(mean, bradley_terry(delta))
    with pytest.raises(ValueError, match=r"\[0, 0.5\)"):
        robust_dpo(delta, 0.5)


def test_k_wise_has_its_golden_value_over_six_pairs():
    scores, ranks = column(2.0, 1.0, 0.0, -1.0), torch.tensor([1, 2, 3, 4])
    assert k_wise(scores, ranks).item() == pytest.approx(0.207038, abs=1e-6)


def test_k_wise_of_two_is_bradley_terry_and_of_many_the_mean_over_its_pairs():
    scores, ranks = column(0.4, -1.3, 2.2, 0.9), torch.tensor([2, 1, 2, 3])
    pairs = [(1, 0), (1, 2), (1, 3), (0, 3), (2, 3)]
    mean = sum(math.log1p(math.exp(float(scores[b] - scores[a]))) for a, b in pairs) / len(pairs)
    assert k_wise(scores, ranks).item() == pytest.approx(mean)
    two = k_wise(scores[:2], ranks[:2])
    assert two.item() == pytest.approx(bradley_terry(scores[1] - scores[0]).item())


def test_k_wise_ignores_a_shift_and_the_order_of_the_answers():
    scores, ranks = column(0.4, -1.3, 2.2, 0.9), torch.tensor([2, 1, 2, 3])
    turned = torch.tensor([3, 1, 0, 2])
    torch.testing.assert_close(k_wise(scores + 7, ranks), k_wise(scores, ranks))
    torch.testing.assert_close(k_wise(scores[turned], ranks[turned]), k_wise(scores, ranks))


def test_a_prompt_of_ties_alone_adds_nothing_and_no_gradient():
    scores = column(1.0, 2.0, 3.0, requires_grad=True)
    loss = k_wise(scores, torch.tensor([1, 1, 1]))
    loss.backward()
    assert loss.item() == 0.0
    assert scores.grad.tolist() == [0.0, 0.0, 0.0]


def test_a_safe_answer_should_score_high_and_an_unsafe_one_low_each_for_half():
    loss = safe_or_not(column(-1.734601), column(2.0), column(1.0), column(0.0))
    by_hand = 0.5 * (-math.log(0.15) + math.log1p(math.exp(2.0)))  # logit(0.15) = -1.734601
    assert loss.item() == pytest.approx(by_hand, abs=1e-6)
    both = safe_or_not(column(3.0), column(3.0), column(1.0), column(1.0))
    assert both.item() == pytest.approx(math.log1p(math.exp(-3.0)))


def test_token_means_are_compared_where_lengths_are_given():
    chosen, rejected, lengths = column(-6.0), column(-4.0), (column(3.0), column(1.0))
    assert difference(chosen, rejected).item() == -2.0
    assert difference(chosen, rejected, lengths).item() == 2.0


def test_the_longer_better_answer_must_be_better_by_the_length_margin():
    margin = length_margin((column(30.0), column(10.0)), 0.05)
    assert margin.item() == pytest.approx(1.0)
    assert bradley_terry(column(1.7), margin=margin).item() == pytest.approx(0.403186, abs=1e-6)
    assert length_margin((column(10.0), column(30.0)), 0.05).item() == pytest.approx(-1.0)


def test_the_nll_of_an_answer_is_a_mean_over_its_own_tokens():
    assert mean_nll(column(-6.0, -1.0), column(3.0, 4.0)).tolist() == [2.0, 0.25]


def test_an_answers_own_goal_against_the_opposite_has_its_golden_values():
    own, opposite = column(-0.5), column(-1.5)
    assert own_goal(own, own).item() == pytest.approx(math.log(2))
    assert own_goal(own, opposite, 0.0).item() == pytest.approx(0.313262, abs=1e-6)


def test_smoothed_goals_are_told_apart_by_a_finite_margin():
    margin = column(1.386294, requires_grad=True)  # logit(0.8)
    loss = own_goal(margin, torch.zeros(()), 0.2)
    loss.backward()
    assert loss.item() == pytest.approx(0.500402, abs=1e-6)
    assert margin.grad.item() == pytest.approx(0.0, abs=1e-6)
    assert own_goal(column(5.0), column(0.0)).item() > loss.item()


def test_flips_of_a_quarter_have_the_bayes_gap_and_loss_of_the_literature():
    gap = column(1.098612, requires_grad=True)  # log 3
    loss = bradley_terry(gap, 0.75)
    loss.backward()
    assert loss.item() == pytest.approx(0.562335, abs=1e-6)
    assert gap.grad.item() == pytest.approx(0.0, abs=1e-6)
    assert smoothed(0.9, 0.25) == pytest.approx(0.70)


@pytest.mark.parametrize(("p1", "floor"), [(0.5, 0.6931), (0.6, 0.6730), (0.9, 0.3251)])
def test_a_soft_label_is_met_best_at_its_logit_and_leaves_its_entropy(p1, floor):
    best = bradley_terry(column(math.log(p1 / (1 - p1))), p1).item()
    assert best == pytest.approx(floor, abs=1e-4)


WORDS = 5
IDS = torch.tensor([[1, 2, 3, 4]])
IS_COMPLETION = torch.tensor([[0, 0, 1, 1]])


def test_uniform_logits_have_the_entropy_of_the_vocabulary_and_the_same_smoothed_loss():
    logits = torch.zeros(1, 4, WORDS)
    assert negative_entropy(logits, IS_COMPLETION).item() == pytest.approx(-math.log(WORDS))
    for smoothing in (0.0, 0.2):
        loss = smoothed_nll(logits, IDS, IS_COMPLETION, smoothing)
        assert loss.item() == pytest.approx(math.log(WORDS))


def test_a_surer_model_has_the_higher_negative_entropy():
    sure = torch.zeros(1, 4, WORDS)
    sure[..., 3] = 4.0
    uniform = negative_entropy(torch.zeros(1, 4, WORDS), IS_COMPLETION)
    assert negative_entropy(sure, IS_COMPLETION) > uniform


def test_the_smoothed_loss_is_torchs_over_the_completion_alone():
    logits = torch.randn(1, 4, WORDS, generator=torch.Generator().manual_seed(1))
    theirs = torch.nn.functional.cross_entropy(logits[0, 1:3], IDS[0, 2:], label_smoothing=0.2)
    assert smoothed_nll(logits, IDS, IS_COMPLETION, 0.2).item() == pytest.approx(theirs.item())


def test_what_stands_outside_the_completion_changes_neither_entropy_nor_smoothed_loss():
    logits = torch.randn(1, 4, WORDS, generator=torch.Generator().manual_seed(1))
    poisoned = logits.clone()
    poisoned[:, 0] = math.nan
    poisoned[:, 3] = math.nan
    for loss in (
        lambda given: negative_entropy(given, IS_COMPLETION),
        lambda given: smoothed_nll(given, IDS, IS_COMPLETION, 0.2),
    ):
        assert torch.equal(loss(logits), loss(poisoned))
    nothing = torch.zeros(1, 4)
    with pytest.raises(ValueError, match="no token of the batch"):
        negative_entropy(logits, nothing)
    with pytest.raises(ValueError, match="no token of the batch"):
        smoothed_nll(logits, IDS, nothing, 0.2)
