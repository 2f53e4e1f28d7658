"""The names that a method, a suite or any other plugin may import, and nothing else.

Importing them is light: torch and its relatives load where a stage body uses them.
"""

from harness.annotations import (
    Count,
    Examples,
    NotNegative,
    OpenShare,
    Positive,
    ProperShare,
    Share,
    Smoothing,
    Whole,
)
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
from harness.constitution import Constitution
from harness.constitution_file import constitution
from harness.draft import Diverged, Draft
from harness.early_stop import EarlyStop
from harness.ensembles import Ensemble, Stepwise
from harness.gated import Gated, axis_rewards, gated_reward
from harness.goals import BEST, Goal
from harness.judge import Answer, ByTag, Contains, Judge, Letters, Prompted, Rescaled, Reward
from harness.losses import bradley_terry, token_logprobs
from harness.models import encode
from harness.pairwise import Margin
from harness.ppo_settings import PRESETS, Preset
from harness.ranges import Choice, LogRange, Range
from harness.registry import Metric, dataset, judge, method, suite
from harness.shared import Data, Feedback, Shared, Subject, derived_seed
from harness.stage import Artifact, stage
from harness.stages.contest import contest, winners, with_replay
from harness.stages.critique import (
    Critiques,
    Revisions,
    collection,
    criticise,
    first_answers,
    own_pairs,
    pool,
    revise,
    revision_pairs,
    self_revised,
)
from harness.stages.finetune import finetune
from harness.stages.fresh import fresh_pairs
from harness.stages.hindsight import Relabelled, follow_goals, in_hindsight
from harness.stages.label import label, rank, relabel, together
from harness.stages.mix import mix
from harness.stages.optimise import optimise
from harness.stages.prefer import HARD_LABELS, PreferenceLoss, prefer
from harness.stages.reward import fit_reward, fit_safe_reward
from harness.stages.sample import sample, score
from harness.stages.sanity import Longest, canned, recite
from harness.stages.select import (
    as_answers,
    best_of_n,
    keep_above,
    keep_best,
    keep_quantile,
    only,
    pairs_to,
    portion,
    tempered,
    under_goal,
)
from harness.stages.steps import StepLabels, fit_step_reward, label_steps
from harness.training import save_model

__all__ = [
    "BEST",
    "HARD_LABELS",
    "PRESETS",
    "Answer",
    "Artifact",
    "ByTag",
    "Choice",
    "Constitution",
    "Contains",
    "Count",
    "Critiques",
    "Data",
    "Demonstrations",
    "Diverged",
    "Draft",
    "EarlyStop",
    "Ensemble",
    "Examples",
    "Feedback",
    "Gated",
    "Goal",
    "Judge",
    "Letters",
    "LogRange",
    "Longest",
    "Margin",
    "Metric",
    "NotNegative",
    "OpenShare",
    "Policy",
    "Positive",
    "PreferenceLoss",
    "Preferences",
    "Preset",
    "Probes",
    "Prompted",
    "Prompts",
    "ProperShare",
    "Range",
    "Rankings",
    "Relabelled",
    "Rescaled",
    "Revisions",
    "Reward",
    "RewardModel",
    "Samples",
    "ScoredSamples",
    "Scores",
    "Share",
    "Shared",
    "Smoothing",
    "StepLabels",
    "Stepwise",
    "Subject",
    "Texts",
    "Truth",
    "Whole",
    "as_answers",
    "axis_rewards",
    "best_of_n",
    "bradley_terry",
    "canned",
    "collection",
    "constitution",
    "contest",
    "criticise",
    "dataset",
    "derived_seed",
    "encode",
    "finetune",
    "first_answers",
    "fit_reward",
    "fit_safe_reward",
    "fit_step_reward",
    "follow_goals",
    "fresh_pairs",
    "gated_reward",
    "in_hindsight",
    "judge",
    "keep_above",
    "keep_best",
    "keep_quantile",
    "label",
    "label_steps",
    "method",
    "mix",
    "only",
    "optimise",
    "own_pairs",
    "pairs_to",
    "pool",
    "portion",
    "prefer",
    "rank",
    "recite",
    "relabel",
    "revise",
    "revision_pairs",
    "sample",
    "save_model",
    "score",
    "self_revised",
    "stage",
    "suite",
    "tempered",
    "together",
    "token_logprobs",
    "under_goal",
    "winners",
    "with_replay",
    "write_rows",
]
