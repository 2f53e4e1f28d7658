"""Numbers outside the limits of a setting: refused while a study is planned, by the setting's name.

Nothing runs here: a stage is called, as a method's body calls it, and no artifact is made.
"""

from __future__ import annotations

from typing import Annotated

import pytest
from annotated_types import Ge, Gt, Le, Lt

from harness import Count, Share, fit_reward, optimise, prefer, sample
from harness.owners import DISTRIBUTION
from harness.registry import discover
from harness.stage import STAGES, coerce
from harness.study import Overrides, Study, StudyError
from harness.tiny import tiny_base, tiny_prompts

ASK = {"temperature": 1.0, "max_new_tokens": 8, "seed": 0}


@pytest.mark.parametrize(
    ("annotation", "inside", "outside", "says"),
    [
        (Annotated[int, Ge(1)], 1, 0, "must be at least 1, not 0"),
        (Annotated[float, Gt(0)], 1e-9, 0.0, r"must be above 0, not 0\.0"),
        (Annotated[float, Le(0.5)], 0.5, 0.6, r"must be at most 0\.5, not 0\.6"),
        (Annotated[float, Ge(0), Lt(1)], 0.999, 1, "must be below 1, not 1"),
        (Count | None, None, -3, "must be at least 1, not -3"),
        (tuple[Share, ...], (0, 1), (0.3, 1.2), r"must be at most 1, not 1\.2"),
    ],
)
def test_a_number_outside_its_limits_is_named_with_the_limit(annotation, inside, outside, says):
    assert coerce(inside, annotation, "here") == inside
    with pytest.raises(ValueError, match=f"^here {says}$"):
        coerce(outside, annotation, "here")


def test_what_is_no_number_at_all_is_still_an_error_of_type():
    for wrong in ("1", 1.5, True, None):
        with pytest.raises(TypeError, match="here must be int, not"):
            coerce(wrong, Count, "here")


@pytest.mark.parametrize(
    ("stage", "setting", "wrong"),
    [
        ("sample", "n", 0),
        ("sample", "max_new_tokens", 0),
        ("sample", "temperature", -0.1),
        ("best_of_n", "n", 0),
        ("tempered", "temperature", 0.0),
        ("portion", "end", 0.0),
        ("portion", "start", -0.1),
        ("keep_best", "count", 0),
        ("keep_quantile", "quantile", 1.0),
        ("keep_quantile", "quantile", -0.1),
        ("keep_quantile", "at_most", 0),
        ("keep_above", "at_most", 0),
        ("mix", "share", 1.0),
        ("mix", "share", 0.0),
        ("relabel", "clamp", -0.1),
        ("relabel", "clamp", 0.6),
        ("winners", "margin", 1.1),
        ("with_replay", "shares", (0.3, -0.1)),
        ("in_hindsight", "parts", -1),
        ("follow_goals", "goalless", 1.0),
        ("follow_goals", "contrast", -1.0),
        ("follow_goals", "entropy", -0.1),
        ("follow_goals", "label_smoothing", 1.0),
        ("follow_goals", "contrast_smoothing", 0.5),
        ("fit_reward", "centre", -0.1),
        ("fit_reward", "held_out", 1.0),
        ("fit_safe_reward", "safety", 0.0),
        ("fit_step_reward", "held_out", 1.0),
        ("prefer", "beta", 0.0),
        ("prefer", "margin", -0.1),
        ("prefer", "length_penalty", -0.1),
        ("prefer", "nll", -0.1),
        ("prefer", "label_smoothing", 0.5),
        ("optimise", "kl", -1.0),
        ("optimise", "kl_target", 0.0),
        ("optimise", "kl_horizon", 0),
        ("optimise", "passes", 0.0),
        ("optimise", "minibatches", 0),
        ("optimise", "temperature", 0.0),
        ("optimise", "lam", 1.1),
        ("optimise", "clip", 0.0),
        ("optimise", "value_clip", -0.2),
        ("optimise", "stop_kl", 0.0),
        ("optimise", "warmup", -1),
        ("optimise", "value_warmup", -1),
        ("optimise", "checkpoints", -1),
        ("optimise", "value_learning_rate", -1e-6),
        ("optimise", "pretraining_weight", -1.0),
        ("optimise", "pretraining_rows", 0),
        ("optimise", "adam_betas", (0.9, 1.0)),
    ],
)
def test_a_stage_says_which_numbers_it_takes(stage, setting, wrong):
    annotation = STAGES[f"alignment-matrix:{stage}"].hints[setting]
    with pytest.raises(ValueError, match=rf"^{setting} must be (above|at least|below|at most) "):
        coerce(wrong, annotation, setting)


@pytest.mark.parametrize(
    ("setting", "wrong"),
    [("epochs", 0), ("batch_size", 0), ("learning_rate", -1e-6), ("weight_decay", -0.1)],
)
def test_no_trainer_takes_what_would_train_nothing_or_backwards(setting, wrong):
    ours = [stage for stage in STAGES.values() if stage.owner == DISTRIBUTION]
    trainers = [stage for stage in ours if "learning_rate" in stage.hints]
    assert {optimise, prefer, fit_reward} < set(trainers)
    for stage in trainers:
        with pytest.raises(ValueError, match="must be at least"):
            coerce(wrong, stage.hints[setting], setting)


def test_a_stage_refuses_when_it_is_planned_and_says_which_stage():
    with pytest.raises(ValueError, match=r"sample\(\.\.\.\) setting 'n' must be at least 1, not 0"):
        sample(tiny_base(seed=0), tiny_prompts(split="train"), n=0, **ASK)


@pytest.mark.parametrize(
    ("row", "wrong", "says"),
    [
        ("llama2", "versions=0", "methods.llama2.versions must be at least 1, not 0"),
        ("llama2", "share=0.0", "methods.llama2: portion(...) setting 'end' must be above 0"),
        ("hir", "rounds=-1", "methods.hir.rounds must be at least 0, not -1"),
        ("hir", "replay=0", "methods.hir.replay must be at least 1, not 0"),
        ("ppo", "passes=0.0", "methods.ppo: optimise(...) setting 'passes' must be above 0"),
        ("rest", "epochs=0", "methods.rest: finetune(...) setting 'epochs' must be at least 1"),
    ],
)
def test_a_study_with_a_senseless_number_is_refused_before_anything_is_made(row, wrong, says):
    discover()
    with pytest.raises(StudyError) as refused:
        Study.load("hamlet", Overrides((row,), (0,), (f"methods.{row}.{wrong}",))).cells()
    assert says in str(refused.value)


def test_the_fine_tuning_that_all_rows_share_is_held_to_the_same_limits():
    with pytest.raises(StudyError, match=r"sft\.epochs must be at least 1, not 0"):
        Study.load("hamlet", Overrides(("sft",), (0,), ("sft.epochs=0",))).cells()
