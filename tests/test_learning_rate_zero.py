"""A learning rate of zero leaves the policy as it is, to the bit, in every stage that trains one.

PPO and hindsight say it of themselves in test_ppo.py and test_hir.py.
"""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_demonstrations, tiny_pairs, tiny_policy

from harness.artifacts import Policy
from harness.draft import Draft
from harness.models import encode, load_policy, load_tokenizer
from harness.stages.finetune import finetune
from harness.stages.prefer import prefer

TRAINED = {  # the stages by which dpo, dno, rest, rejection, llama2 and SL-CAI train
    "finetune": (finetune, tiny_demonstrations(n=24, seed=1), {"schedule": "cosine"}),
    "prefer": (prefer, tiny_pairs(n=24, seed=1), {}),
    "prefer with other terms": (prefer, tiny_pairs(n=24, seed=1), {"nll": 1.0, "loss": "ipo"}),
}


def logits(policy):
    tokenizer = load_tokenizer(policy)
    ids = encode(tokenizer, [{"role": "user", "content": "say please"}], "please, 3 it is")
    with torch.no_grad():
        return load_policy(policy)(torch.tensor([ids])).logits


@pytest.mark.parametrize("name", TRAINED)
def test_a_learning_rate_of_zero_leaves_every_logit(name, make, tmp_path):
    stage, data, settings = TRAINED[name]
    policy, rows = make(tiny_policy(seed=0)), make(data)
    made = []
    for rate in (0.0, 1e-3):
        out = Draft(tmp_path / str(rate))
        out.path.mkdir()
        stage.body(out, policy, rows, learning_rate=rate, batch_size=8, **settings, seed=0)
        made.append(logits(Policy("trained", path=out.path)))
    assert torch.equal(made[0], logits(policy))
    assert not torch.equal(made[1], logits(policy))
