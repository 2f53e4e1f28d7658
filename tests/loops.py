"""PPO on models of a few tokens, whose every answer can be listed."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path

import torch

from harness.draft import Draft
from harness.networks import Networks, ValueNetwork
from harness.ppo import PPO
from harness.ppo_settings import PRESETS, Settings
from harness.rollout import Asked
from harness.stages.reward import with_head
from harness.tiny import random_llama

STOP, FIRST = 1, 2  # ids; 0 is padding, the prompt is one token, FIRST and later are letters
PLAIN = {
    **PRESETS["n_plus"],
    "kl": 0.5,
    "kl_target": None,
    "kl_horizon": 10_000,
    "passes": 1.0,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "value_learning_rate": 1e-3,
    "schedule": "constant",
    "value_warmup": 0,
    "value_head": "zeros",
    "whiten_rewards": False,
    "missing_eos": "keep",
    "missing_eos_score": -1.0,
    "temperature": 1.0,
    "max_new_tokens": 2,
    "pretraining_weight": 0.0,
    "pretraining_rows": 2,
    "stop_kl": None,
    "checkpoints": 0,
    "seed": 0,
}


def settings(**changes) -> Settings:
    return Settings(**{**PLAIN, **changes})


def letters(seed=0, *, vocabulary=6, scale=0.3, **changes):
    """Return a Llama over a handful of tokens."""
    small = {"vocab_size": vocabulary, "hidden_size": 16, "intermediate_size": 32}
    return random_llama(seed, scale=scale, **{**small, "num_hidden_layers": 1, **changes})


def prompts(n, *, kinds=1):
    """Return n prompts of one token each, of so many kinds."""
    return [Asked(f"p{i}", (FIRST + i % kinds,), None) for i in range(n)]


def loop(
    folder: Path, grade, given: Settings, *, policy=None, asked=None, micro_batch=None, text=()
) -> PPO:
    """Return a run of PPO whose reference is the policy it starts from."""
    model = letters() if policy is None else policy
    value = with_head(model, 0, 0)
    with torch.no_grad():
        value.score.weight.zero_()
    networks = Networks(copy.deepcopy(model), ValueNetwork(value), model)
    folder.mkdir(exist_ok=True)
    out = Draft(folder, micro_batch=micro_batch)
    return PPO(
        out,
        networks,
        asked or prompts(64),
        lambda episodes: (grade(episodes), {}),
        given,
        stop_ids=(STOP,),
        pretraining=text,
    )


def answers(vocabulary: int, tokens: int) -> list[tuple[int, ...]]:
    """Return every answer of at most so many tokens: it ends at STOP or at the limit."""
    found = []
    for length in range(1, tokens + 1):
        for ids in itertools.product(range(vocabulary), repeat=length):
            if STOP not in ids[:-1] and (ids[-1] == STOP or length == tokens):
                found.append(ids)
    return found


def probabilities(model, every, prompt=(FIRST,)) -> torch.Tensor:
    """Return the probability of each answer, by one plain forward each."""
    found = []
    for ids in every:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0].double()
        each = logits.log_softmax(-1)
        found.append(sum(float(each[len(prompt) - 1 + t, id]) for t, id in enumerate(ids)))
    return torch.tensor(found, dtype=torch.float64).exp()
