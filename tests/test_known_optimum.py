"""Methods on answers that can all be listed reach ref * exp(r / beta), the known optimum.

PPO and DPO for a reward r; a step of direct Nash optimisation for the win rates against the policy
that answered (Rosset et al. 2024, arXiv:2404.03715, Algorithm 1, where beta is eta).
"""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from loops import answers, letters, loop, probabilities, prompts, settings

from harness.artifacts import Preferences, write_rows
from harness.draft import Draft
from harness.losses import bradley_terry
from harness.stages.contest import winners

BETA = 0.5
VOCABULARY = 6
EVERY = answers(VOCABULARY, 2)


def value_of(ids) -> float:
    """Return a reward between -1 and 1 that orders answers by no simple rule."""
    return float(torch.sin(torch.tensor(3.0 * ids[0] + 1.7 * len(ids) + 0.9 * ids[-1])))


def policy_of_letters():
    """Return a policy that can hold the optimum: it has a matrix for what it reads and says."""
    return letters(tie_word_embeddings=False)


def optimum(reference):
    best = reference * torch.tensor([value_of(ids) / BETA for ids in EVERY]).double().exp()
    return best / best.sum()


def distance(one, other):
    return float((one - other).abs().sum() / 2)


def test_the_answers_listed_are_all_there_are():
    assert float(probabilities(policy_of_letters(), EVERY).sum()) == pytest.approx(1, abs=1e-6)


@pytest.mark.slow
def test_ppo_reaches_the_optimum_of_reward_less_kl(tmp_path):
    policy = policy_of_letters()
    best = optimum(probabilities(policy, EVERY))
    given = settings(
        kl=BETA,
        batch_size=512,
        passes=50.0,
        learning_rate=1e-2,
        value_learning_rate=1e-2,
        schedule="linear",
        epochs=1,
    )
    run = loop(
        tmp_path,
        lambda episodes: [value_of(one.token_ids) for one in episodes],
        given,
        policy=policy,
        asked=prompts(512),
    )
    assert distance(probabilities(policy, EVERY), best) > 0.2
    for _ in run.iterate():
        pass
    assert distance(probabilities(run.networks.policy, EVERY), best) < 0.05


def test_dpo_on_labels_of_the_same_reward_reaches_the_same_optimum():
    reference = probabilities(policy_of_letters(), EVERY)
    r = torch.tensor([value_of(ids) for ids in EVERY]).double()
    first, second = torch.triu_indices(len(EVERY), len(EVERY), offset=1)
    found = fitted(reference, first, second, torch.sigmoid(r[first] - r[second]))
    assert distance(found, optimum(reference)) < 0.05


def fitted(reference, first, second, p1):
    """Return the distribution that DPO's loss leads to on labelled pairs of listed answers."""
    logits = reference.log().clone().requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=0.05)
    for _ in range(400):
        h = logits.log_softmax(0) - reference.log()
        loss = bradley_terry(BETA * (h[first] - h[second]), p1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return logits.detach().softmax(0)


def test_a_step_of_dno_reaches_the_optimum_of_win_rates_that_no_reward_could_give(tmp_path):
    """Each answer beats the half of the others that follow it on a circle, and so more or less."""
    count = len(EVERY)
    beats = torch.tensor(
        [[math.sin(2 * math.pi * (j - i) / count) for j in range(count)] for i in range(count)]
    )
    strength = torch.linspace(-3, 3, count)
    chance = torch.sigmoid(3 * beats + strength[:, None] - strength[None, :]).double()
    matches = [
        {"prompt_id": "p", "chosen": str(i), "rejected": str(j), "p1": float(chance[i, j])}
        for i, j in combinations(range(count), 2)
    ]
    for name in ("contests", "pairs"):
        (tmp_path / name).mkdir()
    write_rows(Draft(tmp_path / "contests"), matches)
    contests = Preferences("contests", path=tmp_path / "contests")
    winners.body(Draft(tmp_path / "pairs"), contests, margin=0.0, targets="soft")
    rows = Preferences("pairs", path=tmp_path / "pairs").rows()
    first, second = (torch.tensor([int(r[side]) for r in rows]) for side in ("chosen", "rejected"))
    reference = probabilities(policy_of_letters(), EVERY)
    rates = (chance.sum(1) - chance.diagonal()) / (count - 1)
    best = reference * (rates / BETA).exp()
    assert distance(reference, best / best.sum()) > 0.1
    found = fitted(reference, first, second, torch.tensor([r["p1"] for r in rows]).double())
    assert distance(found, best / best.sum()) < 0.01
