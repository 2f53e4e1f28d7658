"""The names that a method, a suite or any other plugin may import, and nothing else.

Importing them is light: torch and its relatives load where a stage body uses them.
"""

from harness.artifacts import (
    Demonstrations,
    Policy,
    Preferences,
    Probes,
    Prompts,
    Rankings,
    RewardModel,
    Samples,
    ScoredSamples,
    Scores,
    Texts,
    Truth,
    write_rows,
)
from harness.draft import Diverged, Draft
from harness.judge import Answer, Contains, Judge, Prompted, Reward
from harness.losses import bradley_terry, token_logprobs
from harness.models import encode
from harness.registry import Metric, dataset, judge, method, suite
from harness.shared import Data, Shared, Subject, derived_seed
from harness.stage import Artifact, stage
from harness.stages.finetune import finetune
from harness.stages.prefer import prefer
from harness.stages.reward import fit_reward
from harness.stages.sample import label, sample, score
from harness.stages.select import best_of_n, only, tempered
from harness.training import save_model

__all__ = [
    "Answer",
    "Artifact",
    "Contains",
    "Data",
    "Demonstrations",
    "Diverged",
    "Draft",
    "Judge",
    "Metric",
    "Policy",
    "Preferences",
    "Probes",
    "Prompted",
    "Prompts",
    "Rankings",
    "Reward",
    "RewardModel",
    "Samples",
    "ScoredSamples",
    "Scores",
    "Shared",
    "Subject",
    "Texts",
    "Truth",
    "best_of_n",
    "bradley_terry",
    "dataset",
    "derived_seed",
    "encode",
    "finetune",
    "fit_reward",
    "judge",
    "label",
    "method",
    "only",
    "prefer",
    "sample",
    "save_model",
    "score",
    "stage",
    "suite",
    "tempered",
    "token_logprobs",
    "write_rows",
]
