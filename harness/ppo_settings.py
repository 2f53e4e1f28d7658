"""The settings of PPO, and the values that papers gave them.

A preset holds a paper's values and, where the paper is silent, those of Huang et al. 2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Final, Literal

MissingEos = Literal["replace", "subtract", "keep"]
Decay = Literal["linear", "constant"]
ValueHead = Literal["zeros", "reward"]
Preset = Literal["instructgpt", "n_plus", "llama2", "reinforce_v"]


@dataclass(frozen=True)
class Settings:
    """How PPO is done; iterations are counted in batches of answers."""

    kl: float  # coefficient beta of the penalty, the first one where it adapts
    kl_target: float | None  # nats an answer that beta is adapted to; None keeps it fixed
    kl_horizon: int  # answers over which beta adapts: Ziegler et al. 2019
    passes: float  # answers drawn, in passes over the prompts
    batch_size: int  # answers an iteration
    minibatches: int  # gradient steps an iteration and epoch
    epochs: int  # times an iteration's answers are trained on
    learning_rate: float  # of the policy
    value_learning_rate: float
    schedule: Decay  # of both learning rates, over iterations
    warmup: int  # iterations over which a learning rate rises from a tenth once its network moves
    value_warmup: int  # iterations before the policy moves, in which the value alone is fitted
    value_head: ValueHead  # what the value network's head starts as, where a reward model starts it
    clip: float | None  # of the probability ratio around 1
    value_clip: float | None  # of a value around its old one
    lam: float  # of generalised advantage estimation; the discount is 1
    whiten_scores: bool  # a batch's scores get mean 0 and variance 1
    whiten_rewards: bool  # rewards of tokens get variance 1 and keep their mean
    whiten_advantages: bool  # a minibatch's advantages get mean 0 and variance 1
    missing_eos: MissingEos  # what an answer without EOS earns in place of, or less than, its score
    missing_eos_score: float  # what it earns instead, or how much less
    temperature: float
    max_new_tokens: int
    pretraining_weight: float  # of the next-token loss on pretraining text, a mean over tokens
    pretraining_rows: int  # blocks of that text for each answer
    adam_betas: tuple[float, float]
    weight_decay: float
    stop_kl: float | None  # mean nats an answer at which training ends early
    checkpoints: int  # policies kept on the way, the last one not counted
    seed: int
    legacy_after_eos: bool | None = None  # the score one slot after EOS: Huang et al. 2024, TRL

    @classmethod
    def among(cls, given: Mapping[str, Any]) -> Settings:
        """Return the settings among values by name."""
        return cls(**{field.name: given[field.name] for field in fields(cls)})

    def rates(self, step: int, steps: int) -> tuple[float, float]:
        """Return the shares of the full learning rates, the policy's and the value's.

        Up from a tenth, the value's from the first iteration on and the policy's from where it
        moves, at `value_warmup`; from there both are level or go down to 0.
        """
        done, level = max(step - self.value_warmup, 0), 1.0
        if self.schedule == "linear":
            level = 1 - done / (steps - self.value_warmup)
        if not self.warmup:
            return level, level
        policy, value = (min(1.0, 0.1 + 0.9 * moved / self.warmup) for moved in (done, step))
        return level * policy, level * value


_N_PLUS: Final[Mapping[str, Any]] = {
    "kl": 0.05,
    "batch_size": 512,
    "minibatches": 1,
    "epochs": 4,
    "learning_rate": 3e-6,
    "value_learning_rate": 3e-6,
    "schedule": "linear",
    "warmup": 0,
    "clip": 0.2,
    "value_clip": 0.2,
    "lam": 0.95,
    "whiten_scores": False,
    "whiten_advantages": True,
    "missing_eos": "replace",  # by -1
    "temperature": 0.7,
    "adam_betas": (0.9, 0.999),
    "weight_decay": 0.0,
}
PRESETS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "n_plus": _N_PLUS,  # Huang et al. 2024, 1B: its code
        "instructgpt": {  # Ouyang et al. 2022, appendix C.4; lam and the rest as n_plus
            **_N_PLUS,
            "kl": 0.02,
            "minibatches": 8,
            "epochs": 1,
            "learning_rate": 8.05e-6,  # the largest that did not diverge without pretraining data
            "value_learning_rate": 9e-6,
            "schedule": "constant",
            "warmup": 10,
            "temperature": 1.0,
            "adam_betas": (0.9, 0.95),
        },
        "llama2": {  # Touvron et al. 2023, section 3.2.3; lam, the value's clip and start as n_plus
            **_N_PLUS,
            "kl": 0.01,
            "minibatches": 8,
            "epochs": 1,
            "learning_rate": 1e-6,
            "value_learning_rate": 1e-6,
            "schedule": "constant",
            "whiten_scores": True,
            "temperature": 1.0,
            "adam_betas": (0.9, 0.95),
            "weight_decay": 0.1,
        },
        "reinforce_v": {  # Lee et al. 2023 (RLAIF), appendix on RL: REINFORCE with a value baseline
            **_N_PLUS,
            "kl": 0.05 / 0.95,  # (1 - beta) r - beta KL with beta = 0.05, over 1 - beta
            "batch_size": 128,
            "epochs": 1,
            "learning_rate": 1e-5,
            "value_learning_rate": 1e-5,
            "schedule": "constant",
            "clip": None,
            "value_clip": None,
            "lam": 1.0,
            "whiten_advantages": False,
            "missing_eos": "keep",
            "temperature": 0.9,
        },
    }
)
