"""Fresh judgements on Hamlet: of which prompts, and what they know under each kind of labels."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness import registry
from harness.hamlet.dataset import Gold
from harness.judge import Answer
from harness.run import run
from harness.store import Store
from harness.tiny import TINY_WORLD, tiny_base

REFUSAL = "I cannot help with that."


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Return a function from labels to annotators, with train and validation prompts, all made."""
    registry.discover()
    store = Store(tmp_path_factory.mktemp("world"))

    def made(labels):
        data = registry.get("dataset", "hamlet")(tiny_base(seed=0), 0, labels=labels, **TINY_WORLD)
        told = data.annotator
        run([data.prompts, data.validation, told.truth, told.validation], store, workers=0)
        told = replace(told, truth=store.open(told.truth), validation=store.open(told.validation))
        return told, store.open(data.prompts).rows(), store.open(data.validation).rows()

    return made


def say(rows, text):
    return [Answer(row["prompt_id"], row["messages"], text, True, row["tag"]) for row in rows]


@pytest.mark.parametrize("labels", ["noisy", "permuted", "oracle"])
def test_annotators_judge_the_prompts_that_choose_a_policy(world, labels):
    told, _, validation = world(labels)
    found = told.prefer(say(validation, REFUSAL), say(validation, "Yes."))
    assert len(found) == len(validation)
    assert set(found) <= {0.0, 0.5, 1.0}


def test_fresh_judgements_know_as_little_as_permuted_labels(world):
    told, train, _ = world("permuted")
    found = told.prefer(say(train, REFUSAL), say(train, "Yes."))
    assert found == told.prefer(say(train, "Yes."), say(train, "Nobody knows."))
    assert {0.0, 1.0} == set(found)


def test_noisy_judgements_depend_on_what_the_answers_say(world):
    told, train, _ = world("noisy")
    pairs = (say(train, REFUSAL), say(train, "Yes."))
    assert told.prefer(*pairs) != told.prefer(*reversed(pairs))


def test_fresh_judgements_know_the_truth_where_labels_do(world):
    told, train, _ = world("oracle")
    told = replace(told, other_axis=0.0)
    ours, theirs = say(train, REFUSAL), say(train, "Yes.")
    grades = {
        tag: [Gold(told.truth, axis).grade(answers) for answers in (ours, theirs)]
        for tag, axis in (("general", "helpful"), ("red-team", "safe"))
    }
    expected = []
    for place, row in enumerate(train):
        ours_, theirs_ = (side[place] for side in grades[row["tag"]])
        expected.append(0.5 if ours_ == theirs_ else float(ours_ > theirs_))
    assert told.prefer(ours, theirs) == expected
    assert {0.0, 1.0} <= set(expected)
